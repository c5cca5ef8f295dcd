import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { replacing, type GatedEngine } from '../../../bench/wrapped-engine.ts';
import { KeptPoints } from '../../../bench/kept-points.ts';
import { readStream } from '../../../bench/study/study-records.ts';
import { BATCH_KINDS } from '../../../bench/study/verdict/kinds.ts';
import {
  distributionsOf,
  proposalsOf,
  quantile,
  ratesOf,
} from '../../../bench/study/verdict/rates.ts';
import {
  tryBatches,
  type Trial,
  type TrialsQuestion,
} from '../../../bench/study/verdict/trials.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { testFolder } from '../../harness/clean-up.ts';
import { FakeEngine, MISBEHAVING } from '../../harness/fake-engine.ts';
import { collected, facts, writeFacts } from './facts.ts';

const SETTINGS = DEFAULT_LINEAGE_SETTINGS.verdict;

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

async function question(targetOf?: (i: number) => string): Promise<TrialsQuestion> {
  const file = await writeFacts(path.join(folder, 'facts.json'), facts(12, targetOf));
  const records = await readStream(file, [{ from: 0, to: 12 }]);
  return {
    prepared: records.slice(0, 4),
    records: records.slice(4),
    batchSize: 4,
    settings: SETTINGS,
    circumstances: {},
    preparedIn: {},
  };
}

const keeping = () => ({ points: new KeptPoints(folder), edited: () => {} });
const kinds = (...names: string[]) => BATCH_KINDS.filter(({ name }) => names.includes(name));

test('good batches are accepted, and no trial is committed', async () => {
  const engine = new FakeEngine();
  const trials = await collected(tryBatches(engine, kinds('good'), await question(), keeping()));
  expect(
    trials.map(({ outcome, corrections, after }) => [outcome, corrections, after?.retention]),
  ).toEqual([
    ['accepted', 4, 1],
    ['accepted', 4, 1],
  ]);
  const again = await collected(
    tryBatches(engine, kinds('good', 'one garbled'), await question(), keeping()),
  );
  expect(
    again
      .filter(({ kind }) => kind === 'one garbled')
      .every(({ before }) => before!.retention === 1),
  ).toBe(true);
});

test('a batch with an ineffective correction is refused because of that correction', async () => {
  const trials = await collected(
    tryBatches(
      new FakeEngine(),
      kinds('good'),
      await question((i) => (i === 5 ? MISBEHAVING.ineffective : `answer${i}`)),
      keeping(),
    ),
  );
  expect(trials.map(({ outcome, blamed, reasons }) => [outcome, blamed, reasons.length])).toEqual([
    ['refused', 1, 0],
    ['accepted', 0, 0],
  ]);
});

test('half of a contradicting batch denies the other half in different words', async () => {
  const { records } = await question();
  const contradicting = kinds('contradicting')[0]!;
  const { revisions, bad } = await contradicting.batch(records.slice(0, 4), async () => '');
  expect(revisions.map(({ correction }) => [correction.prompt, correction.target])).toEqual([
    ['The trade of subject4x is', 'answer4'],
    ['By trade subject4x is a', 'old4'],
    ['The trade of subject5x is', 'answer5'],
    ['By trade subject5x is a', 'old5'],
  ]);
  expect(new Set(revisions.map(({ correction }) => correction.id)).size).toBe(4);
  expect(new Set(revisions.map(({ factKey }) => factKey)).size).toBe(4);
  expect(bad).toHaveLength(4);
});

test('changes that are not finite are unfit and are never probed', async () => {
  const trials = await collected(
    tryBatches(new FakeEngine(), kinds('not finite'), await question(), keeping()),
  );
  expect(trials.map(({ outcome, after }) => [outcome, after])).toEqual([
    ['unfit', null],
    ['unfit', null],
  ]);
  expect(trials[0]!.reasons[0]).toMatch(/non-finite/);
});

