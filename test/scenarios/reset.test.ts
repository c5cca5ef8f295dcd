/**
 * A lineage workflow that is reset on a real server, as an operator does it: what it took is given
 * to it again, and nothing of it is lost.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { temporal as api } from '@temporalio/proto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import {
  editTaskQueue,
  lineageWorkflowId,
  WORKFLOW_TASK_QUEUE,
  type RevisionChunk,
} from '../../pipelines/workflows/contract.ts';
import { undoSignal } from '../../pipelines/workflows/messages.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { Versions } from '../../versions/versions.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { startTestTemporal } from '../harness/servers/local.ts';
import { MemoryStore } from '../versions/stores/memory-store.ts';
import { correctionAt, factCorrection, LINEAGE, TOPIC } from '../harness/corrections.ts';
import { quietRuntime } from '../harness/world.ts';

const { ResetReapplyExcludeType, EventType } = api.api.enums.v1;
const WORKFLOW_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED;
const ROOM = 4;
/** More than Temporal has in flight at once. */
const CHUNKS = 12;
const ROUNDS = 3;
/** After which Temporal takes no update until one succeeds. */
const STEPS_FAILED = 4;
const POLL_WAIT_MS = 30_000;
const SETTINGS = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: {
    ...DEFAULT_LINEAGE_SETTINGS.batch,
    batchEditsMax: ROOM,
    batchWaitMs: 50,
    bufferEditsMax: ROOM,
  },
};

let folder: string;
let server: EmbeddedTemporal;
let lineages: TemporalLineages;
let connection: NativeConnection;
let workers: { worker: Worker; done: Promise<void> }[] = [];
const told: Outcome[] = [];

beforeAll(async () => {
  quietRuntime();
  folder = mkdtempSync(path.join(tmpdir(), 'errata-test-'));
  server = await startTestTemporal(folder);
  lineages = TemporalLineages.connect({ address: server.address }, server.namespace);
  connection = await NativeConnection.connect({ address: server.address });
  const versions = new Versions(new MemoryStore());
  const announce = async ({ outcomes }: { outcomes: Outcome[] }): Promise<Outcome[]> => {
    told.push(...outcomes);
    return outcomes;
  };
  // Without a cache every step is a replay: a history that cannot be replayed is found out at once.
  const options = { connection, namespace: server.namespace, maxCachedWorkflows: 0 };
  workers = await Promise.all([
    Worker.create({
      ...options,
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowBundle: await bundleWorkflows(),
      activities: { ...createLedgerActivities({ versions }), announce },
    }),
    Worker.create({
      ...options,
      taskQueue: editTaskQueue(LINEAGE),
      activities: createEditActivities({ engine: new FakeEngine(), versions }),
    }),
  ]).then((created) => created.map((worker) => ({ worker, done: worker.run() })));
});

