/**
 * The edit worker as it is in production, with a real (tiny) model, killed in the middle of a
 * batch: it goes on after a restart, and nothing is lost or applied twice.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { batchWorkflowId } from '../../pipelines/workflows/contract.ts';
import { factCorrection } from '../harness/corrections.ts';
import { TestSystem } from '../harness/test-system.ts';
import { tinyModelSettings } from '../harness/tiny-engine.ts';

const LINEAGE = 'killed';
const COUNT = 18;
/**
 * A search that never finds its loss low enough takes seconds even on a tiny model: there is a
 * middle to be killed in.
 */
const HYPER_PARAMETERS = {
  stepsMax: 150,
  lossTarget: 0,
  contexts: 2,
  contextsPerStep: 2,
  learningRate: 0.1,
};
/** temporal.api.enums.v1.PendingActivityState */
const STARTED = 2;

test('an edit worker that is killed in a batch loses nothing and repeats nothing', async () => {
  const system = await TestSystem.start({
    lineages: [LINEAGE],
    partitions: 2,
    settings: () => ({
      ...tinyModelSettings(HYPER_PARAMETERS),
      ERRATA_BATCH_EDITS_MAX: '6',
      ERRATA_BATCH_WAIT_MS: '300',
    }),
  });
  const worker = system.process('edit-worker');
  const others = [system.process('ingest'), system.process('workflow-worker')];
  await Promise.all([...others, worker].map((one) => one.start()));
  const corrections = Array.from({ length: COUNT }, (_, i) =>
    factCorrection(`k${i}`, {
      lineage: LINEAGE,
      subject: `town ${i}`,
      relation: null,
      prompt: `the old town ${i} is on`,
      target: 'river',
      paraphrases: [`we saw town ${i} is on`],
      neighbourhood: ['the old hill is on'],
      issuedAt: 1_000 + i,
    }),
  );
  const positions = await system.submit(corrections);
  for (const [killed, step] of ['computeTargets', 'computeTargets', 'runProbes'].entries()) {
    await untilRunning(system, step, killed + 1);
    await worker.kill();
    await worker.start();
  }
  await system.outcomes.untilRecords(COUNT);
  for (const position of positions)
    expect(system.outcomes.of(position)).toEqual([expect.stringMatching(/^COMMITTED \d+$/)]);
  const log = system.versions.log(LINEAGE);
  const { active, head } = await log.read();
  const entries = await log.entries(1, head.version);
  const added = entries.flatMap(({ entry }) => entry.added.map(({ correctionId }) => correctionId));
  expect(added).toHaveLength(COUNT);
  expect(new Set(added)).toEqual(new Set(corrections.map(({ id }) => id)));
  expect(active.size).toBe(COUNT);
}, 300_000);

/** Resolves when a batch, the given one or a later one, is in this step, or when all is decided. */
async function untilRunning(
  { temporal, outcomes }: TestSystem,
  step: string,
  fromSequence: number,
): Promise<void> {
  for (;;) {
    const status = await temporal.status(LINEAGE);
    if (status !== null && status.waiting === 0 && outcomes.records >= COUNT) return;
    for (let sequence = fromSequence; sequence < fromSequence + 4; sequence++) {
      const description = await temporal.client.workflow
        .getHandle(batchWorkflowId(LINEAGE, sequence))
        .describe()
        .catch(() => null);
      const pending = description?.raw.pendingActivities ?? [];
      if (pending.some((one) => one.activityType?.name === step && Number(one.state) === STARTED))
        return;
    }
    await delay(20);
  }
}
