/**
 * A lineage workflow that is reset on a real server, as an operator does it: what it took is given
 * to it again, and nothing of it is lost. Each test builds on those before it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { temporal as api } from '@temporalio/proto';
import { beforeAll, expect, test } from 'vitest';
import { createLedgerActivities } from '../../activities/index.ts';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { lineageWorkflowId, type RevisionChunk } from '../../pipelines/workflows/contract.ts';
import { undoSignal } from '../../pipelines/workflows/messages.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { Versions } from '../../versions/versions.ts';
import { afterwards, testFolder } from '../harness/clean-up.ts';
import { correctionAt, factCorrection, LINEAGE, TOPIC } from '../harness/corrections.ts';
import { startTestTemporal } from '../harness/servers/local.ts';
import { until } from '../harness/until.ts';
import { startEditWorker, startWorkflowWorker } from '../harness/worker.ts';
import { MemoryStore } from '../harness/memory-store.ts';

const { ResetReapplyExcludeType, EventType } = api.api.enums.v1;
const BUFFER = 4;
/** More than Temporal has in flight at once. */
const CHUNKS = 12;
const ROUNDS = 3;
/** After this many failed steps Temporal takes no update until one succeeds. */
const STEPS_FAILED = 4;
const POLL_WAIT_MS = 30_000;
const SETTINGS = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: {
    ...DEFAULT_LINEAGE_SETTINGS.batch,
    batchEditsMax: BUFFER,
    batchWaitMs: 50,
    bufferEditsMax: BUFFER,
  },
};

let server: EmbeddedTemporal;
let lineages: TemporalLineages;
const announced: Outcome[] = [];

beforeAll(async () => {
  server = await startTestTemporal(testFolder());
  lineages = connect();
  const versions = new Versions(new MemoryStore());
  const announce = async ({ outcomes }: { outcomes: Outcome[] }): Promise<Outcome[]> => {
    announced.push(...outcomes);
    return outcomes;
  };
  // Without a cache every step is a replay: a history that cannot be replayed is noticed at once.
  const uncached = { maxCachedWorkflows: 0 };
  await startWorkflowWorker(
    server,
    { ...createLedgerActivities({ versions }), announce },
    uncached,
  );
  await startEditWorker(server, LINEAGE, versions);
});

function connect(taskQueue?: string): TemporalLineages {
  const { address, namespace } = server;
  const connected = TemporalLineages.connect({ address }, namespace, undefined, taskQueue);
  afterwards(() => connected.close());
  return connected;
}

function chunkOf(from: number, count: number, run: string | null = null): RevisionChunk {
  const revisions = Array.from({ length: count }, (_, i) =>
    correctionAt(from + i, factCorrection(`c${from + i}`)),
  );
  return {
    topic: TOPIC,
    partition: 0,
    firstOffset: String(from),
    throughOffset: String(from + count - 1),
    endOffset: '1000',
    readFrom: String(from),
    run,
    revisions,
  };
}

/** Hands a chunk over as ingest does: again and again while the buffer is full. */
async function hand(from: number, count: number, run?: string): Promise<string> {
  for (;;) {
    const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf(from, count, run));
    if (answer.kind === 'accepted') return answer.acceptance.run;
    if (answer.kind !== 'refused' || answer.type !== 'BufferFull')
      throw new Error(JSON.stringify(answer));
    await delay(50);
  }
}

async function resetToBeginning(
  exclude: api.api.enums.v1.ResetReapplyExcludeType[] = [],
): Promise<void> {
  const workflowId = lineageWorkflowId(LINEAGE);
  const { client } = lineages;
  const { runId } = await client.workflow.getHandle(workflowId).describe();
  const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory();
  const first = events!.find(
    ({ eventType }) => eventType === EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
  )!;
  await client.workflowService.resetWorkflowExecution({
    namespace: server.namespace,
    workflowExecution: { workflowId, runId },
    reason: 'test',
    requestId: `reset-${runId}`,
    workflowTaskFinishEventId: first.eventId!,
    resetReapplyExcludeTypes: exclude,
  });
}

