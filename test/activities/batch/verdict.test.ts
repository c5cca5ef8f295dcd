import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  verdictOf,
  type Measured,
  type MeasuredCorrection,
  type Tally,
} from '../../../activities/batch/verdict.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';

const SETTINGS = DEFAULT_LINEAGE_SETTINGS.verdict;
const all = (of: number): Tally => ({ good: of, of });
const sound: Measured = {
  efficacy: all(10),
  efficacyGreedy: all(10),
  generalisation: all(20),
  locality: all(20),
  retention: all(8),
  canaryRatio: 1.001,
  editNorm: 0.2,
};
const base: Measured = {
  ...sound,
  efficacy: { good: 0, of: 10 },
  generalisation: { good: 0, of: 20 },
  canaryRatio: 1,
  editNorm: 0,
};
const one = (id: string, more: Partial<MeasuredCorrection> = {}): MeasuredCorrection => ({
  id,
  target: 'Lyon',
  answer: ' Lyon',
  targetIsArgmax: true,
  targetIsGreedy: true,
  targetLogProbability: -0.1,
  harmed: [],
  ...more,
});
const ten = Array.from({ length: 10 }, (_, i) => one(`c${i}`));
const verdict = (after: Partial<Measured>, before: Partial<Measured> = {}, corrections = ten) =>
  verdictOf(corrections, { ...base, ...before }, { ...sound, ...after }, SETTINGS);

it('the verdict passes a sound batch', () => {
  expect(verdict({})).toEqual({ pass: true, reasons: [], failing: [] });
});

it('the verdict names the ineffective corrections with their measurements', () => {
  const judged = verdict({}, {}, [
    one('a'),
    one('b', {
      targetIsArgmax: false,
      targetIsGreedy: false,
      answer: ' Oslo',
      targetLogProbability: -3,
    }),
    one('c', { targetIsGreedy: false }),
  ]);
  expect(judged.pass).toBe(false);
  expect(judged.reasons).toEqual([]);
  expect(judged.failing.map(({ id, code }) => [id, code])).toEqual([
    ['b', 'not-effective'],
    ['c', 'not-effective'],
  ]);
  expect(judged.failing[0]!.measured).toEqual({
    answer: ' Oslo',
    targetLogProbability: -3,
    targetIsArgmax: 0,
    targetIsGreedy: 0,
  });
});

it('the verdict names corrections that harm an earlier one of their subject', () => {
  const harming = [
    one('a'),
    one('b', { harmed: ['earlier'] }),
    one('c', { harmed: ['other'], targetIsGreedy: false }),
  ];
  const { pass, failing } = verdict({}, {}, harming);
  expect(pass).toBe(false);
  expect(failing.map(({ id, code }) => [id, code])).toEqual([
    ['b', 'harms-earlier-corrections'],
    ['c', 'not-effective'],
  ]);
  expect(failing[0]!.reason).toContain('earlier');
  expect(verdictOf(harming, base, sound, { ...SETTINGS, requireEffective: false }).pass).toBe(true);
});

it('the verdict allows ineffective corrections where the settings do', () => {
  expect(
    verdictOf([one('a', { targetIsArgmax: false })], base, sound, {
      ...SETTINGS,
      requireEffective: false,
    }).pass,
  ).toBe(true);
});

const faults: [string, Partial<Measured>, RegExp][] = [
  ['generalisation', { generalisation: { good: 11, of: 20 } }, /^generalisation 0.55: 11 of 20/],
  ['locality', { locality: { good: 15, of: 20 } }, /^locality 0.75: 15 of 20/],
  ['retention', { retention: { good: 6, of: 8 } }, /^retention 0.75: 6 of 8/],
  ['the canary', { canaryRatio: 1.011 }, /perplexity .* 1.011, at most 1.01/],
  ['the edit norm', { editNorm: 0.61 }, /edit norm 0.61, at most 0.6/],
  ['a canary that is no number', { canaryRatio: Number.MAX_VALUE }, /perplexity/],
];
it.each(faults)('the verdict fails the batch, not a correction, for %s', (_, after, reason) => {
  const judged = verdict(after);
  expect(judged.pass).toBe(false);
  expect(judged.failing).toEqual([]);
  expect(judged.reasons).toHaveLength(1);
  expect(judged.reasons[0]).toMatch(reason);
});

