/** Lineages that fail in every way, on a real Temporal and Kafka; started before all tests. */
import { NativeConnection, Worker } from '@temporalio/worker';
import path from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { Findings } from '../../operations/failures/failure.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import { editTaskQueue, WORKFLOW_TASK_QUEUE } from '../../pipelines/workflows/contract.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { BaseChanged, VersionLogDamaged } from '../../versions/log/failures.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { factCorrection } from '../harness/corrections.ts';
import { quietRuntime } from '../harness/time-skipping.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { invoke } from '../harness/invocation.ts';

const LINEAGES = [
  ...['quiet', 'quarantined', 'letters', 'waiting', 'frozen', 'retried'],
  ...['idle', 'terminated', 'anew', 'damaged', 'undone', 'stuck'],
];
/** Lineages whose topics are created. */
const WITH_TOPICS = ['letters', 'waiting', 'anew'];
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const SETTINGS = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, batchEditsMax: 1, batchWaitMs: 0 },
  failures: { ...DEFAULT_LINEAGE_SETTINGS.failures, alert: false, retryWaitMs: 100 },
};

export let servers: TestServers;
export let cluster: KafkaCluster;
export let sender: RecordSender;
export let lineages: TemporalLineages;
let connection: NativeConnection;
export let versions: Versions;
let workers: { worker: Worker; done: Promise<void> }[] = [];
/** Lineages whose plans fail until this is emptied. */
export const ill = new Set(['frozen', 'terminated']);

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  cluster = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await cluster.ensureTopics(
    WITH_TOPICS.flatMap((lineage) =>
      topicSpecifications(lineage, { partitions: 1, replicationFactor: 1 }),
    ),
  );
  sender = await cluster.sender();
  lineages = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  connection = await NativeConnection.connect({ address: servers.temporal.address });
  versions = versionsInFolder(path.join(servers.folder, 'versions'));
  const ledger = createLedgerActivities({ versions });
  const edit = createEditActivities({ engine: new FakeEngine(), versions });
  const announce = async ({ lineage, outcomes }: { lineage: string; outcomes: Outcome[] }) =>
    await (await versions.log(lineage).register()).settle(outcomes);
  const planBatch: typeof ledger.planBatch = async (step) => {
    if (step.lineage === 'frozen' && ill.has(step.lineage))
      throw new VersionLogDamaged(step.lineage, 'an object', 'a disk was taken out');
    if (step.lineage === 'terminated' && ill.has(step.lineage))
      throw new Error('the store is away');
    return await ledger.planBatch(step);
  };
  const computeTargets: typeof edit.computeTargets = async () => {
    throw new BaseChanged('retried', 1, ['its weights hash to something else']);
  };
  const options = { connection, namespace: servers.temporal.namespace };
  workers = await Promise.all([
    Worker.create({
      ...options,
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowBundle: await bundleWorkflows(),
      activities: { ...ledger, planBatch, announce },
    }),
    Worker.create({
      ...options,
      taskQueue: editTaskQueue('retried'),
      activities: { ...edit, computeTargets },
    }),
    ...['damaged', 'frozen', 'terminated'].map((lineage) =>
      Worker.create({ ...options, taskQueue: editTaskQueue(lineage), activities: edit }),
    ),
  ]).then((created) => created.map((worker) => ({ worker, done: worker.run() })));
});

afterAll(async () => {
  for (const { worker } of workers) worker.shutdown();
  await Promise.all(workers.map(({ done }) => done));
  await Promise.allSettled([connection?.close(), lineages?.close(), sender?.close()]);
  await servers?.stop();
});

export const errata = (args: string | string[], more: NodeJS.ProcessEnv = {}) =>
  invoke(servers.folder, args, {
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: path.join(servers.folder, 'versions'),
    ERRATA_LINEAGES: LINEAGES.join(','),
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    NO_COLOR: '1',
    COLUMNS: '160',
    ...more,
  });

export async function failuresOf(
  lineage: string,
  more: NodeJS.ProcessEnv = {},
): Promise<Findings & { code: number }> {
  const { code, out } = await errata(['failures', '--lineage', lineage, '--json'], more);
  return { code, ...(JSON.parse(out) as Findings) };
}

/** Polls until the value is found; the test's own time limit ends it otherwise. */
export async function until<Value>(
  ask: () => Promise<Value>,
  holds: (value: Value) => boolean,
): Promise<Value> {
  for (;;) {
    const value = await ask();
    if (holds(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export const correction = (lineage: string, id: string, more: Partial<FactCorrection> = {}) =>
  factCorrection(id, { lineage, ...more });

/** Hands a correction to the lineage as ingest does. */
export async function accept(
  lineage: string,
  offset: number,
  given: FactCorrection,
  endOffset = '1000',
): Promise<void> {
  const topic = topicsOf(lineage).corrections;
  const position = { topic, partition: 0, offset: String(offset) };
  const answer = await lineages.accept(lineage, SETTINGS, {
    topic,
    partition: 0,
    firstOffset: position.offset,
    throughOffset: position.offset,
    endOffset,
    readFrom: '0',
    run: null,
    revisions: [{ kind: 'correction', factKey: factKeyOf(given), position, correction: given }],
  });
  expect(answer.kind).toBe('accepted');
}

export const outcome = (
  given: FactCorrection,
  status: Outcome['status'],
  decidedAt: number,
  more: Partial<Outcome> = {},
): Outcome => ({
  lineage: given.lineage,
  revisionId: given.id,
  factKey: factKeyOf(given),
  status,
  version: null,
  reason: status === 'QUARANTINED' ? 'the model does not give it as its answer' : null,
  measured: status === 'QUARANTINED' ? { code: 'verdict', efficacy: 0.25 } : {},
  position: { topic: topicsOf(given.lineage).corrections, partition: 0, offset: '1' },
  batchId: '000000-0000000000000000',
  decidedAt,
  ...more,
});
