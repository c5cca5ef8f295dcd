import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CORRECTION_LIMITS,
  factKeyOf,
  faultsOf,
  type FactCorrection,
} from '../../schemas/correction.ts';

const sound: FactCorrection = {
  id: 'c-1',
  lineage: 'default',
  subject: 'Torvik Bridge',
  relation: null,
  prompt: 'Torvik Bridge spans the river',
  target: 'Lune',
  previousAnswer: null,
  paraphrases: ['The river under Torvik Bridge is the'],
  neighbourhood: ['Askham Bridge spans the river'],
  source: '',
  issuedAt: 1_700_000_000_000,
};

const key = (subject: string, relation: string | null, prompt = `${subject} is`): string =>
  factKeyOf({ subject, relation, prompt });

describe("a fact's key", () => {
  it('is subject and relation', () => {
    expect(key('Torvik Bridge', 'river')).toBe('Torvik Bridge|river');
  });

  it('takes the prompt without its subject for a missing relation', () => {
    expect(key('Torvik Bridge', null, 'The river under Torvik Bridge is')).toBe(
      'Torvik Bridge|The river under {} is',
    );
  });

  it('does not depend on white space or on how a letter is composed', () => {
    expect(key('  Zu\u0308rich \n city', ' lies\tin ')).toBe(key('Zürich city', 'lies in'));
  });

  it('never confuses two facts, whatever characters they have', () => {
    const text = fc.string({
      unit: fc.constantFrom('a', '|', '\\', ' ', 'b'),
      minLength: 1,
      maxLength: 6,
    });
    const same = (a: string, b: string): boolean =>
      a.trim().replace(/\s+/g, ' ') === b.trim().replace(/\s+/g, ' ');
    fc.assert(
      fc.property(text, text, text, text, (s1, r1, s2, r2) => {
        expect(key(s1, r1) === key(s2, r2)).toBe(same(s1, s2) && same(r1, r2));
      }),
      { numRuns: 2_000 },
    );
  });

  // Regression: `$&` in a replacement text is the match; a subject may hold it.
  it('is not led astray by a dollar sign in the subject', () => {
    expect(key('$& Co', null, '$& Co sells')).toBe('$& Co|{} sells');
  });
});

describe('the faults of a correction', () => {
  it('are none where it is sound', () => {
    expect(faultsOf(sound)).toEqual([]);
  });

  it.each<[string, Partial<FactCorrection>, RegExp]>([
    ['an empty id', { id: ' ' }, /id is empty/],
    ['an empty target', { target: '' }, /target is empty/],
    [
      'a subject that the prompt does not hold',
      { subject: 'Askham' },
      /does not occur in the prompt/,
    ],
    [
      'a target that is too long',
      { target: 'x'.repeat(CORRECTION_LIMITS.targetCharactersMax + 1) },
      /target has 401 characters/,
    ],
    ['half a character', { target: '\ud800' }, /target is not well-formed/],
    [
      'a lineage that is no name',
      { lineage: 'Not A Name' },
      /lineage "Not A Name" is not of the form/,
    ],
    [
      'too many paraphrases',
      { paraphrases: Array.from({ length: 17 }, () => 'p') },
      /17 paraphrases/,
    ],
    ['an empty neighbour', { neighbourhood: [''] }, /neighbourhood\[0\] is empty/],
    ['a time before 1970', { issuedAt: -1 }, /issuedAt/],
  ])('name %s', (_what, change, fault) => {
    const faults = faultsOf({ ...sound, ...change });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(fault);
  });

  it('are all named together', () => {
    expect(faultsOf({ ...sound, id: '', target: '', prompt: '' })).toHaveLength(4);
  });

  it('are words for any value, never an exception', () => {
    fc.assert(
      fc.property(
        fc.record({
          id: fc.string(),
          lineage: fc.string(),
          subject: fc.string(),
          relation: fc.option(fc.string()),
          prompt: fc.string(),
          target: fc.string(),
          previousAnswer: fc.option(fc.string()),
          paraphrases: fc.array(fc.string()),
          neighbourhood: fc.array(fc.string()),
          source: fc.string(),
          issuedAt: fc.double(),
        }),
        (value) => {
          expect(faultsOf(value).every((fault) => typeof fault === 'string')).toBe(true);
        },
      ),
    );
  });
});
