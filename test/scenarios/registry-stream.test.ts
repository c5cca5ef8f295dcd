/**
 * The stream with a schema registry: a real broker, a real Temporal server and a real registry,
 * with the processes of ingest and of the workflows as they are in production; only the edit worker
 * has an engine without a model.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import avsc from 'avsc';
import { createEditActivities } from '../../activities/index.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordPosition, RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import {
  registryFormat,
  SINGLE_OBJECT_FORMAT,
  subjectOf,
  type RecordFormat,
} from '../../pipelines/kafka/record-format.ts';
import { SchemaRegistry } from '../../pipelines/kafka/schema-registry.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { editTaskQueue } from '../../pipelines/workflows/contract.ts';
import { schemaOf } from '../../schemas/records/avro.ts';
import type { AvroComplexSchema, AvroSchema } from '../../schemas/records/avro-shape.ts';
import { confluentHead, schemaIdOf } from '../../schemas/records/confluent-framing.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import {
  REGISTRY_SETUP_WAIT_MS,
  startTestRegistry,
  type TestRegistry,
} from '../harness/servers/apicurio.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { factCorrection } from '../harness/corrections.ts';
import { Fates } from '../harness/heard-outcomes.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const LINEAGE = 'registered';
const OTHER_LINEAGE = 'taken';
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const { corrections: topic } = topicsOf(LINEAGE);

let servers: TestServers;
let registry: TestRegistry;
let client: SchemaRegistry;
let format: RecordFormat;
let kafka: KafkaCluster;
let sender: RecordSender;
let ingest: OurProcess;
let workflows: OurProcess;
let reader: RecordReader;
let environment: NodeJS.ProcessEnv;
let editWorker: { worker: Worker; done: Promise<void>; connection: NativeConnection };
const fates = new Fates();
const letters = new Map<string, string>();

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  registry = await startTestRegistry(servers.folder);
  client = new SchemaRegistry({ url: registry.url, credentials: null });
  format = registryFormat(client);
  const versions = path.join(servers.folder, 'versions');
  mkdirSync(versions);
  kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(topicSpecifications(LINEAGE, { partitions: 3, replicationFactor: 1 }));
  sender = await kafka.sender();
  environment = {
    ...process.env,
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: versions,
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_SCHEMA_REGISTRY_URL: registry.url,
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_BATCH_EDITS_MAX: '8',
    ERRATA_BATCH_WAIT_MS: '200',
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
    {
      from: 'beginning',
      deadLetters: true,
      format: registryFormat(new SchemaRegistry({ url: registry.url, credentials: null })),
    },
    (announcement) => {
      if (announcement.kind === 'dead-letter')
        letters.set(nameOf(announcement.origin), announcement.message);
      fates.hear(announcement);
    },
  );
}, REGISTRY_SETUP_WAIT_MS);

afterAll(async () => {
  await Promise.allSettled([ingest?.kill(), workflows?.kill(), reader?.stop(), sender?.close()]);
  if (editWorker !== undefined) {
    editWorker.worker.shutdown();
    await editWorker.done;
    await editWorker.connection.close();
  }
  await registry?.stop();
  await servers?.stop();
});

const corrections = (prefix: string, count: number): FactCorrection[] =>
  Array.from({ length: count }, (_, i) => factCorrection(`${prefix}${i}`, { lineage: LINEAGE }));
const nameOf = ({ partition, offset }: { partition: number; offset: string }): string =>
  `${partition}-${offset}`;

async function submit(
  items: FactCorrection[],
  as: RecordFormat = format,
): Promise<RecordPosition[]> {
  return (await submitCorrections(sender, as, items)).map(({ position }) => position);
}

/** As another program's writer sends them, with a schema of its own. */
async function submitAs(
  id: number,
  schema: AvroSchema,
  items: (FactCorrection & Record<string, unknown>)[],
): Promise<RecordPosition[]> {
  const type = avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions: false });
  return await sender.send(
    topic,
    items.map((item) => ({
      key: factKeyOf(item),
      value: Buffer.concat([confluentHead(id), type.toBuffer(item)]),
    })),
  );
}

const withField = (name: string): AvroSchema => {
  const schema = schemaOf('fact-correction') as AvroComplexSchema;
  return {
    ...schema,
    fields: [
      ...schema.fields!,
      { name, type: 'string', default: '' },
    ] as AvroComplexSchema['fields'] & object,
  };
};

const COMMITTED = [expect.stringMatching(/^COMMITTED \d+$/)];

