/**
 * The edit worker as it is in production, with a real (tiny) model, killed in the middle of a
 * batch: it goes on after a restart, and nothing is lost or applied twice.
 */
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications } from '../../pipelines/kafka/topics.ts';
import { batchWorkflowId } from '../../pipelines/workflows/contract.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { Fates } from '../harness/heard-outcomes.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const LINEAGE = 'killed';
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
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

let servers: TestServers;
let sender: RecordSender;
let reader: RecordReader;
let temporal: TemporalLineages;
let processes: Record<'ingest' | 'workflow-worker' | 'edit-worker', OurProcess>;
const fates = new Fates();

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  const versions = path.join(servers.folder, 'versions');
  mkdirSync(versions);
  // The data folder is the test's own; only the built TensorFlow is borrowed.
  symlinkSync(
    path.join(homeFromEnvironment().root, 'tensorflow'),
    path.join(servers.folder, 'tensorflow'),
  );
  const kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(topicSpecifications(LINEAGE, { partitions: 2, replicationFactor: 1 }));
  sender = await kafka.sender();
  temporal = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  const environment: NodeJS.ProcessEnv = {
    ...process.env,
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: versions,
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_MODEL: goldenPath('tiny', 'llama'),
    ERRATA_HYPER_PARAMETERS: JSON.stringify(HYPER_PARAMETERS),
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_BATCH_EDITS_MAX: '6',
    ERRATA_BATCH_WAIT_MS: '300',
    // A model of random numbers learns what it is told, but with no manners.
    ERRATA_REQUIRE_EFFECTIVE: 'false',
    ERRATA_GENERALISATION_MIN: '0',
    ERRATA_LOCALITY_MIN: '0',
    ERRATA_RETENTION_MIN: '0',
    ERRATA_CANARY_RATIO_MAX: '100',
    ERRATA_EDIT_NORM_MAX: '1000',
  };
  const started = (name: 'ingest' | 'workflow-worker' | 'edit-worker') =>
    new OurProcess(name, environment, servers.folder);
  processes = {
    ingest: started('ingest'),
    'workflow-worker': started('workflow-worker'),
    'edit-worker': started('edit-worker'),
  };
  reader = await tail(
    kafka,
    [LINEAGE],
    { from: 'beginning', deadLetters: true, format: SINGLE_OBJECT_FORMAT },
    fates.hear,
  );
});

afterAll(async () => {
  await Promise.allSettled([
    ...Object.values(processes ?? {}).map((one) => one.kill()),
    reader?.stop(),
    sender?.close(),
  ]);
  await temporal?.close();
  await servers?.stop();
});

const correction = (i: number): FactCorrection => ({
  id: `k${i}`,
  lineage: LINEAGE,
  subject: `town ${i}`,
  relation: null,
  prompt: `the old town ${i} is on`,
  target: 'river',
  previousAnswer: null,
  paraphrases: [`we saw town ${i} is on`],
  neighbourhood: ['the old hill is on'],
  source: 'test',
  issuedAt: 1_000 + i,
});

it('goes on after the edit worker was killed in the middle of a batch, nothing lost, nothing applied twice', async () => {
  await Promise.all([
    processes.ingest.start(),
    processes['workflow-worker'].start(),
    processes['edit-worker'].start(),
  ]);
  const sent = await submitCorrections(
    sender,
    SINGLE_OBJECT_FORMAT,
    Array.from({ length: 18 }, (_, i) => correction(i)),
    { unsound: 'refuse' },
  );
  let killed = 0;
  for (const stage of ['computeTargets', 'computeTargets', 'runProbes']) {
    await untilRunning(stage, killed + 1);
    await processes['edit-worker'].kill();
    killed++;
    await processes['edit-worker'].start();
  }
  await fates.records(sent.length);
  for (const { position } of sent)
    expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED \d+$/)]);
  const log = versionsInFolder(path.join(servers.folder, 'versions')).log(LINEAGE);
  const { active, head } = await log.read();
  const entries = await log.entries(1, head.version);
  const added = entries.flatMap(({ entry }) => entry.added.map(({ correctionId }) => correctionId));
  expect(added).toHaveLength(sent.length);
  expect(new Set(added)).toEqual(new Set(Array.from({ length: 18 }, (_, i) => `k${i}`)));
  expect(active.size).toBe(sent.length);
}, 300_000);

/**
 * Until a batch, the given or a later one, is in this step on a worker; a batch that got past it
 * unseen is let go.
 */
async function untilRunning(activity: string, fromSequence: number): Promise<void> {
  for (;;) {
    const status = await temporal.status(LINEAGE);
    if (status !== null && status.waiting === 0 && fates.recordsTold >= 18) return;
    for (let sequence = fromSequence; sequence < fromSequence + 4; sequence++) {
      const description = await temporal.client.workflow
        .getHandle(batchWorkflowId(LINEAGE, sequence))
        .describe()
        .catch(() => null);
      const pending = description?.raw.pendingActivities ?? [];
      if (
        pending.some((one) => one.activityType?.name === activity && Number(one.state) === STARTED)
      )
        return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** temporal.api.enums.v1.PendingActivityState */
const STARTED = 2;
