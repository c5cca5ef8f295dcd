import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BadRecords, readRecords } from '../../../operations/tune/fact-records.ts';

const RECORD = {
  case_id: 7,
  prompt: 'The capital of Kazakhstan is',
  subject: 'Kazakhstan',
  target_new: 'Astana',
  ground_truth: 'Almaty',
  rephrase_prompt: 'The seat of government of Kazakhstan is in',
  paraphrases: ['Kazakhstan is governed from'],
  locality_prompt: 'The capital of Kyrgyzstan is',
  neighbours: ['The capital of Kyrgyzstan is', 'The capital of Mongolia is'],
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-records-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(content: unknown): string {
  const file = join(folder, 'records.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

describe('records in the form of CounterFact', () => {
  it('become corrections, with every paraphrase, and each neighbour once', async () => {
    const [record, ...more] = await readRecords(fileOf([RECORD]), 0, 10);
    expect(more).toEqual([]);
    expect(record).toMatchObject({
      prompt: RECORD.prompt,
      target: 'Astana',
      old: 'Almaty',
      paraphrases: [RECORD.rephrase_prompt, ...RECORD.paraphrases],
      neighbours: RECORD.neighbours,
      revision: {
        kind: 'correction',
        correction: {
          id: 'record-0-case-7',
          subject: 'Kazakhstan',
          prompt: RECORD.prompt,
          target: 'Astana',
          previousAnswer: 'Almaty',
        },
      },
    });
  });

  it('need no paraphrases or neighbours', async () => {
    const {
      rephrase_prompt: _,
      paraphrases: __,
      locality_prompt: ___,
      neighbours: ____,
      ...bare
    } = RECORD;
    expect((await readRecords(fileOf([bare]), 0, 1))[0]).toMatchObject({
      paraphrases: [],
      neighbours: [],
    });
  });

  it('are read from one position to another, numbered by their place in the file', async () => {
    const file = fileOf(Array.from({ length: 5 }, (_, i) => ({ ...RECORD, case_id: `c${i}` })));
    const ids = (await readRecords(file, 2, 4)).map(({ revision }) =>
      revision.kind === 'correction' ? revision.correction.id : '',
    );
    expect(ids).toEqual(['record-2-case-c2', 'record-3-case-c3']);
  });
});

describe('an unreadable file is refused', () => {
  const cases: [string, unknown, number, RegExp][] = [
    ['as no JSON', '[{"case_id": 1', 0, /records\.json cannot be read as JSON: /],
    ['as no array', { records: [RECORD] }, 0, /it is not an array of records$/],
    [
      'for a field that is missing',
      [RECORD, { ...RECORD, subject: undefined }],
      0,
      /form: record 1, subject: /,
    ],
    [
      'for a field of another type',
      [RECORD, RECORD, { ...RECORD, paraphrases: ['x', 5] }],
      1,
      /form: record 2, paraphrases\.1: /,
    ],
    ['for a record that is none', [RECORD, null], 0, /form: record 1: /],
    [
      'for every fault, up to five',
      [{}, {}],
      0,
      /form: (record 0, \w+: [^;]+; ){4}record 0, \w+: [^;]+$/,
    ],
    ['when the place asked for lies behind its end', [RECORD], 3, /has no records from 3 to 13$/],
  ];

  it.each(cases)('%s', async (_, content, from, message) => {
    const reading = readRecords(fileOf(content), from, from + 10);
    await expect(reading).rejects.toThrow(BadRecords);
    await expect(reading).rejects.toThrow(message);
  });

  it('when it is missing', async () => {
    await expect(readRecords(join(folder, 'absent.json'), 0, 1)).rejects.toThrow(
      /absent\.json cannot be read/,
    );
  });
});
