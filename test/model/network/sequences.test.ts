import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
import { tinyPath } from '../tiny-model.ts';

let checkpoint: Checkpoint;
beforeAll(async () => {
  checkpoint = await openCheckpoint(tinyPath('llama'));
});
afterAll(() => checkpoint.close());

describe('the tokens of an answer', () => {
  it('are none for an empty one, whatever stands before it', () => {
    for (const prompt of ['', 'tom is', 'tom is '])
      for (const answer of ['', ' ', '\n\t '])
        expect(answerTokens(checkpoint.tokenizer, prompt, answer)).toEqual([]);
  });

  it('begin with a space, unless the prompt ends in one or there is none', () => {
    const { tokenizer } = checkpoint;
    expect(answerTokens(tokenizer, 'tom is', 'greek')).toEqual(tokenizer.encode(' greek'));
    expect(answerTokens(tokenizer, 'tom is', ' greek ')).toEqual(tokenizer.encode(' greek'));
    expect(answerTokens(tokenizer, 'tom is ', 'greek')).toEqual(tokenizer.encode('greek'));
    expect(answerTokens(tokenizer, '', 'greek')).toEqual(tokenizer.encode('greek'));
    expect(tokenizer.encode(' greek')).not.toEqual(tokenizer.encode('greek'));
  });
});

describe('a correction in tokens', () => {
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

  it.each(CASES)(
    'spells its subject, %s in “%s”, by itself, behind a space and as the prompt has it, each once',
    (subject, prompt) => {
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
    },
  );

  it.each(CASES)(
    'names its subject, %s in “%s”, at the token whose key is stored, whatever stands before the prompt',
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

  it('locates a subject from the token that covers its first character to the one that covers its last', () => {
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
});