it.each([
  ['generalisation', { generalisation: { good: 12, of: 20 } }],
  ['locality', { locality: { good: 16, of: 20 } }],
  ['retention', { retention: { good: 7, of: 8 } }],
  ['the canary', { canaryRatio: 1.01 }],
  ['the edit norm', { editNorm: 0.6 }],
] as [string, Partial<Measured>][])(
  'the verdict passes a value at the threshold: %s',
  (_, after) => {
    expect(verdict(after).pass).toBe(true);
  },
);

it('the verdict forgives one failed probe of several, but not one of one or two of several', () => {
  expect(verdict({ locality: { good: 1, of: 2 } }).pass).toBe(true);
  expect(verdict({ retention: { good: 3, of: 4 } }).pass).toBe(true);
  expect(verdict({ locality: { good: 0, of: 1 } }, { locality: all(1) }).pass).toBe(false);
  expect(verdict({ locality: { good: 0, of: 2 } }, { locality: all(2) }).pass).toBe(false);
});

it('the verdict does not blame a batch for earlier faults', () => {
  expect(verdict({ retention: { good: 2, of: 8 } }, { retention: { good: 2, of: 8 } }).pass).toBe(
    true,
  );
  expect(verdict({ retention: { good: 1, of: 8 } }, { retention: { good: 2, of: 8 } }).pass).toBe(
    false,
  );
  expect(verdict({ canaryRatio: 1.5, editNorm: 1.9 }, { canaryRatio: 1.6, editNorm: 2 }).pass).toBe(
    true,
  );
  expect(verdict({ canaryRatio: 1.61 }, { canaryRatio: 1.6 }).pass).toBe(false);
});

it('the verdict passes a batch that has nothing to measure', () => {
  const nothing = {
    efficacy: all(0),
    efficacyGreedy: all(0),
    generalisation: all(0),
    locality: all(0),
    retention: all(0),
  };
  expect(verdict(nothing, nothing, []).pass).toBe(true);
});

it('the verdict blames the correction in a batch of one', () => {
  const judged = verdict({ locality: { good: 0, of: 2 }, canaryRatio: 2 }, {}, [one('only')]);
  expect(judged.failing).toHaveLength(1);
  expect(judged.failing[0]).toMatchObject({
    id: 'only',
    code: 'harms-neighbours',
    measured: { locality: 0, localityMin: 0.8, canaryRatio: 2, canaryRatioMax: 1.01 },
  });
});

it('the verdict fails exactly when it gives a reason, and never for a better measurement', () => {
  const tallies = fc.nat(30).chain((of) => fc.nat(of).map((good) => ({ good, of })));
  const measured = fc.record({
    efficacy: tallies,
    efficacyGreedy: tallies,
    generalisation: tallies,
    locality: tallies,
    retention: tallies,
    canaryRatio: fc.double({ min: 0.5, max: 3, noNaN: true }),
    editNorm: fc.double({ min: 0, max: 3, noNaN: true }),
  });
  const corrections = fc
    .array(fc.record({ targetIsArgmax: fc.boolean(), targetIsGreedy: fc.boolean() }), {
      maxLength: 4,
    })
    .map((list) => list.map((flags, i) => one(`c${i}`, flags)));
  fc.assert(
    fc.property(
      corrections,
      measured,
      measured,
      fc.constantFrom('generalisation', 'locality', 'retention'),
      (list, before, after, name) => {
        const judged = verdictOf(list, before, after, SETTINGS);
        expect(judged.pass).toBe(judged.reasons.length === 0 && judged.failing.length === 0);
        expect(
          judged.reasons.length === 0 || list.length !== 1 || judged.failing.length === 1,
        ).toBe(true);
        const better = {
          ...after,
          [name]: { ...after[name], good: Math.min(after[name].of, after[name].good + 1) },
          canaryRatio: after.canaryRatio * 0.9,
          editNorm: after.editNorm * 0.9,
        };
        const again = verdictOf(list, before, better, SETTINGS);
        expect(again.reasons.length).toBeLessThanOrEqual(judged.reasons.length);
        if (judged.pass) expect(again.pass).toBe(true);
      },
    ),
    { numRuns: 500 },
  );
});