// What is waited for is many starts of processes; a loaded machine multiplies them.
describe('the stream with a schema registry', { timeout: 300_000 }, () => {
  it("writes the registry's wire format, and reads older, newer and single-object writers", async () => {
    await workflows.start();
    await ingest.start();
    const ours = await submit(corrections('a', 8));
    const single = await submit(corrections('s', 3), SINGLE_OBJECT_FORMAT);
    const newer = await client.register(subjectOf(topic), withField('reviewer'));
    const theirs = await submitAs(
      newer,
      withField('reviewer'),
      corrections('n', 4).map((item) => ({ ...item, reviewer: 'Ada' })),
    );
    await fates.records(15);
    for (const position of [...ours, ...single, ...theirs])
      expect(fates.of(position)).toEqual(COMMITTED);

    const ids = new Map(
      [topicsOf(LINEAGE).outcomes, topicsOf(LINEAGE).versions].map((name) => [
        name,
        new Set<number | null>(),
      ]),
    );
    const read = await kafka.follow([...ids.keys()], 'beginning', (records) =>
      records.forEach(({ topic: from, value }) => ids.get(from)!.add(schemaIdOf(value!))),
    );
    await untilTrue(() => [...ids.values()].every(({ size }) => size > 0));
    await read.stop();
    for (const [name, record] of [
      [topicsOf(LINEAGE).outcomes, 'correction-outcome'],
      [topicsOf(LINEAGE).versions, 'hook-version'],
    ] as const) {
      expect([...ids.get(name)!]).toEqual([
        await client.register(subjectOf(name), schemaOf(record)),
      ]);
    }
  });

  it('sends what cannot be read to the dead-letter topic, with the reason', async () => {
    const [first] = corrections('d', 1);
    const another: AvroSchema = {
      type: 'record',
      name: 'Weather',
      fields: [{ name: 'id', type: 'string' }],
    };
    const anotherId = await client.register(subjectOf('weather'), another);
    const told = fates.recordsTold;
    const [stranger] = await submitAs(2_000_000_000, schemaOf('fact-correction'), [
      first! as FactCorrection & Record<string, unknown>,
    ]);
    const [weather] = await submitAs(anotherId, another, [{ ...first!, id: 'rain' }]);
    const [cut] = await sender.send(topic, [{ key: 'k', value: Buffer.from([0, 0, 0]) }]);
    await fates.records(told + 3);
    for (const position of [stranger!, weather!, cut!])
      expect(fates.of(position)).toEqual(['DEAD UndecodableRecord']);
    expect(letters.get(nameOf(stranger!))).toBe(
      "the writer's schema 2000000000 is not known to the registry",
    );
    expect(letters.get(nameOf(weather!))).toMatch(/cannot be resolved/);
    expect(letters.get(nameOf(cut!))).toMatch(/ends before the schema's id does/);
  });

  it('does not start a program whose records the others could not read, and says why', async () => {
    const subject = subjectOf(topicsOf(OTHER_LINEAGE).outcomes);
    await client.register(subject, {
      type: 'record',
      name: 'CorrectionOutcome',
      namespace: 'errata',
      fields: [{ name: 'somethingElse', type: 'string' }],
    });
    const refused = new OurProcess(
      'workflow-worker',
      { ...environment, ERRATA_LINEAGES: OTHER_LINEAGE },
      servers.folder,
    );
    await expect(refused.start()).rejects.toThrow(
      new RegExp(
        `ended \\(1\\) before it was ready.*refused: the schema registry refuses the schema of ${subject.replaceAll('.', '\\.')}: 409`,
        's',
      ),
    );
  });

  it('waits for a registry that is killed, judges nothing meanwhile, and flows on when it is back', async () => {
    const late = await client.register(subjectOf(topic), withField('remark'));
    const told = fates.recordsTold;
    const dead = letters.size;
    process.kill(registry.pid, 'SIGKILL');
    // What ingest knows flows on; what it does not know waits.
    const known = await submit(corrections('k', 6));
    await fates.records(told + 6);
    const unknown = await submitAs(
      late,
      withField('remark'),
      corrections('u', 6).map((item) => ({ ...item, remark: '' })),
    );
    await untilTrue(() =>
      readFileSync(path.join(servers.folder, 'ingest.log'), 'utf8').includes(
        `the schema registry at ${registry.url} gives no answer`,
      ),
    );
    // Processes that start without it know nothing and wait as well.
    await Promise.all([ingest.kill(), workflows.kill()]);
    await Promise.all([ingest.start(), workflows.start()]);
    const cold = await submit(corrections('v', 6));
    await untilTrue(() =>
      readFileSync(path.join(servers.folder, 'workflow-worker.log'), 'utf8').includes(
        'Schemas are not registered yet',
      ),
    );
    expect(fates.recordsTold).toBe(told + 6);

    registry = await startTestRegistry(servers.folder);
    await fates.records(told + 18);
    for (const position of [...known, ...unknown, ...cold])
      expect(fates.of(position)).toEqual(COMMITTED);
    expect(letters.size).toBe(dead);
  });
});

async function untilTrue(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 100));
}
