/**
 * A backlog far larger than a lineage's buffer, on a real broker and a real Temporal server: it
 * waits in Kafka, costs nothing while it waits, holds up no other lineage, and is edited to the
 * last record once there is an edit worker.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createEditActivities } from '../../activities/index.ts';
import { startIngest, type AcceptAnswer, type Ingest } from '../../pipelines/ingest/ingest.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { INGEST_GROUP, topicsOf, topicSpecifications } from '../../pipelines/kafka/topics.ts';
import {
  BUFFER_FULL,
  editTaskQueue,
  lineageWorkflowId,
} from '../../pipelines/workflows/contract.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { Fates } from '../harness/heard-outcomes.ts';
import { factCorrection } from '../harness/corrections.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const FULL = 'full';
const FREE = 'free';
const PARTITIONS = 3;
const BACKLOG = 3_000;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
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

let servers: TestServers;
let kafka: KafkaCluster;
let sender: RecordSender;
let temporal: TemporalLineages;
let workflows: OurProcess;
let reader: RecordReader;
let ingest: Ingest;
const editWorkers: { worker: Worker; done: Promise<void>; connection: NativeConnection }[] = [];
const fates = new Fates();
/** What ingest did with the full lineage. */
const seen = { refusals: 0, recordsInHandMax: 0, tell: () => {} };

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  mkdirSync(path.join(servers.folder, 'versions'));
  kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(
    [FULL, FREE].flatMap((lineage) =>
      topicSpecifications(lineage, { partitions: PARTITIONS, replicationFactor: 1 }),
    ),
  );
  sender = await kafka.sender();
  temporal = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  workflows = new OurProcess(
    'workflow-worker',
    {
      ...process.env,
      ERRATA_HOME: servers.folder,
      ERRATA_VERSIONS: path.join(servers.folder, 'versions'),
      ERRATA_LINEAGES: `${FULL},${FREE}`,
      ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
      ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
      ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    },
    servers.folder,
  );
  await workflows.start();
  reader = await tail(
    kafka,
    [FULL, FREE],
    { from: 'beginning', format: SINGLE_OBJECT_FORMAT },
    fates.hear,
  );
});

afterAll(async () => {
  await Promise.allSettled([ingest?.stop(), workflows?.kill(), reader?.stop(), sender?.close()]);
  for (const { worker, done, connection } of editWorkers) {
    worker.shutdown();
    await done;
    await connection.close();
  }
  await temporal?.close();
  await servers?.stop();
});

it(
  'waits in Kafka without an edit worker, is asked about in vain at no cost, and is edited to the last record when one comes',
  { timeout: 600_000 },
  async () => {
    const backlog = await submit(FULL, BACKLOG);
    for (const lineage of [FULL, FREE]) await temporal.configure(lineage, SETTINGS);
    ingest = await startedIngest();

    // Every partition has run into the full buffer, several times over.
    await refusals(3 * PARTITIONS);
    const atFirst = await standing();
    await refusals(3 * PARTITIONS);
    const later = await standing();
    expect(later).toEqual(atFirst);
    expect(later.buffered).toBeLessThanOrEqual(SETTINGS.batch.bufferEditsMax);
    expect(later.buffered).toBeGreaterThan(0);
    expect(later.inBatch).toBe(SETTINGS.batch.batchEditsMax);
    expect(later.inKafka + later.buffered + later.inBatch).toBe(BACKLOG);
    // A partition holds a thousand records; a reader that cannot get rid of them must not be given
    // them all.
    expect(seen.recordsInHandMax).toBeLessThan(BACKLOG / PARTITIONS / 2);

    // A reader that has just started knows nothing of the buffer, and does not overfill it.
    await ingest.stop();
    ingest = await startedIngest();
    await refusals(3 * PARTITIONS);
    expect(await standing()).toEqual(atFirst);

    await startEditWorker(FREE);
    const free = await submit(FREE, 5);
    await fates.records(free.length);
    for (const position of free)
      expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
    expect(await standing()).toEqual(atFirst);

    await startEditWorker(FULL);
    await fates.records(free.length + BACKLOG);
    for (const position of backlog)
      expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
    expect(await lagOf(FULL)).toBe(0);
    const log = versionsInFolder(path.join(servers.folder, 'versions')).log(FULL);
    const added = (await log.entries(1, (await log.read()).head.version)).flatMap(({ entry }) =>
      entry.added.map(({ correctionId }) => correctionId),
    );
    expect(added).toHaveLength(BACKLOG);
    expect(new Set(added).size).toBe(BACKLOG);
  },
);

async function startedIngest(): Promise<Ingest> {
  return await startIngest([FULL, FREE], {
    read: (group, topics, onBatch) =>
      kafka.read(group, topics, (batch) => {
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

async function submit(lineage: string, count: number) {
  const corrections = Array.from({ length: count }, (_, i) =>
    factCorrection(`${lineage}${i}`, { lineage, subject: `Subject ${i}.`, source: unlike(i) }),
  );
  return (await submitCorrections(sender, SINGLE_OBJECT_FORMAT, corrections)).map(
    ({ position }) => position,
  );
}

/** 352 characters that gzip makes little of, or the whole backlog would fit one fetch. */
function unlike(seed: number): string {
  return [0, 1, 2, 3]
    .map((part) => createHash('sha512').update(`${seed} ${part}`).digest('base64'))
    .join('');
}

function noted(answer: AcceptAnswer): AcceptAnswer {
  if (answer.kind === 'refused') expect(answer.type).toBe(BUFFER_FULL);
  if (answer.kind === 'refused') seen.refusals++;
  seen.tell();
  return answer;
}

/** Resolves after so many more refusals. */
async function refusals(more: number): Promise<void> {
  const wanted = seen.refusals + more;
  await new Promise<void>((resolve) => {
    seen.tell = () => {
      if (seen.refusals >= wanted) resolve();
    };
  });
}

/** Where the full lineage's records are, and how long its workflow's history is. */
async function standing() {
  const { waiting, running } = (await temporal.status(FULL))!;
  const { historyLength } = await temporal.client.workflow
    .getHandle(lineageWorkflowId(FULL))
    .describe();
  return {
    inKafka: await lagOf(FULL),
    buffered: waiting,
    inBatch: running?.revisions ?? 0,
    historyLength,
  };
}

async function lagOf(lineage: string): Promise<number> {
  return (await kafka.lagOf(INGEST_GROUP, [topicsOf(lineage).corrections])).reduce(
    (sum, { lag }) => sum + lag,
    0,
  );
}

async function startEditWorker(lineage: string): Promise<void> {
  const connection = await NativeConnection.connect({ address: servers.temporal.address });
  const worker = await Worker.create({
    connection,
    namespace: servers.temporal.namespace,
    taskQueue: editTaskQueue(lineage),
    activities: createEditActivities({
      engine: new FakeEngine(),
      versions: versionsInFolder(path.join(servers.folder, 'versions')),
    }),
    maxConcurrentActivityTaskExecutions: 1,
  });
  editWorkers.push({ worker, done: worker.run(), connection });
}