test("the open gate applies to the batch's hook alone", async () => {
  const held: (string | null)[] = [];
  const fake = new FakeEngine();
  const engine = replacing<GatedEngine>(fake, {
    holdHook: (hookId, pairs, gate) => {
      held.push(`${hookId.split(':')[0]} ${gate?.kind ?? 'own'}`);
      return fake.holdHook(hookId, pairs);
    },
  });
  await collected(tryBatches(engine, kinds('gate always open'), await question(), keeping()));
  expect(new Set(held)).toEqual(new Set(['pairs own', 'always always']));
});

test('finished trials are not repeated', async () => {
  const asked = await question();
  const first = await collected(
    tryBatches(new FakeEngine(), kinds('good', 'scaled'), asked, keeping()),
  );
  const fake = new FakeEngine();
  expect(await collected(tryBatches(fake, kinds('good', 'scaled'), asked, keeping()))).toEqual(
    first,
  );
  expect(fake.calls).toEqual([]);
});

const trial = (
  kind: string,
  good: boolean,
  scores: Partial<Trial['after'] & object>,
  decision: Pick<Trial, 'outcome' | 'reasons'> = { outcome: 'accepted', reasons: [] },
): Trial => ({
  kind,
  good,
  batch: 0,
  ...decision,
  corrections: 10,
  blamed: 0,
  blamedBad: 0,
  before: null,
  after: {
    efficacy: 1,
    efficacyGreedy: 1,
    generalisation: 0.9,
    locality: 1,
    retention: 1,
    canaryRatio: 1,
    editNorm: 0.2,
    ...scores,
  },
});

const refused = (...reasons: string[]) => ({ outcome: 'refused' as const, reasons });

test('wrong decisions are counted on good and on bad batches', () => {
  const rates = ratesOf([
    trial('good', true, {}),
    trial('good', true, {}, refused('x')),
    trial('bad', false, {}),
    trial('bad', false, {}, refused()),
    trial('bad', false, {}, { outcome: 'unfit', reasons: [] }),
    trial('bad', false, {}, refused('x')),
  ]);
  expect(
    rates.map(({ kind, wrong, refusedAsBatch, refusedForMembers, unfit }) => [
      kind,
      wrong,
      refusedAsBatch,
      refusedForMembers,
      unfit,
    ]),
  ).toEqual([
    ['good', 0.5, 1, 0, 0],
    ['bad', 0.25, 1, 1, 1],
  ]);
});

test('proposed thresholds lie between good and bad batches, near the good ones', () => {
  const trials = [
    ...[1.001, 1.002, 1.004].map((canaryRatio, i) =>
      trial('good', true, { canaryRatio, locality: 1 - 0.05 * i }),
    ),
    ...[1.003, 1.2, 40].map((canaryRatio) => trial('bad', false, { canaryRatio, locality: 0.7 })),
  ];
  const by = new Map(proposalsOf(trials, SETTINGS).map((proposal) => [proposal.setting, proposal]));
  const canary = by.get('canaryRatioMax')!;
  expect(canary.proposed).toBeGreaterThan(1.004);
  expect(canary.proposed).toBeLessThan(1.02);
  expect([canary.goodRefused, canary.badCaught]).toEqual([0, 2 / 3]);
  const locality = by.get('localityMin')!;
  expect(locality.proposed).toBeCloseTo(0.8, 10);
  expect([locality.goodRefused, locality.badCaught]).toEqual([0, 1]);
  // All batches are alike, so there is nothing to propose.
  expect(by.get('editNormMax')!.proposed).toBeNull();
});

test('quantiles lie between neighbours', () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2);
  expect(quantile([0, 1], 0.25)).toBe(0.25);
  expect(
    distributionsOf([trial('good', true, {})]).find(({ score }) => score === 'locality')!.quantiles,
  ).toEqual([1, 1, 1, 1, 1, 1, 1]);
});
