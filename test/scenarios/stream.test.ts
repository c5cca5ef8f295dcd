/**
 * The whole stream on a real broker and a real Temporal server, with the processes of ingest and of
 * the workflows as they are in production; only the edit worker has an engine without a model.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEditActivities } from '../../activities/index.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordPosition, RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections, submitRetractions } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { INGEST_GROUP, topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { editTaskQueue } from '../../pipelines/workflows/contract.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import {
  startTestKafka,
  startTestServers,
  startTestTemporal,
  type TestServers,
} from '../harness/servers/local.ts';
import { Fates } from '../harness/heard-outcomes.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const LINEAGE = 'stream';
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

let servers: TestServers;
let kafka: KafkaCluster;
let sender: RecordSender;
let temporal: TemporalLineages;
let ingest: OurProcess;
let workflows: OurProcess;
let reader: RecordReader;
let editWorker: { worker: Worker; done: Promise<void>; connection: NativeConnection };
const fates = new Fates();

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  const versions = path.join(servers.folder, 'versions');
  mkdirSync(versions);
  kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(topicSpecifications(LINEAGE, { partitions: 3, replicationFactor: 1 }));
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
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_BATCH_EDITS_MAX: '8',
    ERRATA_BATCH_WAIT_MS: '200',
    ERRATA_BUFFER_EDITS_MAX: '16',
    // The engine without a model lets the norm grow with every correction.
    ERRATA_EDIT_NORM_MAX: '100',
  };
  ingest = new OurProcess('ingest', environment, servers.folder);
  workflows = new OurProcess('workflow-worker', environment, servers.folder);
  const connection = await NativeConnection.connect({ address: servers.temporal.address });
  const worker = await Worker.create({
    connection,
    namespace: servers.temporal.namespace,
    taskQueue: editTaskQueue(LINEAGE),
    activities: createEditActivities({
      engine: new FakeEngine(),
      versions: versionsInFolder(versions),
    }),
    maxConcurrentActivityTaskExecutions: 1,
  });
  editWorker = { worker, done: worker.run(), connection };
  reader = await tail(
    kafka,
    [LINEAGE],
    { from: 'beginning', deadLetters: true, format: SINGLE_OBJECT_FORMAT },
    fates.hear,
  );
});

afterAll(async () => {
  await Promise.allSettled([ingest?.kill(), workflows?.kill(), reader?.stop(), sender?.close()]);
  if (editWorker !== undefined) {
    editWorker.worker.shutdown();
    await editWorker.done;
    await editWorker.connection.close();
  }
  await temporal?.close();
  await servers?.stop();
});

function correction(id: string, more: Partial<FactCorrection> = {}): FactCorrection {
  const subject = more.subject ?? `Subject ${id}.`;
  return {
    id,
    lineage: LINEAGE,
    subject,
    relation: 'place',
    prompt: `${subject} is in`,
    target: 'Lyon',
    previousAnswer: null,
    paraphrases: [`One finds ${subject} in`],
    neighbourhood: [`Neighbour of ${id} is in`],
    source: 'test',
    issuedAt: 1_000,
    ...more,
  };
}

const corrections = (prefix: string, count: number): FactCorrection[] =>
  Array.from({ length: count }, (_, i) => correction(`${prefix}${i}`));

/** Submits and gives the records' positions by id. */
async function submit(
  items: FactCorrection[],
  unsound: 'refuse' | 'send' = 'refuse',
): Promise<RecordPosition[]> {
  return (await submitCorrections(sender, SINGLE_OBJECT_FORMAT, items, { unsound })).map(
    ({ position }) => position,
  );
}

