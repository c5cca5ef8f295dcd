/**
 * A lineage rebuilt with the words of its records, and from its records alone: a real Kafka, a tiny
 * real model.
 */
import { Kafka, logLevel } from 'kafkajs';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EmbeddedKafka } from '../../../infra/local/kafka.ts';
import type { RebuildRequest, Rebuilt } from '../../../operations/rebuild/rebuild-run.ts';
import { rebuildLineage } from '../../../operations/rebuild/rebuild.ts';
import { planRebuild } from '../../../operations/rebuild/rebuild-plan.ts';
import { RebuildEngines } from '../../../operations/rebuild/rebuild-engines.ts';
import { LocalEngine } from '../../../model/engine/local-engine.ts';
import { KafkaCluster } from '../../../pipelines/kafka/kafka.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { topicSpecifications } from '../../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { revisionId } from '../../../schemas/correction.ts';
import { Versions } from '../../../versions/versions.ts';
import { ADDON, tinyPath, tinyText } from '../../model/tiny-model.ts';
import { startTestKafka } from '../../harness/servers/local.ts';
import { MemoryStore } from '../../versions/stores/memory-store.ts';
import { LENIENT, PARAMETERS, SOURCE, makeSource, REVISIONS, TOPIC } from './source-lineage.ts';

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
  const producer = kafka.producer();
  await producer.connect();
  const codec = recordCodec('fact-correction');
  // The record of "g" says something else than what the log was made of.
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

describe('a lineage in Kafka', { timeout: 120_000 }, () => {
  it('is made again with the words of its records, and one that says something else is found', async () => {
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
    // Version 4 is that of "g"; what follows was searched on top of it and is about other subjects.
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

  it('whose log is lost is edited anew from all its records, killed in between and gone on with', async () => {
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
    // What was retracted and superseded is; "h" spoiled nothing this time, and the undo was
    // nobody's record.
    expect([...active.keys()].sort()).toEqual(['a2', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']);
    expect((await empty.verify('found')).findings).toEqual([]);
    const outcomes = await (
      await empty.log('found').register()
    ).outcomesOf(REVISIONS.map(revisionId));
    expect(outcomes.size).toBe(REVISIONS.length);
  });

  it('says how many records Kafka no longer has, and takes the words of the log for them', async () => {
    const admin = kafka.admin();
    await admin.connect();
    await admin.fetchTopicOffsets(TOPIC);
    await admin.deleteTopicRecords({ topic: TOPIC, partitions: [{ partition: 0, offset: '5' }] });
    await admin.disconnect();
    const rebuilt = await rebuild({ as: 'shortened', to: 2 });
    expect(rebuilt.words).toMatchObject({ gone: 5, differences: [] });
    expect(rebuilt.reproduction).toMatchObject({ reproduces: 'bit-for-bit', identical: 2 });
  });
});