afterAll(async () => {
  for (const { worker } of workers) worker.shutdown();
  await Promise.all(workers.map(({ done }) => done));
  await connection?.close();
  await lineages?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

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

/** Hands a chunk over as ingest does: again and again, while there is no room. */
async function hand(from: number, count: number, run?: string): Promise<string> {
  for (;;) {
    const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf(from, count, run));
    if (answer.kind === 'accepted') return answer.acceptance.run!;
    if (answer.kind !== 'refused' || answer.type !== 'BufferFull')
      throw new Error(JSON.stringify(answer));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function resetToItsBeginning(
  exclude: api.api.enums.v1.ResetReapplyExcludeType[] = [],
): Promise<void> {
  const workflowId = lineageWorkflowId(LINEAGE);
  const { runId } = await lineages.client.workflow.getHandle(workflowId).describe();
  const { events } = await lineages.client.workflow.getHandle(workflowId, runId).fetchHistory();
  const first = events!.find(({ eventType }) => eventType === WORKFLOW_TASK_COMPLETED)!;
  await lineages.client.workflowService.resetWorkflowExecution({
    namespace: server.namespace,
    workflowExecution: { workflowId, runId },
    reason: 'test',
    requestId: `reset-${runId}`,
    workflowTaskFinishEventId: first.eventId!,
    resetReapplyExcludeTypes: exclude,
  });
}

async function drained(): Promise<void> {
  for (;;) {
    const status = await lineages.status(LINEAGE).catch(() => null);
    if (status !== null && status.waiting === 0 && status.running === null && status.batches > 0)
      return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const decided = (): Set<string> => new Set(told.map(({ position }) => position.offset));
const offsets = (count: number): Set<string> =>
  new Set(Array.from({ length: count }, (_, i) => String(i)));

describe('a lineage that is reset', () => {
  // Regression: more came back than its buffer holds, some of it was refused, and the history could
  // not be replayed any more.
  it('takes again all that it took, whatever its buffer holds', async () => {
    let run: string | undefined;
    for (let from = 0; from < CHUNKS * ROOM; from += ROOM) run = await hand(from, ROOM, run);
    await drained();
    await resetToItsBeginning();
    await hand(CHUNKS * ROOM, ROOM, run);
    await drained();
    expect((await lineages.status(LINEAGE))!.highWater).toEqual({
      [`${TOPIC}-0`]: String((CHUNKS + 1) * ROOM - 1),
    });
    expect(decided()).toEqual(offsets((CHUNKS + 1) * ROOM));
  });

  // Regression: what came since was not given to it again, Kafka's offset was committed, and the
  // next chunk hid that.
  it('says what it no longer has, where the reset leaves the updates out', async () => {
    await resetToItsBeginning([ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]);
    const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf((CHUNKS + 1) * ROOM, 1));
    expect(answer).toMatchObject({ kind: 'behind' });
    if (answer.kind !== 'behind') return;
    const from = Number(answer.throughOffset) + 1;
    expect(from).toBeLessThan((CHUNKS + 1) * ROOM);
    for (let at = from; at <= (CHUNKS + 1) * ROOM; at += ROOM)
      await hand(at, Math.min(ROOM, (CHUNKS + 1) * ROOM + 1 - at));
    await drained();
    expect(decided()).toEqual(offsets((CHUNKS + 1) * ROOM + 1));
  });

  // Regression: a refused chunk wakes the workflow and leaves no trace. What it then did by the
  // clock could not be replayed.
  it('starts no batch by the clock when a chunk is refused', async () => {
    let next = (CHUNKS + 1) * ROOM + 1;
    for (let round = 0; round < ROUNDS; round++, next += 1 + ROOM) {
      const run = await hand(next, 1);
      // As often as can be about the time at which the timer fires.
      const tries = async (): Promise<void> => {
        for (;;) {
          const answer = await lineages.accept(LINEAGE, SETTINGS, chunkOf(next + 1, ROOM, run));
          if (answer.kind === 'accepted') return;
          if (answer.kind === 'unavailable' && answer.message.includes('in failed state'))
            throw new Error(answer.message);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      await Promise.all([tries(), tries()]);
    }
    await drained();
    expect(decided()).toEqual(offsets(next));
  });
});

describe('a lineage whose steps no worker completes', () => {
  // Regression: Temporal then refuses updates at once, and an operator was told that it does not
  // answer.
  it('is left an undo, which Temporal keeps for the next worker', async () => {
    const [lineage, taskQueue] = ['stuck', 'of-no-worker'];
    const operator = TemporalLineages.connect(
      { address: server.address },
      server.namespace,
      undefined,
      taskQueue,
    );
    try {
      await operator.configure(lineage, SETTINGS);
      const { client } = operator;
      for (let failed = 0; failed < STEPS_FAILED; failed++) {
        const { taskToken } = await client.withDeadline(Date.now() + POLL_WAIT_MS, () =>
          client.workflowService.pollWorkflowTaskQueue({
            namespace: server.namespace,
            taskQueue: { name: taskQueue },
            identity: 'test',
          }),
        );
        await client.workflowService.respondWorkflowTaskFailed({
          namespace: server.namespace,
          taskToken,
          identity: 'test',
        });
      }
      const request = {
        id: 'unheard',
        target: { kind: 'version' as const, version: 1 },
        reason: '',
        requestedBy: 'test',
        requestedAt: 1,
      };
      expect(await operator.undo(lineage, SETTINGS, { request, releaseAlias: null })).toMatchObject(
        { kind: 'left' },
      );
      const { events } = await client.workflow.getHandle(lineageWorkflowId(lineage)).fetchHistory();
      expect(
        events!.some(
          ({ workflowExecutionSignaledEventAttributes: signal }) =>
            signal?.signalName === undoSignal.name,
        ),
      ).toBe(true);
    } finally {
      await operator.close();
    }
  });
});
