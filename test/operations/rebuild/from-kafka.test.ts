/**
 * Rebuilds a lineage with the record texts, and from its records alone, on a real Kafka and a tiny
 * real model.
 */
import { Kafka, logLevel } from 'kafkajs';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { localPort } from '../../../operations/local-batch.ts';
import { compareVersions } from '../../../operations/rebuild/reproduction.ts';
import { spoolRecords } from '../../../operations/rebuild/spooled-records.ts';
import { editBatch } from '../../../pipelines/batch/edit-batch.ts';
import { noOutcomes } from '../../../pipelines/batch/outcomes.ts';
import { readRecord } from '../../../pipelines/ingest/ingest-record.ts';
import { LineageState } from '../../../pipelines/workflows/lineage-state.ts';
import type { LineageSettings } from '../../../schemas/settings.ts';
import { factKeyOf } from '../../../schemas/correction.ts';
import type { EmbeddedKafka } from '../../../infra/local/kafka.ts';
import type { RebuildRequest, Rebuilt } from '../../../operations/rebuild/rebuild-run.ts';
import { rebuildLineage } from '../../../operations/rebuild/rebuild.ts';
import { planRebuild } from '../../../operations/rebuild/rebuild-plan.ts';
import { RebuildEngines } from '../../../operations/rebuild/rebuild-engines.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import { KafkaCluster } from '../../../pipelines/kafka/kafka.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { topicSpecifications, topicsOf } from '../../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { revisionId } from '../../../schemas/correction.ts';
import { Versions } from '../../../versions/versions.ts';
import { ADDON, tinyPath, tinyText } from '../../harness/tiny-model.ts';
import { startTestKafka } from '../../harness/servers/local.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import {
  correctionOf,
  LENIENT,
  PARAMETERS,
  SOURCE,
  makeSource,
  REVISIONS,
  TOPIC,
} from './source-lineage.ts';

vi.setConfig({ testTimeout: 120_000 });
const folder = mkdtempSync(join(tmpdir(), 'errata-from-kafka-'));
const versions = new Versions(new MemoryStore());
let broker: EmbeddedKafka;
let cluster: KafkaCluster;
let kafka: Kafka;

const engines = (within = versions): RebuildEngines =>
  new RebuildEngines(
    (parameters) =>
      LocalEngine.open({
        addonPath: ADDON,
        modelPath: tinyPath('llama'),
        statisticsFolder: join(folder, 'statistics'),
        textFile: join(folder, 'text'),
        parameters: parameters ?? PARAMETERS,
      }),
    within,
  );

const REQUEST: RebuildRequest = {
  lineage: SOURCE,
  as: 'again',
  from: 'kafka',
  to: null,
  fork: false,
  settings: LENIENT,
};

async function rebuild(
  request: Partial<RebuildRequest> = {},
  within = versions,
  stopped: () => boolean = () => false,
): Promise<Rebuilt> {
  const places = engines(within);
  try {
    return await rebuildLineage(
      { ...REQUEST, ...request },
      {
        versions: within,
        engines: places,
        kafka: () => ({ cluster, format: SINGLE_OBJECT_FORMAT }),
        progress: () => {},
        stopped,
      },
    );
  } finally {
    await places.close();
  }
}

beforeAll(async () => {
  writeFileSync(join(folder, 'text'), tinyText(9_000, 3));
  broker = await startTestKafka(folder);
  cluster = new KafkaCluster(
    { brokers: [...broker.brokers], clientId: 'test', tls: null, sasl: null },
    { debug() {}, info() {}, warn() {}, error() {} },
  );
  await cluster.ensureTopics(topicSpecifications(SOURCE, { partitions: 1, replicationFactor: 1 }));
  const places = engines();
  await makeSource(await places.with(null), versions);
  await places.close();
  kafka = new Kafka({ brokers: [...broker.brokers], logLevel: logLevel.NOTHING });
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  const codec = recordCodec('fact-correction');
  // The record of "g" differs from the one that the log was made from.
  const messages = REVISIONS.map((revision) =>
    revision.kind === 'retraction'
      ? { key: revision.factKey, value: null, timestamp: String(revision.issuedAt) }
      : {
          key: revision.factKey,
          value: codec.encode({
            ...revision.correction,
            ...(revision.correction.id === 'g' ? { target: 'piano' } : {}),
          }),
          timestamp: '2000',
        },
  );
  await producer.send({
    topic: TOPIC,
    messages: [...messages, { key: 'x', value: Buffer.from('no record'), timestamp: '2000' }],
  });
  await producer.disconnect();
}, 120_000);
afterAll(async () => {
  await broker?.stop();
  rmSync(folder, { recursive: true, force: true });
});

it('a lineage is rebuilt with its records, and a different record is reported', async () => {
  expect(await planRebuild(versions, REQUEST, cluster)).toMatchObject({
    records: { there: String(REVISIONS.length + 1), gone: '0' },
    obstacles: [],
  });
  const rebuilt = await rebuild();
  expect(rebuilt.words).toMatchObject({
    gone: 0,
    differences: [
      {
        id: 'g',
        record: expect.stringContaining(TOPIC) as string,
        what: expect.stringContaining('piano') as string,
      },
    ],
  });
  expect(rebuilt.words!.same).toBe(rebuilt.words!.records - 1);
  // Version 4 is the one of "g"; later versions were searched on top of it and have other subjects.
  expect(rebuilt.reproduction).toMatchObject({ reproduces: 'no', identical: 5, different: 1 });
  expect(rebuilt.reproduction!.comparisons[0]).toMatchObject({
    version: 4,
    changes: 'different',
  });
  expect((await versions.log('again').entry(4)).entry.added[0]).toMatchObject({
    correctionId: 'g',
    target: 'piano',
  });
});

