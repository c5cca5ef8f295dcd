import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KafkaCluster } from '../../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord, RecordSender } from '../../../pipelines/kafka/records.ts';
import { announcerTo, outcomeKey } from '../../../pipelines/kafka/announcements.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { endsOfAnnouncements, tail, type LineageEvent } from '../../../pipelines/kafka/tail.ts';
import { topicSpecifications, topicsOf } from '../../../pipelines/kafka/topics.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import type { EmbeddedKafka } from '../../../infra/local/kafka.ts';
import { startTestKafka } from '../../harness/servers/local.ts';

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
const SETTINGS = { partitions: 3, replicationFactor: 1 };
const folder = mkdtempSync(path.join(tmpdir(), 'errata-kafka-'));

let broker: EmbeddedKafka;
let cluster: KafkaCluster;
let sender: RecordSender;

beforeAll(async () => {
  broker = await startTestKafka(folder);
  cluster = new KafkaCluster(
    { brokers: [...broker.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  sender = await cluster.sender();
});
afterAll(async () => {
  await sender?.close();
  await broker?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Collects messages and resolves when a number of them have arrived. */
class Heard<T> {
  readonly items: T[] = [];
  #wake: () => void = () => undefined;
  add(...items: T[]): void {
    this.items.push(...items);
    this.#wake();
  }
  async count(count: number): Promise<T[]> {
    while (this.items.length < count) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.items;
  }
}

it('the cluster creates topics once and leaves existing ones unchanged', async () => {
  const specifications = topicSpecifications('create', SETTINGS);
  expect((await cluster.ensureTopics(specifications)).sort()).toEqual(
    specifications.map(({ name }) => name).sort(),
  );
  expect(
    await cluster.ensureTopics(topicSpecifications('create', { ...SETTINGS, partitions: 7 })),
  ).toEqual([]);
  expect((await cluster.extents(topicsOf('create').corrections))!.size).toBe(3);
  expect((await cluster.extents(topicsOf('create').versions))!.size).toBe(1);
});

it('the cluster reads spans once, and none that Kafka lacks', async () => {
  const { corrections } = topicsOf('spans');
  expect(await cluster.extents(corrections)).toBeNull();
  await cluster.ensureTopics(topicSpecifications('spans', SETTINGS));
  const positions = await sender.send(
    corrections,
    Array.from({ length: 3_000 }, (_, i) => ({
      key: `k${i % 7}`,
      value: Buffer.from(String(i)),
    })),
  );
  const extents = (await cluster.extents(corrections))!;
  const partition = positions[0]!.partition;
  expect(extents.get(partition)!.beginning).toBe('0');
  const count = Number(extents.get(partition)!.end);
  const read = async (
    spans: Parameters<KafkaCluster['readSpans']>[1],
  ): Promise<ConsumedRecord[]> => {
    const records: ConsumedRecord[] = [];
    await cluster.readSpans(corrections, spans, (some) => void records.push(...some));
    return records;
  };
  const offsets = (records: ConsumedRecord[]): string[] => records.map((record) => record.offset);
  expect(
    offsets(
      await read([
        { partition, from: '0', through: '0' },
        { partition, from: '5', through: '7' },
        { partition, from: String(count - 1), through: String(count + 10) },
      ]),
    ),
  ).toEqual(['0', '5', '6', '7', String(count - 1)]);
  expect(
    await read([
      { partition: 99, from: '0', through: '5' },
      { partition, from: String(count), through: String(count + 5) },
    ]),
  ).toEqual([]);
  const all = await read(
    [...extents].map(([one]) => ({ partition: one, from: '0', through: '999999' })),
  );
  expect(new Set(all.map(({ value }) => value!.toString())).size).toBe(3_000);
  expect(all).toHaveLength(3_000);
});

it('the cluster creates topics for several processes at once', async () => {
  const specifications = topicSpecifications('race', SETTINGS);
  const created = await Promise.all([
    cluster.ensureTopics(specifications),
    cluster.ensureTopics(specifications),
  ]);
  expect(new Set(created.flat()).size).toBe(specifications.length);
});

it('the cluster reports the position of each record', async () => {
  await cluster.ensureTopics(topicSpecifications('positions', SETTINGS));
  const topic = topicsOf('positions').corrections;
  const heard = new Heard<ConsumedRecord>();
  const reader = await cluster.follow([topic], 'beginning', (records) => heard.add(...records));
  const sent = Array.from({ length: 40 }, (_, i) => ({
    key: `key ${i % 7}`,
    value: Buffer.from(`value ${i}`),
    headers: { n: String(i) },
  }));
  const positions = [
    ...(await sender.send(topic, sent.slice(0, 30))),
    ...(await sender.send(topic, sent.slice(30))),
  ];
  const records = await heard.count(40);
  for (const record of records) {
    const i = positions.findIndex(
      ({ partition, offset }) => partition === record.partition && offset === record.offset,
    );
    expect({
      value: record.value?.toString(),
      key: record.key?.toString(),
      n: record.headers['n']?.toString(),
    }).toEqual({ value: `value ${i}`, key: `key ${i % 7}`, n: String(i) });
  }
  expect(new Set(positions.map(({ partition }) => partition)).size).toBeGreaterThan(1);
  await reader.stop();
});

it('the cluster sends records again to a follower that could not read them yet', async () => {
  await cluster.ensureTopics(topicSpecifications('again', SETTINGS));
  const topic = topicsOf('again').corrections;
  await sender.send(
    topic,
    Array.from({ length: 5 }, (_, i) => ({ key: 'one key', value: Buffer.from(String(i)) })),
  );
  const heard = new Heard<string>();
  let tries = 0;
  const reader = await cluster.follow([topic], 'beginning', (records) => {
    heard.add(...records.map(({ value }) => value!.toString()));
    return Promise.resolve(++tries < 3 ? 'again' : undefined);
  });
  await sender.send(topic, [{ key: 'one key', value: Buffer.from('5') }]);
  const values = await heard.count(16);
  expect(values.filter((value) => value === '0')).toHaveLength(3);
  expect(values.slice(values.lastIndexOf('0'))).toEqual(['0', '1', '2', '3', '4', '5']);
  await reader.stop();
});

it('the cluster reports the lag of a group, even before it has read anything', async () => {
  await cluster.ensureTopics(topicSpecifications('lag', SETTINGS));
  const topic = topicsOf('lag').corrections;
  await sender.send(
    topic,
    Array.from({ length: 5 }, () => ({ key: 'one key', value: Buffer.from('v') })),
  );
  const total = async (): Promise<number> =>
    (await cluster.lagOf('lag-group', [topic])).reduce((sum, { lag }) => sum + lag, 0);
  expect(await total()).toBe(5);
  const heard = new Heard<string>();
  const reader = await cluster.read('lag-group', [topic], async (batch) => {
    // Two are processed; the others wait.
    const through = batch.records.filter(({ offset }) => BigInt(offset) < 2n).at(-1);
    if (through !== undefined) await batch.done(through.offset);
    heard.add(batch.topic);
    batch.pauseForMs(60_000);
  });
  await heard.count(1);
  await reader.stop();
  expect(await total()).toBe(3);
});

it('the cluster continues at its position after the broker is killed and returns', async () => {
  await cluster.ensureTopics(topicSpecifications('killed', SETTINGS));
  const topic = topicsOf('killed').corrections;
  const heard = new Heard<string>();
  const reader = await cluster.follow([topic], 'end', (records) =>
    heard.add(...records.map(({ value }) => value!.toString())),
  );
  const send = (from: number) =>
    sender.send(
      topic,
      Array.from({ length: 50 }, (_, i) => ({
        key: `k${i % 5}`,
        value: Buffer.from(String(from + i)),
      })),
    );
  await send(0);
  await heard.count(50);
  process.kill(broker.pid, 'SIGKILL');
  const whileAway = send(50);
  broker = await startTestKafka(folder);
  await whileAway;
  await send(100);
  const values = await heard.count(150);
  expect(values.map(Number).sort((a, b) => a - b)).toEqual(
    Array.from({ length: 150 }, (_, i) => i),
  );
  await reader.stop();
});

describe('announcements', () => {
  const outcome = (revisionId: string, more: Partial<Outcome> = {}): Outcome => ({
    lineage: 'announced',
    revisionId,
    factKey: 'a|b',
    status: 'COMMITTED',
    version: 1,
    reason: null,
    measured: { loss: 0.5, code: 'x' },
    position: { topic: topicsOf('announced').corrections, partition: 1, offset: '9' },
    batchId: 'b',
    decidedAt: 5,
    ...more,
  });

  it('are received from previously taken positions', async () => {
    await cluster.ensureTopics(topicSpecifications('announced', SETTINGS));
    const announcer = announcerTo(sender, SINGLE_OBJECT_FORMAT);
    await announcer.announceOutcomes('announced', [outcome('before')]);
    const from = await endsOfAnnouncements(cluster, ['announced']);
    const version = {
      lineage: 'announced',
      version: 2,
      hash: 'h',
      parent: null,
      batchId: 'b',
      added: 1,
      removed: 0,
      corrections: 1,
      createdAt: 7,
    };
    await announcer.announceOutcomes('announced', [outcome('after')]);
    await announcer.announceVersion(version);
    await sender.send(topicsOf('announced').outcomes, [
      { key: 'stranger', value: Buffer.from('not ours') },
    ]);
    const heard = new Heard<LineageEvent>();
    const reader = await tail(
      cluster,
      ['announced'],
      { from, format: SINGLE_OBJECT_FORMAT },
      (announcement) => heard.add(announcement),
    );
    const items = await heard.count(3);
    expect(items).toContainEqual({
      kind: 'outcome',
      lineage: 'announced',
      outcome: outcome('after'),
    });
    expect(items).toContainEqual({ kind: 'version', lineage: 'announced', version });
    expect(items.some(({ kind }) => kind === 'unreadable')).toBe(true);
    await reader.stop();
  });

  // Regression: under the same key compaction would forget that the first record was committed.
  it('of a duplicate have a key of their own', () => {
    expect(outcomeKey(outcome('c'))).toBe('c');
    expect(outcomeKey(outcome('c', { status: 'DUPLICATE' }))).toBe('c@1-9');
  });
});
