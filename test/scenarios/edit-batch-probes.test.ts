/** The verdict on a batch, and the probes that were asked for it. */
import { expect, test } from 'vitest';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { correction, retraction } from '../harness/corrections.ts';
import { MISBEHAVING } from '../harness/fake-engine.ts';
import { runBatch, testLineage } from '../harness/test-lineage.ts';

test('probes find the correction that has no effect', async () => {
  const { activities } = testLineage();
  const { probes, commit } = await runBatch(activities, '1', [
    correction('a'),
    correction('b', { target: MISBEHAVING.ineffective }),
    correction('c'),
    correction('d'),
  ]);
  const failing = [{ id: 'b', code: 'not-effective' }];
  expect(probes.verdict).toMatchObject({ pass: false, reasons: [], failing });
  expect(probes.after.efficacy).toBe(0.75);
  await expect(commit()).rejects.toThrow(/its probes failed/);
});

test.each([
  [MISBEHAVING.spreading, /locality 0: 0 of 4/],
  [MISBEHAVING.erasing, /retention 0: 0 of 4/],
  [MISBEHAVING.gibberish, /perplexity/],
])('probes find a batch that harms: %s', async (target, reason) => {
  const { activities, commitBatch } = testLineage();
  await commitBatch(
    '1',
    ['p', 'q', 'r', 's'].map((id) => correction(id)),
  );
  const poison = correction('poison', { target });
  const { probes } = await runBatch(activities, '2', [poison, correction('a')]);
  expect(probes.verdict.failing).toEqual([]);
  expect(probes.verdict.reasons).toEqual([expect.stringMatching(reason)]);
  const alone = await runBatch(activities, '3', [poison]);
  expect(alone.probes.verdict.failing).toMatchObject([{ id: 'poison' }]);
});

test('probes find paraphrases that keep the old answer', async () => {
  const { activities } = testLineage();
  const narrow = correction('a', { target: MISBEHAVING.narrow });
  const { probes } = await runBatch(activities, '1', [narrow]);
  expect(probes.after.generalisation).toBe(0);
  expect(probes.verdict.failing).toMatchObject([{ id: 'a', code: 'does-not-generalise' }]);
});

test('probes ask nothing twice, and the base model only if a gate opened', async () => {
  const { activities, engine, commitBatch } = testLineage();
  await commitBatch('1', [correction('a', { previousAnswer: 'Rome' })]);
  const revisions = [correction('b', { previousAnswer: 'Rome' }), correction('c')];
  engine.asked.length = 0;
  const { staged } = await runBatch(activities, '2', revisions);
  const asked = engine.asked.map((one) => JSON.stringify(one));
  expect(new Set(asked).size).toBe(asked.length);
  const ofBase = engine.asked
    .filter(({ hookId }) => hookId === null)
    .map(({ probe }) => probe.prompt);
  expect(ofBase).toEqual(['Subject c is in']);
  engine.asked.length = 0;
  await runBatch(activities, '2', revisions);
  expect(staged.rows).toEqual(['b', 'c']);
  expect(engine.asked).toEqual([]);
});

test('probes sample as many earlier corrections as are set, and none that leaves', async () => {
  const { activities, engine, commitBatch } = testLineage();
  const earlier = Array.from({ length: 6 }, (_, i) => correction(`e${i}`));
  await commitBatch('1', earlier);
  engine.asked.length = 0;
  const few = { ...DEFAULT_LINEAGE_SETTINGS.verdict, retentionSample: 3 };
  const retractions = earlier.slice(0, 4).map((one) => retraction(one));
  const { probes } = await runBatch(activities, '2', retractions, few);
  const { efficacy, generalisation, locality, retention } = probes.after;
  expect([efficacy, generalisation, locality, retention]).toEqual([null, null, null, 1]);
  expect(new Set(engine.asked.map(({ probe }) => probe.prompt))).toEqual(
    new Set(['Subject e4 is in', 'Subject e5 is in']),
  );
});
