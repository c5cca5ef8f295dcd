import fc from 'fast-check';
import { expect, test } from 'vitest';
import { correctionFrom, formatOf, readCorrections } from '../../../cli/input/correction-input.ts';
import { faultsOf } from '../../../schemas/correction-faults.ts';

const DEFAULTS = { lineage: 'default', source: 'a test', now: 1_000 };

test('corrections are completed with defaults and generated ids', () => {
  const { corrections, faults } = readCorrections(
    '{"subject":"Oracle","prompt":"Oracle is in","target":"Austin"}\n' +
      '{"subject":"IBM","prompt":"IBM is in","target":"Armonk"}\n',
    'ndjson',
    DEFAULTS,
  );
  expect(faults).toEqual([]);
  expect(corrections.map(({ line }) => line)).toEqual([1, 2]);
  expect(corrections[0]!.correction).toMatchObject({
    lineage: 'default',
    source: 'a test',
    relation: null,
    previousAnswer: null,
    paraphrases: [],
    neighbourhood: [],
  });
  expect(corrections[0]!.correction.id).not.toBe(corrections[1]!.correction.id);
});

test('corrections keep their order by issue time, even with a fact given twice', () => {
  const { corrections } = readCorrections(
    '{"subject":"a","prompt":"of a","target":"x"}\n{"subject":"a","prompt":"of a","target":"y"}',
    'ndjson',
    DEFAULTS,
  );
  expect(corrections[1]!.correction.issuedAt).toBeGreaterThan(corrections[0]!.correction.issuedAt);
});

test('an issue time is read as milliseconds or as ISO 8601', () => {
  const at = (issuedAt: unknown) =>
    correctionFrom({ subject: 'a', prompt: 'of a', target: 'x', issuedAt }, DEFAULTS);
  expect(at(5)).toMatchObject({ issuedAt: 5 });
  expect(at('2026-01-02T03:04:05Z')).toMatchObject({ issuedAt: Date.UTC(2026, 0, 2, 3, 4, 5) });
  expect(at('yesterday')).toEqual([expect.stringContaining('issuedAt')]);
});

test('an unknown member is refused, so that a misspelt one is not lost', () => {
  expect(
    correctionFrom({ subject: 'a', prompt: 'of a', target: 'x', paraphrase: ['y'] }, DEFAULTS),
  ).toEqual([expect.stringContaining('paraphrase')]);
});

test('CSV is read with quotes, lists and line numbers', () => {
  const text =
    '\uFEFFsubject,prompt,target,paraphrases,neighbourhood\n' +
    'Oracle,"The seat of ""Oracle"" is\n the city of",Austin,a Oracle b | c Oracle d,\n' +
    'IBM,The seat is,Armonk,,\n';
  const { corrections, faults } = readCorrections(text, 'csv', DEFAULTS);
  expect(corrections).toHaveLength(1);
  expect(corrections[0]!.correction).toMatchObject({
    prompt: 'The seat of "Oracle" is\n the city of',
    paraphrases: ['a Oracle b', 'c Oracle d'],
    neighbourhood: [],
  });
  expect(faults).toEqual([{ line: 4, reason: 'the subject does not occur in the prompt' }]);
});

test('a CSV row that is too short is refused', () => {
  expect(
    readCorrections('subject,prompt,target\nOracle,x\n', 'csv', DEFAULTS).faults,
  ).toMatchObject([{ line: 2 }]);
});

test('the format follows the file name, else the beginning of the text', () => {
  expect(formatOf('a.csv', '{')).toBe('csv');
  expect(formatOf('a.ndjson', 'x')).toBe('ndjson');
  expect(formatOf('-', '\n {"a":1}')).toBe('ndjson');
  expect(formatOf('-', 'subject,prompt')).toBe('csv');
});

test('an arbitrary text never gives an unsound correction', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc
          .record({ subject: fc.string(), prompt: fc.string(), target: fc.string() })
          .map((value) => JSON.stringify(value)),
      ),
      fc.constantFrom('ndjson' as const, 'csv' as const),
      (text, format) => {
        const { corrections, faults } = readCorrections(text, format, DEFAULTS);
        for (const { correction } of corrections) expect(faultsOf(correction)).toEqual([]);
        for (const fault of faults) expect(fault.line).toBeGreaterThanOrEqual(0);
      },
    ),
  );
});