/** Resolves when nothing waits; every record up to this count must then have an outcome. */
async function expectDecided(count: number): Promise<void> {
  await until(async () => {
    const status = await lineages.status(LINEAGE).catch(() => null);
    if (status === null) return false;
    return status.waiting === 0 && status.running === null && status.batches > 0;
  });
  const decided = new Set(announced.map(({ position }) => position.offset));
  expect(decided).toEqual(new Set(Array.from({ length: count }, (_, i) => String(i))));
}

const CHUNKS_END = CHUNKS * BUFFER;

// Regression: more came back than the buffer holds, some of it was refused, and the history could
// not be replayed any more.
test('a reset lineage takes all it took again, whatever its buffer holds', async () => {
  let run: string | undefined;
  for (let from = 0; from < CHUNKS_END; from += BUFFER) run = await hand(from, BUFFER, run);
  await expectDecided(CHUNKS_END);
  await resetToBeginning();
  await hand(CHUNKS_END, BUFFER, run);
  await expectDecided(CHUNKS_END + BUFFER);
  const { highWater } = (await lineages.status(LINEAGE))!;
  expect(highWater).toEqual({ [`${TOPIC}-0`]: String(CHUNKS_END + BUFFER - 1) });
});

// Regression: later records were not given to it again, Kafka's offset was committed, and the next
// chunk hid that.
test('a lineage that is reset without its updates reports what it lacks', async () => {
  const next = CHUNKS_END + BUFFER;
  await resetToBeginning([ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]);
  const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf(next, 1));
  if (answer.kind !== 'behind') throw new Error(`expected "behind": ${JSON.stringify(answer)}`);
  const from = Number(answer.throughOffset) + 1;
  expect(from).toBeLessThan(next);
  for (let at = from; at <= next; at += BUFFER) await hand(at, Math.min(BUFFER, next + 1 - at));
  await expectDecided(next + 1);
});

// Regression: a refused chunk wakes the workflow and leaves no trace. What it then did by the clock
// could not be replayed.
test('a refused chunk starts no batch by the clock', async () => {
  let next = CHUNKS_END + BUFFER + 1;
  for (let round = 0; round < ROUNDS; round++, next += 1 + BUFFER) {
    const run = await hand(next, 1);
    // As often as possible around the time at which the timer fires.
    const tries = async (): Promise<void> => {
      for (;;) {
        const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf(next + 1, BUFFER, run));
        if (answer.kind === 'accepted') return;
        if (answer.kind === 'unavailable' && answer.message.includes('in failed state'))
          throw new Error(answer.message);
        await delay(5);
      }
    };
    await Promise.all([tries(), tries()]);
  }
  await expectDecided(next);
});

// Regression: Temporal refuses updates at once then, and an operator learned that it does not
// answer.
test('an undo of a lineage whose steps fail waits in Temporal for a worker', async () => {
  const [lineage, taskQueue] = ['stuck', 'of-no-worker'];
  const operator = connect(taskQueue);
  const { client } = operator;
  await operator.configure(lineage, SETTINGS);
  const caller = { namespace: server.namespace, identity: 'test' };
  for (let failed = 0; failed < STEPS_FAILED; failed++) {
    const { taskToken } = await client.withDeadline(Date.now() + POLL_WAIT_MS, () =>
      client.workflowService.pollWorkflowTaskQueue({ ...caller, taskQueue: { name: taskQueue } }),
    );
    await client.workflowService.respondWorkflowTaskFailed({ ...caller, taskToken });
  }
  const request = {
    id: 'unheard',
    target: { kind: 'version' as const, version: 1 },
    reason: '',
    requestedBy: 'test',
    requestedAt: 1,
  };
  const undone = await operator.undo(lineage, SETTINGS, { request, releaseAlias: null });
  expect(undone).toMatchObject({ kind: 'left' });
  const { events } = await client.workflow.getHandle(lineageWorkflowId(lineage)).fetchHistory();
  const signals = events!.map((event) => event.workflowExecutionSignaledEventAttributes);
  expect(signals.some((signal) => signal?.signalName === undoSignal.name)).toBe(true);
});