it('a lost lineage is edited again from its records, killed midway', async () => {
  const empty = new Versions(new MemoryStore());
  expect(await planRebuild(empty, REQUEST, cluster)).toMatchObject({
    kind: 'from-records',
    obstacles: [],
  });
  let asked = 0;
  const first = await rebuild({ as: 'found' }, empty, () => asked++ === 8);
  expect(first).toMatchObject({ kind: 'from-records', interrupted: true });
  const second = await rebuild({ as: 'found' }, empty);
  expect(second).toMatchObject({
    interrupted: false,
    began: first.head,
    records: { read: REVISIONS.length + 1, gone: '0', dead: 1 },
  });
  const { active } = await empty.log('found').read();
  // Retractions and supersessions are in effect; "h" did no harm this time, and the undo has no
  // record.
  expect([...active.keys()].sort()).toEqual(['a2', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']);
  expect((await empty.verify('found')).findings).toEqual([]);
  const outcomes = await (
    await empty.log('found').register()
  ).outcomesOf(REVISIONS.map(revisionId));
  expect(outcomes.size).toBe(REVISIONS.length);
});

it('records that Kafka no longer has are counted and taken from the log', async () => {
  const admin = kafka.admin();
  await admin.connect();
  await admin.fetchTopicOffsets(TOPIC);
  await admin.deleteTopicRecords({ topic: TOPIC, partitions: [{ partition: 0, offset: '5' }] });
  await admin.disconnect();
  const rebuilt = await rebuild({ as: 'shortened', to: 2 });
  expect(rebuilt.words).toMatchObject({ gone: 5, differences: [] });
  expect(rebuilt.reproduction).toMatchObject({ reproduces: 'bit-for-bit', identical: 2 });
});

it('a lineage with ties is rebuilt from its records bit for bit', async () => {
  const topics = topicSpecifications('tied', { partitions: 2, replicationFactor: 1 });
  await cluster.ensureTopics(topics);
  const topic = 'errata.tied.corrections';
  const fact = (id: string, subject: string, target: string) => ({
    ...correctionOf(id, { subject: `town ${subject}`, target }).correction,
    lineage: 'tied',
    issuedAt: 2_000,
  });
  const retracted = { key: factKeyOf(fact('-', 'b', 'river')), value: null };
  const records = [
    [fact('a1', 'a', 'river'), fact('b1', 'b', 'river'), fact('e', 'e', 'anna'), retracted],
    [fact('a2', 'a', 'river'), fact('c1', 'c', 'river'), fact('c2', 'c', 'berlin')],
  ].map((ofPartition, partition) =>
    ofPartition.map((one) => ({
      partition,
      timestamp: '2000',
      ...('id' in one
        ? { key: factKeyOf(one), value: recordCodec('fact-correction').encode(one) }
        : one),
    })),
  );
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  await producer.send({ topic, messages: records.flat() });
  await producer.disconnect();

  const [live, empty] = [new Versions(new MemoryStore()), new Versions(new MemoryStore())];
  const batch = { ...LENIENT.batch, batchEditsMax: 3 };
  const settings = { ...LENIENT, batch };
  await editLive(live, 'tied', settings);
  const rebuilt = await rebuild({ lineage: 'tied', as: 'found', settings }, empty);
  expect(rebuilt).toMatchObject({ kind: 'from-records', records: { read: 7, dead: 0 } });
  const [source, found] = [live.log('tied'), empty.log('found')];
  const { version } = (await source.read()).head;
  expect(version).toBeGreaterThan(1);
  const same = { reproduces: 'bit-for-bit', identical: version };
  expect(await compareVersions(source, found, version)).toMatchObject(same);
  expect((await found.read()).head.version).toBe(version);
  expect([...(await found.read()).active.keys()].sort()).toEqual(['a2', 'e']);
});

/** Edits the records of a topic one by one as they arrive, like the lineage workflow. */
async function editLive(
  within: Versions,
  lineage: string,
  settings: LineageSettings,
): Promise<void> {
  const places = engines(within);
  const { steps } = await places.with(null);
  const port = localPort(steps, within, { workflowId: 'live', runId: 'live' });
  const { batch, verdict, failures } = settings;
  const state = new LineageState({ lineage, settings, carried: null });
  const edit = async (): Promise<void> => {
    const { batchId, revisions, settled } = state.startBatch(0);
    const edited = await editBatch(port, {
      lineage,
      batchId,
      revisions,
      settled,
      verdict,
      shardEditsMax: batch.shardEditsMax,
      editAttemptsMax: failures.editAttemptsMax,
    });
    state.batchSettled({ ...edited, outcomes: noOutcomes() }, 0);
  };
  const spooled = (await spoolRecords(cluster, topicsOf(lineage).corrections))!;
  for await (const record of spooled.inOrder()) {
    const { topic, partition, offset } = record;
    const decoder = await SINGLE_OBJECT_FORMAT.decoder('fact-correction', [record.value]);
    const read = readRecord(record, lineage, decoder);
    if (read.kind === 'dead') throw new Error(read.problem.message);
    const at = { firstOffset: offset, throughOffset: offset, endOffset: '100', readFrom: '0' };
    state.accept({ topic, partition, ...at, run: null, revisions: [read.revision] }, 1);
    while ((state.nextStep()?.dueAt ?? Infinity) === 0) await edit();
  }
  state.flush();
  while ((state.nextStep()?.dueAt ?? Infinity) === 0) await edit();
  await spooled.close();
  await places.close();
}
