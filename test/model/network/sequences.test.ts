import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCheckpoint, type Checkpoint } from '../../../model/checkpoint/checkpoint.ts';
import {
  answerTokens,
  isRefusal,
  locate,
  readEdit,
  type EditSequence,
} from '../../../model/network/sequences.ts';
import { SubjectNames } from '../../../model/hook/subject-names.ts';
import { layOutRows } from '../../../model/network/token-rows.ts';
import { tinyPath } from '../../harness/tiny-model.ts';

let checkpoint: Checkpoint;
beforeAll(async () => {
  checkpoint = await openCheckpoint(tinyPath('llama'));
});
afterAll(() => checkpoint.close());

test('an empty answer has no tokens, whatever the prompt', () => {
  for (const prompt of ['', 'tom is', 'tom is '])
    for (const answer of ['', ' ', '\n\t '])
      expect(answerTokens(checkpoint.tokenizer, prompt, answer)).toEqual([]);
});

test('an answer begins with a space, unless the prompt is empty or ends in one', () => {
  const { tokenizer } = checkpoint;
  expect(answerTokens(tokenizer, 'tom is', 'greek')).toEqual(tokenizer.encode(' greek'));
  expect(answerTokens(tokenizer, 'tom is', ' greek ')).toEqual(tokenizer.encode(' greek'));
  expect(answerTokens(tokenizer, 'tom is ', 'greek')).toEqual(tokenizer.encode('greek'));
  expect(answerTokens(tokenizer, '', 'greek')).toEqual(tokenizer.encode('greek'));
  expect(tokenizer.encode(' greek')).not.toEqual(tokenizer.encode('greek'));
});

const LIMITS = { targetTokensMax: 16, promptTokensMax: 64, togetherTokensMax: 64 };
const FRONT = [0, 5, 9];
const read = (subject: string, prompt: string): EditSequence => {
  const edit = readEdit(checkpoint.tokenizer, { id: 'x', subject, prompt, target: 'in' }, LIMITS);
  if (isRefusal(edit)) throw new Error(edit.reason);
  return edit;
};
const CASES: [string, string][] = [
  ['tom', 'tom is'],
  ['tom', 'the mother tongue of tom is'],
  ['the old country', 'the capital of the old country is'],
  [' the company ', 'the headquarters of the company is in'],
  ['mother', 'his grandmother is'],
  ['berlin', 'in berlin'],
  ['pian', 'piano is'],
];

test.each(CASES)('the spellings of the subject %s in “%s” are distinct', (subject, prompt) => {
  const { tokenizer } = checkpoint;
  const { bare, behind, spellings, ...edit } = read(subject, prompt);
  expect(edit.subject).toBe(subject.trim());
  const named = [bare, behind].map(({ tokens, subjectFirst, subjectLast }) =>
    tokens.slice(subjectFirst, subjectLast + 1),
  );
  const wanted = [
    tokenizer.encode(subject.trim()),
    tokenizer.encode(` ${subject.trim()}`),
    ...named,
  ];
  expect(new Set(spellings.map(String))).toEqual(new Set(wanted.map(String)));
  expect(spellings).toHaveLength(new Set(wanted.map(String)).size);
});

test.each(CASES)(
  'the name of the subject %s in “%s” ends at the token with the stored key',
  (subject, prompt) => {
    const edit = read(subject, prompt);
    const names = new SubjectNames([edit.subject], [edit.spellings]);
    for (const { tokens, subjectLast } of [edit.bare, edit.behind]) {
      for (const front of [[], FRONT]) {
        const rows = names.in(layOutRows([[...front, ...tokens]]), null).map(({ row }) => row);
        expect(rows).toContain(front.length + subjectLast);
      }
    }
  },
);

test('a subject is located from its first to its last character', () => {
  const { tokenizer } = checkpoint;
  for (const [subject, prompt] of CASES) {
    const begin = prompt.indexOf(subject.trim());
    const end = begin + subject.trim().length;
    const { tokens, subjectFirst, subjectLast } = locate(tokenizer, prompt, begin, end);
    const { ids, starts, ends } = tokenizer.encodeWithOffsets(prompt);
    expect(tokens).toEqual(ids);
    expect([starts[subjectFirst]! <= begin, ends[subjectFirst]! > begin]).toEqual([true, true]);
    expect([starts[subjectLast]! < end, ends[subjectLast]! >= end]).toEqual([true, true]);
  }
});
