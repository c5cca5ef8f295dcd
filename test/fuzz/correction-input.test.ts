/**
 * Corrections as people and programs write them: sound records, or faults with the number of their
 * line, whatever the text.
 */
import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { formatOf, INPUT_LIMITS, readCorrections } from '../../cli/input/correction-input.ts';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { main } from '../../cli/main.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { damaged, nestedJson, oddJson, oddParts, oddText, runs } from './inputs.ts';

const DEFAULTS = { lineage: 'default', source: 'a test', now: 1_000 };
const FORMATS = ['ndjson', 'csv'] as const;
const FACT = {
  subject: 'Torvik Bridge',
  prompt: 'Torvik Bridge spans the',
  target: 'Lune',
  paraphrases: ['The river under Torvik Bridge is the'],
  previousAnswer: null,
  issuedAt: 5,
};
const LINE = JSON.stringify(FACT);
const CSV_HEAD = 'subject,prompt,target,paraphrases,neighbourhood,issuedAt';
const CSV_ROW =
  'Torvik Bridge,"Torvik Bridge ""spans"" the",Lune,a Torvik Bridge | b,,2026-01-02T03:04:05Z';

function isSoundOrSays(text: string, format: 'ndjson' | 'csv'): void {
  const { corrections, faults } = readCorrections(text, format, DEFAULTS);
  // In a table a lone carriage return ends a line as well.
  const lines = text.split(/[\n\r]/).length;
  for (const { line, correction } of corrections) {
    expect(faultsOf(correction)).toEqual([]);
    expect(line).toBeLessThanOrEqual(lines);
  }
  for (const { line, reason } of faults) {
    expect(line).toBeGreaterThanOrEqual(0);
    expect(line).toBeLessThanOrEqual(lines);
    expect(reason.length).toBeLessThanOrEqual(INPUT_LIMITS.reasonCharactersMax + 1);
    expect(reason).not.toMatch(/\p{Cc}/u);
  }
}

test('any text gives sound corrections or faults of its lines', () => {
  const text = fc
    .array(
      fc.oneof(
        oddText,
        fc.constantFrom(
          '\n',
          '\r\n',
          '\uFEFF',
          ',',
          '"',
          LINE,
          CSV_HEAD,
          CSV_ROW,
          '{',
          '\u001b[2J',
        ),
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.join(''));
  fc.assert(fc.property(text, fc.constantFrom(...FORMATS), isSoundOrSays), runs(500));
});

test('a damaged text gives sound corrections or faults of its lines', () => {
  const sound = {
    ndjson: [LINE, LINE, ''].join('\n'),
    csv: [CSV_HEAD, CSV_ROW, CSV_ROW, ''].join('\r\n'),
  };
  for (const format of FORMATS) {
    fc.assert(
      fc.property(damaged(fc.constant(new Uint8Array(Buffer.from(sound[format])))), (bytes) =>
        isSoundOrSays(Buffer.from(bytes).toString(), format),
      ),
      runs(500),
    );
  }
});

test('odd values give sound corrections or faults of their lines', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(oddParts(fc.constant(FACT)), oddJson)), (values) =>
      isSoundOrSays(values.map((value) => JSON.stringify(value) ?? '').join('\n'), 'ndjson'),
    ),
    runs(500),
  );
});

test('any name and beginning determine the format of a file', () => {
  fc.assert(
    fc.property(oddText, oddText, (name, text) => {
      expect(FORMATS).toContain(formatOf(name, text));
    }),
    runs(200),
  );
});

const faultOf = (text: string, format: 'ndjson' | 'csv' = 'ndjson') =>
  readCorrections(text, format, DEFAULTS).faults;

test('a line may begin with a byte-order mark and end with a carriage return', () => {
  for (const [format, text] of [
    ['ndjson', `\uFEFF${LINE}\r\n${LINE}\r\n`],
    ['csv', `\uFEFF${CSV_HEAD}\r\n${CSV_ROW}\r\n${CSV_ROW}\r\n`],
  ] as const) {
    const { corrections, faults } = readCorrections(
      new TextDecoder().decode(Buffer.from(text)),
      format,
      DEFAULTS,
    );
    expect(faults).toEqual([]);
    expect(corrections.map(({ line }) => line - (format === 'csv' ? 1 : 0))).toEqual([1, 2]);
  }
});

test('too long a line is a fault, and the lines after it are read', () => {
  const { corrections, faults } = readCorrections(
    `${LINE}\n${'x'.repeat(INPUT_LIMITS.lineCharactersMax + 1)}\n${LINE}`,
    'ndjson',
    DEFAULTS,
  );
  expect(faults).toEqual([
    {
      line: 2,
      reason:
        `it has ${INPUT_LIMITS.lineCharactersMax + 1} characters, ` +
        `at most ${INPUT_LIMITS.lineCharactersMax} are allowed`,
    },
  ]);
  expect(corrections.map(({ line }) => line)).toEqual([1, 3]);
});

