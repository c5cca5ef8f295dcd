import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { halvesOf, nextStepAfter, partsOf, unstaged } from '../../../pipelines/batch/decisions.ts';
import {
  committedOutcomes,
  measuredScores,
  quarantined,
  unaccounted,
} from '../../../pipelines/batch/outcomes.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import type {
  ProbeReport,
  Refusal,
  Removal,
  StagedUpdate,
  Verdict,
} from '../../../schemas/editing.ts';
import {
  correctionAt,
  factCorrection,
  LINEAGE,
  retractionAt,
  TOPIC,
} from '../../harness/corrections.ts';

const edits = ['a', 'b', 'c'].map((id, i) => correctionAt(i, factCorrection(id)));
const decision = { lineage: LINEAGE, batchId: 'batch', decidedAt: 42 };
const NOTHING_ELSE = { withdrawals: [], removals: [] };
const refusal = (id: string): Refusal => ({
  id,
  code: 'not-effective',
  reason: `${id} does not take`,
  measured: { answer: 'no' },
});
const scores = {
  efficacy: 1,
  efficacyGreedy: null,
  generalisation: 0.5,
  locality: null,
  retention: null,
  canaryRatio: 1.5,
  editNorm: 0.1,
};
const report = (verdict: Partial<Verdict>): ProbeReport => ({
  before: scores,
  after: scores,
  verdict: { pass: false, reasons: ['worse'], failing: [], ...verdict },
  details: { sha256: '', bytes: 0 },
  seconds: 1,
});

describe('after the probes', () => {
  it('a good verdict is committed whatever else it says', () => {
    expect(nextStepAfter(report({ pass: true, failing: [refusal('a')] }), edits, edits)).toEqual({
      kind: 'commit',
    });
  });

  it('corrections that fail on their own are dropped', () => {
    expect(nextStepAfter(report({ failing: [refusal('b')] }), edits, edits)).toEqual({
      kind: 'drop',
      refused: [refusal('b')],
    });
  });

  // Regression: dropping a correction outside the batch would stage the same batch again endlessly.
  it('a failing correction outside the batch does not help: the batch is split', () => {
    expect(nextStepAfter(report({ failing: [refusal('elsewhere')] }), edits, edits)).toEqual({
      kind: 'split',
    });
  });

  it('a single revision is quarantined', () => {
    expect(nextStepAfter(report({}), edits.slice(0, 1), edits.slice(0, 1))).toEqual({
      kind: 'quarantine',
    });
    const gone = retractionAt(9, 'x|y', 1);
    expect(nextStepAfter(report({}), [], [gone])).toEqual({ kind: 'quarantine' });
  });
});

describe('splitting', () => {
  it('gives bounded parts of nearly equal size that add up to the whole', () => {
    fc.assert(
      fc.property(fc.array(fc.nat()), fc.integer({ min: 1, max: 12 }), (items, itemsMax) => {
        const parts = partsOf(items, itemsMax);
        expect(parts.flat()).toEqual(items);
        const sizes = parts.map((part) => part.length);
        expect(sizes.every((size) => size >= 1 && size <= itemsMax)).toBe(true);
        if (sizes.length > 0)
          expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('in halves always makes both smaller, so it ends', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 2 }), (items) => {
        const [first, second] = halvesOf(items);
        expect([...first, ...second]).toEqual(items);
        expect(first.length).toBeLessThan(items.length);
        expect(second.length).toBeLessThan(items.length);
      }),
    );
  });
});

const staged = (rows: string[], refused: Refusal[] = []): StagedUpdate =>
  ({ rows, refused }) as unknown as StagedUpdate;

it('outcomes name the corrections that the update omits, even without a reason', () => {
  expect(
    unstaged(edits, staged(['a'], [refusal('b')])).map(({ id, reason }) => `${id}: ${reason}`),
  ).toEqual(['b: b does not take', 'c: the update was staged without this correction']);
  expect(unstaged(edits, staged(['a', 'b', 'c']))).toEqual([]);
});

it('outcomes of a version cover its corrections, retractions and removals', () => {
  const gone = retractionAt(7, 'x|place', 5);
  const at = (offset: number) => ({ topic: TOPIC, partition: 0, offset: String(offset) });
  const removals: Removal[] = [
    {
      correctionId: 'before-a',
      factKey: edits[0]!.factKey,
      because: 'superseded',
      by: 'a',
      position: at(100),
    },
    {
      correctionId: 'x',
      factKey: 'x|place',
      because: 'retracted',
      by: gone.id,
      position: at(101),
    },
    {
      correctionId: 'before-b',
      factKey: edits[1]!.factKey,
      because: 'superseded',
      by: 'b',
      position: at(102),
    },
  ];
  const outcomes = committedOutcomes([edits[0]!], { withdrawals: [gone], removals }, 3, decision);
  expect(
    outcomes.map(
      ({ revisionId, status, version, position }) =>
        `${revisionId} ${status} ${version} ${position.offset}`,
    ),
  ).toEqual([
    'a COMMITTED 3 0',
    `${gone.id} RETRACTED 3 7`,
    'before-a SUPERSEDED 3 100',
    'x RETRACTED 3 101',
  ]);
  expect(unaccounted([edits[0]!, gone], outcomes)).toEqual([]);
});

it('outcomes of a quarantine have the code, the reason and the measurements', () => {
  expect(quarantined(edits, [refusal('b'), refusal('elsewhere')], decision)).toMatchObject([
    {
      revisionId: 'b',
      status: 'QUARANTINED',
      version: null,
      reason: 'b does not take',
      measured: { answer: 'no', code: 'not-effective' },
      position: edits[1]!.position,
    },
  ]);
});

it('outcomes are reported if missing or repeated for a record', () => {
  const outcomes = quarantined(edits, [refusal('a'), refusal('b')], decision);
  expect(unaccounted(edits, outcomes)).toEqual(['c']);
  const others = committedOutcomes(edits.slice(0, 2), NOTHING_ELSE, 3, decision);
  expect(unaccounted(edits, [...outcomes, ...others])).toEqual(['a', 'b', 'c']);
  // Another record with the same id does not count.
  const elsewhere = outcomes.map((outcome) => ({
    ...outcome,
    status: 'DUPLICATE' as const,
    position: { ...outcome.position, offset: '77' },
  }));
  expect(unaccounted(edits.slice(0, 2), [...outcomes, ...elsewhere])).toEqual([]);
});

// Regression: a committed record that was delivered again and contradicted within its batch failed
// that batch.
it('a committed correction that now leaves gets its removal as its outcome', () => {
  const [before] = committedOutcomes([edits[0]!], NOTHING_ELSE, 3, decision);
  const left: Outcome = { ...before!, status: 'QUARANTINED', version: 5 };
  expect(unaccounted([edits[0]!], [before!, left])).toEqual([]);
  expect(unaccounted([edits[0]!], [left, left])).toEqual([]);
  expect(unaccounted([edits[0]!], [before!, { ...left, version: 2 }])).toEqual(['a']);
});

it('outcomes include the measured scores', () => {
  expect(measuredScores(scores)).toEqual({
    efficacy: 1,
    generalisation: 0.5,
    canaryRatio: 1.5,
    editNorm: 0.1,
  });
});
