/**
 * A backlog far larger than a lineage's buffer, on a real broker and a real Temporal server: it
 * waits in Kafka, costs nothing while it waits, holds up no other lineage, and is edited to the
 * last record once there is an edit worker.
 */
import { createHash } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { startIngest, type AcceptAnswer, type Ingest } from '../../pipelines/ingest/ingest.ts';
import type { RecordPosition } from '../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { BUFFER_FULL, lineageWorkflowId } from '../../pipelines/workflows/contract.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { afterwards } from '../harness/clean-up.ts';
import { factCorrection } from '../harness/corrections.ts';
import { SILENT } from '../harness/silent-logger.ts';
import { TestSystem } from '../harness/test-system.ts';

const FULL = 'full';
const FREE = 'free';
const PARTITIONS = 3;
const BACKLOG = 3_000;
const SETTINGS: LineageSettings = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: {
    batchEditsMax: 100,
    batchWaitMs: 100,
    bufferEditsMax: 200,
    bufferBytesMax: 1_000_000,
    shardEditsMax: 100,
  },
  // The engine without a model lets the norm grow with every correction.
  verdict: { ...DEFAULT_LINEAGE_SETTINGS.verdict, editNormMax: 1e9 },
};
const TIMEOUT = { timeout: 600_000 };

let system: TestSystem;
let ingest: Ingest;
let backlog: RecordPosition[];
let waiting: Awaited<ReturnType<typeof whereRecordsAre>>;
/** What ingest saw of the full lineage. */
const seen = { refusals: 0, recordsInHandMax: 0, onAnswer: () => {} };

beforeAll(async () => {
  system = await TestSystem.start({ lineages: [FULL, FREE], partitions: PARTITIONS });
  await system.process('workflow-worker').start();
  backlog = await submit(FULL, BACKLOG);
  for (const lineage of [FULL, FREE]) await system.temporal.configure(lineage, SETTINGS);
  ingest = await startedIngest();
  afterwards(() => ingest.stop());
});

test('refusals by a full buffer leave no trace in the workflow', TIMEOUT, async () => {
  // Every partition has run into the full buffer, several times over.
  await moreRefusals(3 * PARTITIONS);
  waiting = await whereRecordsAre();
  await moreRefusals(3 * PARTITIONS);
  expect(await whereRecordsAre()).toEqual(waiting);
  expect(waiting.inBuffer).toBeLessThanOrEqual(SETTINGS.batch.bufferEditsMax);
  expect(waiting.inBuffer).toBeGreaterThan(0);
  expect(waiting.inBatch).toBe(SETTINGS.batch.batchEditsMax);
  expect(waiting.inKafka + waiting.inBuffer + waiting.inBatch).toBe(BACKLOG);
  // A partition holds a thousand records; a reader that cannot hand them on must not hold them all.
  expect(seen.recordsInHandMax).toBeLessThan(BACKLOG / PARTITIONS / 2);
});

test('an ingest that has just started does not overfill the buffer', TIMEOUT, async () => {
  await ingest.stop();
  ingest = await startedIngest();
  await moreRefusals(3 * PARTITIONS);
  expect(await whereRecordsAre()).toEqual(waiting);
});

test('a lineage that waits holds up no other', TIMEOUT, async () => {
  await system.startEditWorker({}, FREE);
  await expectCommitted(await submit(FREE, 5), 5);
  expect(await whereRecordsAre()).toEqual(waiting);
});

test('an edit worker that comes edits the backlog to the last record', TIMEOUT, async () => {
  await system.startEditWorker({}, FULL);
  await expectCommitted(backlog, 5 + BACKLOG);
  expect(await system.lag(FULL)).toBe(0);
  const log = system.versions.log(FULL);
  const entries = await log.entries(1, (await log.read()).head.version);
  const added = entries.flatMap(({ entry }) => entry.added.map(({ correctionId }) => correctionId));
  expect(added).toHaveLength(BACKLOG);
  expect(new Set(added).size).toBe(BACKLOG);
});

async function startedIngest(): Promise<Ingest> {
  const { kafka, sender, temporal } = system;
  return await startIngest([FULL, FREE], {
    progress: async () => [],
    beginning: async () => '0',
    read: (topics, onBatch) =>
      kafka.read(INGEST_GROUP, topics, (batch) => {
        if (batch.topic === topicsOf(FULL).corrections)
          seen.recordsInHandMax = Math.max(seen.recordsInHandMax, batch.records.length);
        return onBatch(batch);
      }),
    deadLetters: sender,
    accept: async (lineage, chunk, attempt) =>
      noted(await temporal.accept(lineage, SETTINGS, chunk, attempt)),
    logger: SILENT,
    format: SINGLE_OBJECT_FORMAT,
  });
}

async function submit(lineage: string, count: number): Promise<RecordPosition[]> {
  const corrections = Array.from({ length: count }, (_, i) =>
    factCorrection(`${lineage}${i}`, { lineage, subject: `Subject ${i}.`, source: noise(i) }),
  );
  return await system.submit(corrections);
}

/** 352 characters that gzip makes little of, or the whole backlog would fit one fetch. */
function noise(seed: number): string {
  return [0, 1, 2, 3]
    .map((part) => createHash('sha512').update(`${seed} ${part}`).digest('base64'))
    .join('');
}

async function expectCommitted(positions: RecordPosition[], records: number): Promise<void> {
  await system.outcomes.untilRecords(records);
  for (const position of positions)
    expect(system.outcomes.of(position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
}

function noted(answer: AcceptAnswer): AcceptAnswer {
  if (answer.kind === 'refused') {
    expect(answer.type).toBe(BUFFER_FULL);
    seen.refusals++;
  }
  seen.onAnswer();
  return answer;
}

/** Resolves after this many more refusals. */
async function moreRefusals(count: number): Promise<void> {
  const wanted = seen.refusals + count;
  await new Promise<void>((resolve) => {
    seen.onAnswer = () => {
      if (seen.refusals >= wanted) resolve();
    };
  });
}

/** Counts the full lineage's records by place, and its workflow's events. */
async function whereRecordsAre() {
  const { waiting: inBuffer, running } = (await system.temporal.status(FULL))!;
  const { historyLength } = await system.temporal.client.workflow
    .getHandle(lineageWorkflowId(FULL))
    .describe();
  return {
    inKafka: await system.lag(FULL),
    inBuffer,
    inBatch: running?.revisions ?? 0,
    historyLength,
  };
}
