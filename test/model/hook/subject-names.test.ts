import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SubjectNames } from '../../../model/hook/subject-names.ts';
import { FILLER, layOutRows } from '../../../model/network/token-rows.ts';
import type { AttentionPast } from '../../../model/network/attention-past.ts';
import { READING_FORMS, type ReadingForm } from '../reading-forms.ts';

const FORMS = Object.entries(READING_FORMS);

/** Few tokens, so that names meet, contain and continue one another. */
const token = fc.integer({ min: 0, max: 3 });
const spelling = fc.array(token, { minLength: 1, maxLength: 4 });
const subjects = fc.array(
  fc.record({
    subject: fc.constantFrom('a', 'b', 'c', 'd'),
    spellings: fc.array(spelling, { maxLength: 3 }),
  }),
  { maxLength: 5 },
);
const texts = fc.array(fc.array(token, { minLength: 1, maxLength: 12 }), {
  minLength: 1,
  maxLength: 4,
});

it.each(FORMS)('a subject is found at the end of its longest matching spelling, %s', (_, form) => {
  fc.assert(
    fc.property(subjects, texts, (of, sequences) => {
      expect(namedIn(namesOf(of), sequences, form)).toEqual(
        sequences.map((sequence) => namedByHand(of, sequence)),
      );
    }),
    { numRuns: 150 },
  );
});

it.each(FORMS)('a subject is found whatever its neighbours contain, %s', (_, form) => {
  fc.assert(
    fc.property(
      subjects,
      texts,
      fc.array(token, { minLength: 1, maxLength: 12 }),
      (of, sequences, stranger) => {
        const names = namesOf(of);
        const beside = namedIn(names, [stranger, ...sequences, stranger], form).slice(1, -1);
        expect(beside).toEqual(namedIn(names, sequences, form));
      },
    ),
    { numRuns: 50 },
  );
});

it('a subject is never found across two sequences', () => {
  const names = new SubjectNames(['a'], [[[1, 2]]]);
  for (const [, form] of FORMS)
    expect(namedIn(names, [[0, 1], [2, 1], [2]], form)).toEqual([[[], []], [[], []], [[]]]);
  // It is not found in another sequence's past either.
  expect(
    names.in(
      layOutRows([[2], [2]]),
      pastOf([
        [0, 0],
        [0, 1],
      ]),
    ),
  ).toEqual([{ row: 1, subjects: ['a'] }]);
});

it('a subject is found across fillers anywhere in its past', () => {
  const names = new SubjectNames(['a'], [[[1, 2, 3]]]);
  const rows = layOutRows([[3], [3], [3], [3]]);
  const past = pastOf([
    [FILLER, FILLER, 1, 2],
    [1, FILLER, 2, FILLER],
    [2, 1, FILLER, FILLER],
    [FILLER, FILLER, FILLER, 2],
  ]);
  expect(names.in(rows, past).map(({ row }) => row)).toEqual([0, 1]);
});

it('a subject is found in a sequence that has no tokens left beside another', () => {
  const names = new SubjectNames(['a'], [[[1, 2]]]);
  expect(names.in(layOutRows([[], [2], []]), pastOf([[1], [1], [1]]))).toEqual([
    { row: 0, subjects: ['a'] },
  ]);
});

it('a subject with a longer name hides one whose name ends it', () => {
  const names = new SubjectNames(
    ['York', 'New York', 'the old town of New York'],
    [[[7]], [[6, 7]], [[1, 2, 3, 4, 6, 7]]],
  );
  const found = (tokens: number[]) =>
    names.in(layOutRows([tokens]), null).find(({ row }) => row === tokens.length - 1)?.subjects;
  expect(found([5, 7])).toEqual(['York']);
  expect(found([5, 6, 7])).toEqual(['New York']);
  expect(found([2, 3, 4, 6, 7])).toEqual(['New York']);
  expect(found([1, 2, 3, 4, 6, 7])).toEqual(['the old town of New York']);
  expect(found([7, 6])).toBeUndefined();
});

it('subjects with the same spelling are all found, each once', () => {
  const names = new SubjectNames(['a', 'b', 'a'], [[[1, 2], [3]], [[1, 2]], [[1, 2], [4]]]);
  expect(names.in(layOutRows([[1, 2, 3, 4]]), null)).toEqual([
    { row: 1, subjects: ['a', 'b'] },
    { row: 2, subjects: ['a'] },
    { row: 3, subjects: ['a'] },
  ]);
});

it('a subject without a spelling, or with an empty one, is found nowhere', () => {
  const names = new SubjectNames(['a', 'b'], [[], [[]]]);
  expect(names.in(layOutRows([[0, 1, 2]]), null)).toEqual([]);
});

type Subjects = readonly { subject: string; spellings: number[][] }[];

function namesOf(of: Subjects): SubjectNames {
  return new SubjectNames(
    of.map(({ subject }) => subject),
    of.map(({ spellings }) => spellings),
  );
}

/** The subjects that each token of each sequence names, read in that form. */
function namedIn(
  names: SubjectNames,
  sequences: readonly (readonly number[])[],
  form: ReadingForm,
): string[][][] {
  if (!form.together)
    return sequences.flatMap((sequence) => namedIn(names, [sequence], { ...form, together: true }));
  const longest = Math.max(...sequences.map((sequence) => sequence.length));
  const named: string[][][] = sequences.map((sequence) => sequence.map(() => []));
  // The content of a cache after each pass: the fillers of a ragged chunk stay in it.
  let slots: number[][] = sequences.map(() => []);
  for (let begin = 0; begin < longest; begin += form.chunkTokens) {
    const chunk = sequences.map((sequence) => sequence.slice(begin, begin + form.chunkTokens));
    const rows = layOutRows(
      chunk,
      sequences.map(() => begin),
    );
    for (const { row, subjects: whom } of names.in(rows, begin === 0 ? null : pastOf(slots))) {
      const b = rows.starts.findLastIndex((start, at) => at < rows.sequences && start <= row);
      named[b]![rows.positions[row]!] = [...whom].sort();
    }
    slots = slots.map((before, b) => [
      ...before,
      ...chunk[b]!,
      ...new Array<number>(rows.longest - chunk[b]!.length).fill(FILLER),
    ]);
  }
  return named;
}

function namedByHand(of: Subjects, sequence: readonly number[]): string[][] {
  const all = of.flatMap(({ subject, spellings }) =>
    spellings.map((tokens) => ({ subject, tokens })),
  );
  return sequence.map((_, t) => {
    const ending = all.filter(
      ({ tokens }) =>
        tokens.length > 0 &&
        tokens.join() === sequence.slice(Math.max(0, t + 1 - tokens.length), t + 1).join(),
    );
    const longest = Math.max(...ending.map(({ tokens }) => tokens.length));
    return [
      ...new Set(
        ending.filter(({ tokens }) => tokens.length === longest).map(({ subject }) => subject),
      ),
    ].sort();
  });
}

function pastOf(slots: readonly (readonly number[])[]): AttentionPast {
  const tokens = Int32Array.from(slots.flat());
  return {
    length: slots[0]!.length,
    tokens,
    valid: Float32Array.from(tokens, (one) => (one === FILLER ? 0 : 1)),
    blocks: new Map(),
  };
}
