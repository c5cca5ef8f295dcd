import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CORRECTION_LIMITS, factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { always } from '../harness/odd-inputs.ts';

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

test("a fact's key is subject and relation", () => {
  expect(key('Torvik Bridge', 'river')).toBe('Torvik Bridge|river');
});

test("a fact's key has the prompt without its subject for a missing relation", () => {
  expect(key('Torvik Bridge', null, 'The river under Torvik Bridge is')).toBe(
    'Torvik Bridge|The river under {} is',
  );
});

test("a fact's key does not depend on white space or Unicode composition", () => {
  expect(key('  Zu\u0308rich \n city', ' lies\tin ')).toBe(key('Zürich city', 'lies in'));
});

test('different facts have different keys, whatever their characters', async () => {
  const unit = fc.constantFrom('a', '|', '\\', ' ', 'b');
  const text = fc.string({ unit, minLength: 1, maxLength: 6 });
  const plain = (a: string): string => a.trim().replace(/\s+/g, ' ');
  const same = (a: string, b: string): boolean => plain(a) === plain(b);
  await always(2_000, text, text, text, text, (s1, r1, s2, r2) => {
    expect(key(s1, r1) === key(s2, r2)).toBe(same(s1, s2) && same(r1, r2));
  });
});

// Regression: `$&` in a replacement text is the match.
test('a dollar sign in the subject stays in the key', () => {
  expect(key('$& Co', null, '$& Co sells')).toBe('$& Co|{} sells');
});

test('a sound correction has no faults', () => {
  expect(faultsOf(sound)).toEqual([]);
});

test.each<[string, Partial<FactCorrection>, RegExp]>([
  ['an empty id', { id: ' ' }, /id is empty/],
  ['an empty target', { target: '' }, /target is empty/],
  ['a subject that is not in the prompt', { subject: 'Askham' }, /does not occur in the prompt/],
  ['too long a target', { target: 'x'.repeat(401) }, /target has 401 characters/],
  ['half a character', { target: '\ud800' }, /target is not well-formed/],
  ['an invalid lineage name', { lineage: 'Not A Name' }, /lineage "Not A Name" is not of the form/],
  ['too many paraphrases', { paraphrases: Array<string>(17).fill('p') }, /17 paraphrases/],
  ['an empty neighbour', { neighbourhood: [''] }, /neighbourhood\[0\] is empty/],
  ['a time before 1970', { issuedAt: -1 }, /issuedAt/],
])('the faults name %s', (_what, change, fault) => {
  const faults = faultsOf({ ...sound, ...change });
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(fault);
});

test('all faults are named together', () => {
  expect(faultsOf({ ...sound, id: '', target: '', prompt: '' })).toHaveLength(4);
});

const TEXTS = ['id', 'subject', 'relation', 'prompt', 'target', 'replayOf'] as const;
const BAD_TEXTS = [' ', '\ud800', 'x'.repeat(CORRECTION_LIMITS.promptCharactersMax + 1)];

test('every bad text is named, in whatever members', () => {
  const members = fc.uniqueArray(fc.constantFrom(...TEXTS), { minLength: 1 });
  fc.assert(
    fc.property(members, fc.constantFrom(...BAD_TEXTS), (names, text) => {
      const bad = Object.fromEntries(names.map((name) => [name, text]));
      const faults = faultsOf({ ...sound, ...bad });
      for (const name of TEXTS)
        expect(faults.some((fault) => fault.startsWith(`${name} `))).toBe(names.includes(name));
    }),
  );
});

test('a correction of random texts has a fault or a record within its bound', () => {
  const codec = recordCodec('fact-correction');
  const random = fc.record({
    id: fc.string(),
    lineage: fc.constantFrom('default', 'Not A Name'),
    subject: fc.string(),
    relation: fc.option(fc.string()),
    target: fc.string(),
    previousAnswer: fc.option(fc.string()),
    paraphrases: fc.array(fc.string()),
    neighbourhood: fc.array(fc.string()),
    source: fc.string(),
    issuedAt: fc.oneof(fc.nat(), fc.double()),
  });
  fc.assert(
    fc.property(random, fc.string(), (fields, rest) => {
      const value = { ...fields, prompt: `${fields.subject}${rest}` };
      if (faultsOf(value).length === 0)
        expect(codec.encode(value).length).toBeLessThanOrEqual(CORRECTION_LIMITS.recordBytesMax);
    }),
  );
});
