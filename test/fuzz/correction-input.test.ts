/**
 * Corrections written by people and programs give sound records, or faults with line numbers, for
 * any text.
 */
import fc from 'fast-check';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { formatOf, INPUT_LIMITS, readCorrections } from '../../cli/input/correction-input.ts';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { invoke } from '../harness/invocation.ts';
import { testFolder } from '../harness/clean-up.ts';
import { always, damaged, nestedJson, oddJson, oddParts, oddText } from '../harness/odd-inputs.ts';

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
  // In a table a lone carriage return also ends a line.
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

test('any text gives sound corrections or faults with line numbers', async () => {
  const signs = ['\n', '\r\n', '\uFEFF', ',', '"', '{', '\u001b[2J'];
  const part = fc.oneof(oddText, fc.constantFrom(...signs, LINE, CSV_HEAD, CSV_ROW));
  const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
  await always(500, text, fc.constantFrom(...FORMATS), isSoundOrSays);
});

test('a damaged text gives sound corrections or faults with line numbers', async () => {
  const csv = [CSV_HEAD, CSV_ROW, CSV_ROW, ''].join('\r\n');
  const sound = { ndjson: `${LINE}\n${LINE}\n`, csv };
  for (const format of FORMATS) {
    await always(500, damaged(sound[format]), (bytes) =>
      isSoundOrSays(Buffer.from(bytes).toString(), format),
    );
  }
});

test('odd values give sound corrections or faults with line numbers', async () => {
  await always(500, fc.array(fc.oneof(oddParts(FACT), oddJson)), (values) =>
    isSoundOrSays(values.map((value) => JSON.stringify(value) ?? '').join('\n'), 'ndjson'),
  );
});

test('any file name and first text determine a format', async () => {
  await always(200, oddText, oddText, (name, text) => {
    expect(FORMATS).toContain(formatOf(name, text));
  });
});

const faultOf = (text: string, format: 'ndjson' | 'csv' = 'ndjson') =>
  readCorrections(text, format, DEFAULTS).faults;

test('a line may begin with a byte-order mark and end with a carriage return', () => {
  for (const [format, text] of [
    ['ndjson', `\uFEFF${LINE}\r\n${LINE}\r\n`],
    ['csv', `\uFEFF${CSV_HEAD}\r\n${CSV_ROW}\r\n${CSV_ROW}\r\n`],
  ] as const) {
    const decoded = new TextDecoder().decode(Buffer.from(text));
    const { corrections, faults } = readCorrections(decoded, format, DEFAULTS);
    expect(faults).toEqual([]);
    expect(corrections.map(({ line }) => line - (format === 'csv' ? 1 : 0))).toEqual([1, 2]);
  }
});

test('an overlong line is a fault, and the following lines are read', () => {
  const most = INPUT_LIMITS.lineCharactersMax;
  const text = `${LINE}\n${'x'.repeat(most + 1)}\n${LINE}`;
  const { corrections, faults } = readCorrections(text, 'ndjson', DEFAULTS);
  const reason = `it has ${most + 1} characters, at most ${most} are allowed`;
  expect(faults).toEqual([{ line: 2, reason }]);
  expect(corrections.map(({ line }) => line)).toEqual([1, 3]);
});

test('a quoted field that never ends is a fault of its line', () => {
  const [long, ...none] = faultOf(
    `${CSV_HEAD}\n"${'x\n'.repeat(INPUT_LIMITS.lineCharactersMax)}`,
    'csv',
  );
  expect(none).toEqual([]);
  expect(long!.reason).toMatch(/exceed the maximum number of tolerated bytes/);
  const quote = { line: 2, reason: expect.stringMatching(/Quote/) as string };
  expect(faultOf(`${CSV_HEAD}\n"Torvik`, 'csv')).toEqual([quote]);
});

// Each item of a list is a fault of its own; all at once would exceed the arguments of a call.
test('a line with hundreds of thousands of faults names the first ones', () => {
  const withFaults = (count: number) =>
    faultOf(JSON.stringify({ ...FACT, paraphrases: Array(count).fill(1) }));
  expect(withFaults(300_000)).toEqual([{ line: 1, reason: 'it holds more than 1000 values' }]);
  const reasons = withFaults(500).map(({ reason }) => reason);
  expect(reasons).toHaveLength(INPUT_LIMITS.faultsPerCorrectionMax + 1);
  expect(reasons.at(-1)).toBe('and 490 more faults');
});

test('deeply nested JSON is a fault', () => {
  const reason = 'it is nested deeper than 8 levels';
  expect(faultOf(nestedJson(200_000))).toEqual([{ line: 1, reason }]);
});

test("an unknown member's name is cut and cannot control the terminal", () => {
  const { reason } = faultOf(JSON.stringify({ ...FACT, [`\u001b[2J${'k'.repeat(5_000)}`]: 1 }))[0]!;
  expect(reason).toHaveLength(INPUT_LIMITS.reasonCharactersMax + 1);
  expect(reason).not.toContain('\u001b');
});

test.each(FORMATS)('an input with only faults is not read to its end (%s)', (format) => {
  const csv = `${CSV_HEAD}\n${'a,b,c,,,\n'.repeat(100_000)}`;
  const text = format === 'csv' ? csv : 'x\n'.repeat(1_000_000);
  const { corrections, faults } = readCorrections(text, format, DEFAULTS);
  expect(corrections).toEqual([]);
  expect(faults).toHaveLength(INPUT_LIMITS.faultsMax + 1);
  expect(faults.at(-1)).toMatchObject({ reason: 'there are 1000 faults, so reading stopped here' });
});

test.each(FORMATS)('an input of too many corrections is a fault (%s)', (format) => {
  const head = format === 'csv' ? 'subject,prompt,target\n' : '';
  const short = format === 'csv' ? 'a,a,b' : '{"subject":"a","prompt":"a","target":"b"}';
  const text = head + `${short}\n`.repeat(INPUT_LIMITS.correctionsMax + 10);
  const { corrections, faults } = readCorrections(text, format, DEFAULTS);
  expect(corrections).toHaveLength(INPUT_LIMITS.correctionsMax);
  expect(faults.map(({ reason }) => reason)).toEqual([
    'there are more than 100000 corrections, so reading stopped here',
  ]);
});

const folder = testFolder();

/** No broker is running: unsound input is refused before one is contacted. */
const submit = (file: string, input?: Readable) =>
  invoke(folder, ['submit', '--file', file], { ERRATA_KAFKA_BROKERS: '127.0.0.1:1' }, input);

test('submit reads a bounded part of an endless line', async () => {
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

test('submit names the fault of a missing file or of a file that is not text', async () => {
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