test('a quoted field that never ends is a fault of its line', () => {
  expect(faultOf(`${CSV_HEAD}\n"${'x\n'.repeat(INPUT_LIMITS.lineCharactersMax)}`, 'csv')).toEqual([
    {
      line: expect.any(Number) as number,
      reason: expect.stringMatching(/exceed the maximum number of tolerated bytes/) as string,
    },
  ]);
  expect(faultOf(`${CSV_HEAD}\n"Torvik`, 'csv')).toEqual([
    { line: 2, reason: expect.stringMatching(/Quote/) as string },
  ]);
});

// Each item of a list is a fault of its own; all of them at once were more arguments than a call
// takes.
test('a line with hundreds of thousands of faults names the first ones', () => {
  expect(faultOf(JSON.stringify({ ...FACT, paraphrases: Array(300_000).fill(1) }))).toEqual([
    { line: 1, reason: 'it holds more than 1000 values' },
  ]);
  const reasons = faultOf(JSON.stringify({ ...FACT, paraphrases: Array(500).fill(1) })).map(
    ({ reason }) => reason,
  );
  expect(reasons).toHaveLength(INPUT_LIMITS.faultsPerCorrectionMax + 1);
  expect(reasons.at(-1)).toBe('and 490 more faults');
});

test('deeply nested JSON is a fault', () => {
  expect(faultOf(nestedJson(200_000))).toEqual([
    { line: 1, reason: 'it is nested deeper than 8 levels' },
  ]);
});

test("an unknown member's name is cut and cannot control the terminal", () => {
  const { reason } = faultOf(JSON.stringify({ ...FACT, [`\u001b[2J${'k'.repeat(5_000)}`]: 1 }))[0]!;
  expect(reason).toHaveLength(INPUT_LIMITS.reasonCharactersMax + 1);
  expect(reason).not.toContain('\u001b');
});

test.each(FORMATS)('an input of nothing but faults is not read to its end (%s)', (format) => {
  const { corrections, faults } = readCorrections(
    format === 'csv' ? `${CSV_HEAD}\n${'a,b,c,,,\n'.repeat(100_000)}` : 'x\n'.repeat(1_000_000),
    format,
    DEFAULTS,
  );
  expect(corrections).toEqual([]);
  expect(faults).toHaveLength(INPUT_LIMITS.faultsMax + 1);
  expect(faults.at(-1)).toMatchObject({
    reason: 'there are 1000 faults, so reading stopped here',
  });
});

test.each(FORMATS)('an input of too many corrections is a fault (%s)', (format) => {
  const head = format === 'csv' ? 'subject,prompt,target\n' : '';
  const short = format === 'csv' ? 'a,a,b' : '{"subject":"a","prompt":"a","target":"b"}';
  const { corrections, faults } = readCorrections(
    head + `${short}\n`.repeat(INPUT_LIMITS.correctionsMax + 10),
    format,
    DEFAULTS,
  );
  expect(corrections).toHaveLength(INPUT_LIMITS.correctionsMax);
  expect(faults).toEqual([
    {
      line: expect.any(Number) as number,
      reason: 'there are more than 100000 corrections, so reading stopped here',
    },
  ]);
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-fuzz-submit-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function submit(
  file: string,
  input: Readable = Readable.from([]),
): Promise<{ code: number; err: string }> {
  const err = new PassThrough();
  // No broker is there: what is unsound is refused before one is looked for.
  const environment = { ERRATA_HOME: folder, ERRATA_KAFKA_BROKERS: '127.0.0.1:1' };
  const code = await main(['submit', '--file', file], {
    in: input,
    out: new PassThrough(),
    err,
    environment,
    workingDirectory: folder,
  });
  return { code, err: String(err.read() ?? '') };
}

test('submit reads no more than is allowed of an endless line', async () => {
  let given = 0;
  const part = Buffer.alloc(2 ** 20, 0x78);
  async function* endless() {
    for (;;) yield ((given += part.length), part);
  }
  for (const [file, input] of [
    ['-', Readable.from(endless())],
    ['/dev/zero', Readable.from([])],
  ] as const) {
    const { code, err } = await submit(file, input);
    expect(code).toBe(EXIT.usage);
    expect(err).toContain(`${file} has more than ${INPUT_LIMITS.bytesMax} bytes`);
  }
  expect(given).toBeLessThan(1.2 * INPUT_LIMITS.bytesMax);
});

test('submit names the fault of a file that is missing or not text', async () => {
  writeFileSync(join(folder, 'binary.ndjson'), Uint8Array.of(0x7b, 0xff, 0xfe));
  for (const [file, why] of [
    ['binary.ndjson', /is not UTF-8/],
    ['absent.csv', /ENOENT/],
    ['.', /EISDIR/],
  ] as const) {
    const { code, err } = await submit(file);
    expect(code).not.toBe(EXIT.ok);
    expect(err).toMatch(why);
    expect(err).not.toMatch(/\n\s+at /);
  }
});
