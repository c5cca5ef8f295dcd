/** The commit of a batch when steps are repeated, race or are cancelled. */
import { once } from 'node:events';
import { MockActivityEnvironment } from '@temporalio/testing';
import { expect, test } from 'vitest';
import { StagingGone } from '../../versions/log/failures.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { MISBEHAVING } from '../harness/fake-engine.ts';
import { runBatch, testLineage } from '../harness/test-lineage.ts';
import { MemoryStore } from '../harness/memory-store.ts';

test('a repeated commit finds its own version', async () => {
  const { activities, log } = testLineage();
  const { commit } = await runBatch(activities, '1', [correction('a')]);
  const [first, again] = [await commit(), await commit()];
  expect(again).toEqual({ ...first, already: true });
  expect((await log.read()).head.version).toBe(1);
});

test('a commit on a HEAD that moved writes nothing', async () => {
  const { activities, log, commitBatch } = testLineage();
  const slow = await runBatch(activities, 'slow', [correction('a')]);
  await commitBatch('quick', [correction('b')]);
  const head = (await log.read()).head;
  expect(await slow.commit()).toEqual({ kind: 'head-moved', head });
  expect((await log.read()).head).toEqual(head);
});

test('one of two batches that are committed at once wins', async () => {
  const store = new MemoryStore();
  const [one, two] = [testLineage({ store }), testLineage({ store })];
  const a = await runBatch(one.activities, 'a', [correction('a')]);
  const b = await runBatch(two.activities, 'b', [correction('b')]);
  const results = await Promise.all([a.commit(), b.commit()]);
  expect(results.map(({ kind }) => kind).sort()).toEqual(['committed', 'head-moved']);
});

test('one batch that two workers commit at once makes one version', async () => {
  const store = new MemoryStore();
  const [one, two] = [testLineage({ store }), testLineage({ store })];
  const revisions = [correction('a')];
  const runs = [
    await runBatch(one.activities, 'a', revisions),
    await runBatch(two.activities, 'a', revisions),
  ];
  const results = await Promise.all(runs.map((run) => run.commit()));
  expect(results).toMatchObject(Array(2).fill({ kind: 'committed', version: 1 }));
  expect((await one.log.read()).head.version).toBe(1);
});

test('a commit is refused when staged objects are gone', async () => {
  const { activities, log } = testLineage();
  const { commit } = await runBatch(activities, '1', [correction('a')]);
  await activities.discard({ lineage: LINEAGE, batchId: '1' });
  await expect(commit()).rejects.toThrow(StagingGone);
  expect((await log.read()).head.version).toBe(0);
});

test('discard deletes all that a batch and its parts staged, and nothing committed', async () => {
  const { activities, log, store } = testLineage();
  const staging = () => [...store.objects.keys()].filter((name) => name.includes('/staging/'));
  const kept = await runBatch(activities, '1', [correction('a')]);
  await kept.commit();
  const { entry } = await log.entry(1);
  const ineffective = correction('b', { target: MISBEHAVING.ineffective });
  const refused = await runBatch(activities, '1.b', [ineffective]);
  const other = await runBatch(activities, '2', [correction('c')]);
  expect(staging().length).toBeGreaterThan(5);
  for (let i = 0; i < 2; i += 1) await activities.discard({ lineage: LINEAGE, batchId: '1' });
  for (const blob of [entry.pairs!, entry.probes.details]) await log.blobs.get(blob);
  await expect(log.blobs.get(refused.staged.pairs!)).rejects.toThrow(StagingGone);
  expect((await other.commit()).kind).toBe('committed');
  await activities.discard({ lineage: LINEAGE, batchId: '2' });
  expect(staging()).toEqual([]);
});

test('the plan of a committed batch has nothing to do, and its outcomes', async () => {
  const { activities, commitBatch } = testLineage();
  await commitBatch('1', [correction('old')]);
  const refused = correction('refused', { target: MISBEHAVING.refusedTarget });
  const gone = retraction(correction('old'));
  const revisions = [correction('fresh'), refused, correction('old'), gone];
  const run = await runBatch(activities, '2', revisions);
  const committed = await run.commit();
  await commitBatch('3', [correction('later')]);
  const plan = await activities.planBatch({ lineage: LINEAGE, batchId: '2', revisions });
  const { edits, removals, withdrawals } = plan;
  expect([edits, removals, withdrawals]).toEqual([[], [], []]);
  const hash = committed.kind === 'committed' && committed.hash;
  expect(plan.committed).toMatchObject({ version: 2, hash });
  const settled = plan.settled.map(
    ({ revisionId, status, version }) => `${revisionId} ${status} ${version}`,
  );
  const old = ['old DUPLICATE 1', `${gone.id} RETRACTED 2`];
  expect(settled.sort()).toEqual(['fresh COMMITTED 2', 'refused QUARANTINED null', ...old].sort());
});

const firstStepOf = (lineage: string) => ({
  lineage,
  batchId: '1',
  head: { version: 0, hash: null },
  edits: [correction('a')],
  removals: [],
});

test("a step heartbeats the engine's progress and ends when it is cancelled", async () => {
  const { activities, engine } = testLineage();
  const environment = new MockActivityEnvironment();
  const beats: unknown[] = [];
  environment.on('heartbeat', (details: unknown) => beats.push(details));
  const step = firstStepOf(LINEAGE);
  await environment.run(activities.computeTargets, step);
  expect(beats).toContainEqual({ stage: 'targets', step: 1, stepsMax: 4, unfinished: 1 });
  // A worker that stops in the middle of a step gives it back at once.
  engine.computeTargets = () => new Promise(() => {});
  const begun = once(environment, 'heartbeat');
  const running = environment.run(activities.computeTargets, step);
  await begun;
  environment.cancel();
  await expect(running).rejects.toThrow(/cancelled/i);
});

test('steps of several lineages take turns, also after one that waits is cancelled', async () => {
  const { activities, engine } = testLineage();
  let running = 0;
  let most = 0;
  const derive = engine.computeTargets.bind(engine);
  const waiting: (() => void)[] = [];
  engine.computeTargets = async (...parameters) => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>((resolve) => waiting.push(resolve));
    running -= 1;
    return derive(...parameters);
  };
  const letGo = async () => {
    while (waiting.length === 0) await new Promise((resolve) => setImmediate(resolve));
    waiting.shift()!();
  };
  const first = activities.computeTargets(firstStepOf('l'));
  const cancelled = new MockActivityEnvironment();
  const waits = once(cancelled, 'heartbeat');
  const cancelling = cancelled.run(activities.computeTargets, firstStepOf('m'));
  const second = expect(cancelling).rejects.toThrow(/cancelled/i);
  expect(await waits).toEqual([{ stage: 'waiting' }]);
  const third = activities.computeTargets(firstStepOf('n'));
  cancelled.cancel();
  await letGo();
  await first;
  await second;
  await letGo();
  await third;
  expect(most).toBe(1);
});