// Each kill costs a session of the consumer group or a task's timeout; a loaded machine multiplies
// them.
describe('the stream', { timeout: 600_000 }, () => {
  it('gives each record exactly one fate, whatever it is and whoever is killed', async () => {
    const { corrections: topic } = topicsOf(LINEAGE);
    await workflows.start();
    await ingest.start();

    const committed = await submit(corrections('a', 40));
    const bad = await submit(
      [
        correction('b0', { prompt: 'says nothing of it' }),
        correction('b1', { lineage: LINEAGE, target: ' ' }),
      ],
      'send',
    );
    const garbage = await sender.send(topic, [
      { key: 'x|y', value: Buffer.from('{"id": 1}') },
      { key: null, value: null },
      { key: 'k', value: Buffer.alloc(70_000, 1) },
    ]);
    const ineffective = await submit([
      correction('i0', { target: MISBEHAVING.ineffective }),
      correction('i1', { target: MISBEHAVING.gibberish }),
    ]);
    await fates.records(20);

    await ingest.kill();
    const whileAway = await submit(corrections('c', 40));
    await ingest.start();
    await fates.records(60);

    await workflows.kill();
    const worker = await submit(corrections('d', 20));
    await workflows.start();
    await fates.records(100);
    await Promise.all([ingest.kill(), workflows.kill()]);
    await Promise.all([workflows.start(), ingest.start()]);

    const all = [...committed, ...bad, ...garbage, ...ineffective, ...whileAway, ...worker];
    await fates.records(all.length);

    for (const position of [...committed, ...whileAway, ...worker])
      expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED \d+$/)]);
    for (const position of bad) expect(fates.of(position)).toEqual(['DEAD UnsoundCorrection']);
    expect(garbage.map((position) => fates.of(position))).toEqual([
      ['DEAD UndecodableRecord'],
      ['DEAD UnsoundKey'],
      ['DEAD RecordTooLarge'],
    ]);
    for (const position of ineffective) expect(fates.of(position)).toEqual(['QUARANTINED']);

    // Now that the first ones are committed: the same again, later ones of the same fact, older
    // ones, and retractions.
    const [again] = await submit([correction('a0')]);
    const [later] = await submit([
      correction('a1-later', { subject: 'Subject a1.', target: 'Oslo', issuedAt: 2_000 }),
    ]);
    await fates.records(all.length + 2);
    const [older] = await submit([
      correction('a1-older', { subject: 'Subject a1.', target: 'Bern', issuedAt: 1_500 }),
    ]);
    const [retracted, nothing] = await submitRetractions(sender, LINEAGE, [
      factKeyOf(correction('a2')),
      'never|said',
    ]);
    const [refusedBefore, denied] = await submit([
      correction('i0', { target: MISBEHAVING.ineffective }),
      correction('a3-denied', { subject: 'Subject a3.', target: 'Oslo' }),
    ]);
    await fates.records(all.length + 7);
    expect(fates.of(refusedBefore!)).toEqual([expect.stringMatching(/^DUPLICATE/)]);
    // Of one time with one that was committed: neither is believed.
    expect(fates.of(denied!)).toEqual(['QUARANTINED']);
    expect(fates.of(committed[3]!)).toEqual([
      expect.stringMatching(/^COMMITTED/),
      expect.stringMatching(/^QUARANTINED/),
    ]);
    expect(fates.of(again!)).toEqual([expect.stringMatching(/^DUPLICATE \d+$/)]);
    expect(fates.of(later!)).toEqual([expect.stringMatching(/^COMMITTED/)]);
    expect(fates.of(committed[1]!)).toEqual([
      expect.stringMatching(/^COMMITTED/),
      expect.stringMatching(/^SUPERSEDED/),
    ]);
    expect(fates.of(older!)).toEqual([expect.stringMatching(/^SUPERSEDED/)]);
    expect(fates.of(retracted!)).toEqual([expect.stringMatching(/^RETRACTED/)]);
    expect(fates.of(committed[2]!)).toEqual([
      expect.stringMatching(/^COMMITTED/),
      expect.stringMatching(/^RETRACTED/),
    ]);
    expect(fates.of(nothing!)).toEqual(['NOTHING_TO_RETRACT']);

    // The log says the same: each correction in one version, and every version was told of.
    const log = versionsInFolder(path.join(servers.folder, 'versions')).log(LINEAGE);
    const entries = await log.entries(1, (await log.read()).head.version);
    const added = entries.flatMap(({ entry }) =>
      entry.added.map(({ correctionId }) => correctionId),
    );
    expect(added).toHaveLength(101);
    expect(new Set(added).size).toBe(101);
    expect([...fates.versions].sort((a, b) => a - b)).toEqual(
      entries.map(({ entry }) => entry.version),
    );
    expect(await lag()).toBe(0);
    expect((await temporal.status(LINEAGE))!.waiting).toBe(0);
  });

  it('waits at a full buffer without losing its place and flows on', async () => {
    await temporal.freeze(LINEAGE, 'looking at it');
    const records = await submit(corrections('f', 60));
    // The buffer takes 16; the rest stays in Kafka, uncommitted.
    await untilTrue(
      async () =>
        (await temporal.status(LINEAGE))!.waiting > 0 && (await lag()) > 0 && (await lag()) <= 60,
    );
    expect((await temporal.status(LINEAGE))!.waiting).toBeLessThanOrEqual(60);
    const told = fates.recordsTold;
    await ingest.kill();
    await ingest.start();
    expect(fates.recordsTold).toBe(told);
    await temporal.resume(LINEAGE);
    await fates.records(told + 60);
    for (const position of records)
      expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
    expect(await lag()).toBe(0);
  });

  it('waits out a Temporal that is killed, and a Kafka that is killed', async () => {
    const told = fates.recordsTold;
    process.kill(servers.temporal.pid, 'SIGKILL');
    const first = await submit(corrections('t', 12));
    await startTestTemporal(servers.folder);
    await fates.records(told + 12);
    process.kill(servers.kafka.pid, 'SIGKILL');
    const sending = submit(corrections('k', 12));
    await startTestKafka(servers.folder);
    const second = await sending;
    await fates.records(told + 24);
    for (const position of [...first, ...second])
      expect(fates.of(position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
  });

  it('drains when it is told to stop', async () => {
    expect(await ingest.stop()).toBe(0);
    expect(await workflows.stop()).toBe(0);
  });
});

async function lag(): Promise<number> {
  return (await kafka.lagOf(INGEST_GROUP, [topicsOf(LINEAGE).corrections])).reduce(
    (sum, partition) => sum + partition.lag,
    0,
  );
}

async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 100));
}
