/**
 * The state after a run: all records of the topics, the group's offsets and all objects of the
 * store. It is read without the pipelines and versions/.
 */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import type { Answers } from '../system/answers.ts';
import type { OrderedUndo } from '../undo-orders.ts';

export interface TopicRecord {
  partition: number;
  offset: string;
  timestamp: number;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, string>;
}

export interface PartitionOffsets {
  partition: number;
  end: string;
  /** Null if the group never committed one. */
  committed: string | null;
}

export interface World {
  lineage: string;
  corrections: TopicRecord[];
  deadLetters: TopicRecord[];
  outcomes: TopicRecord[];
  versions: TopicRecord[];
  /** Offsets of ingest's consumer group on the corrections topic. */
  offsets: PartitionOffsets[];
  /** Every file below the store's folder, by its path in it. */
  store: Map<string, Buffer>;
  /** The ordered undos, with their ends according to Temporal. */
  undos: OrderedUndo[];
  /** The final answers of `serve`; null if it was not queried. */
  answers: Answers | null;
}

export async function readWorld(
  { brokers, versionsFolder }: { brokers: string[]; versionsFolder: string },
  lineage: string,
  group: string,
  known: Pick<World, 'undos' | 'answers'>,
): Promise<World> {
  const kafka = new Kafka({
    clientId: 'checker',
    brokers,
    logLevel: logLevel.NOTHING,
    retry: { retries: 20, maxRetryTime: 2_000 },
  });
  const topic = `errata.${lineage}`;
  const corrections = await recordsOf(kafka, `${topic}.corrections`);
  const deadLetters = await recordsOf(kafka, `${topic}.corrections.dlq`);
  const outcomes = await recordsOf(kafka, `${topic}.outcomes`);
  const versions = await recordsOf(kafka, `${topic}.versions`);
  return {
    lineage,
    corrections,
    deadLetters,
    outcomes,
    versions,
    offsets: await offsetsOf(kafka, group, `${topic}.corrections`),
    store: filesOf(versionsFolder),
    ...known,
  };
}

/** Reads all records of a topic, each partition in order. */
async function recordsOf(kafka: Kafka, topic: string): Promise<TopicRecord[]> {
  const admin = kafka.admin();
  await admin.connect();
  const ends = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const records: TopicRecord[] = [];
  const left = new Map(
    ends
      .filter(({ low, high }) => low !== high)
      .map(({ partition, high }) => [partition, BigInt(high)]),
  );
  if (left.size === 0) return records;
  const consumer = kafka.consumer({
    groupId: `checker-${topic}-${process.pid}-${Date.now()}`,
    maxWaitTimeInMs: 250,
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    consumer
      .run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const { offset, timestamp, key, value, headers } of batch.messages) {
            records.push({
              partition: batch.partition,
              offset,
              timestamp: Number(timestamp),
              key,
              value,
              headers: textsOf(headers ?? {}),
            });
          }
          if (BigInt(batch.lastOffset()) + 1n >= (left.get(batch.partition) ?? 0n))
            left.delete(batch.partition);
          if (left.size === 0) resolve();
        },
      })
      .catch(reject);
  });
  await consumer.disconnect();
  return records.sort(
    (a, b) => a.partition - b.partition || Number(BigInt(a.offset) - BigInt(b.offset)),
  );
}

async function offsetsOf(kafka: Kafka, group: string, topic: string): Promise<PartitionOffsets[]> {
  const admin = kafka.admin();
  await admin.connect();
  const [ends, committed] = [
    await admin.fetchTopicOffsets(topic),
    await admin.fetchOffsets({ groupId: group, topics: [topic] }),
  ];
  await admin.disconnect();
  const at = new Map(committed[0]?.partitions.map(({ partition, offset }) => [partition, offset]));
  return ends.map(({ partition, high }) => ({
    partition,
    end: high,
    committed: (at.get(partition) ?? '-1') === '-1' ? null : at.get(partition)!,
  }));
}

function filesOf(folder: string): Map<string, Buffer> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    files.map((entry) => [
      path.relative(folder, path.join(entry.parentPath, entry.name)),
      readFileSync(path.join(entry.parentPath, entry.name)),
    ]),
  );
}

function textsOf(
  headers: Record<string, Buffer | string | (Buffer | string)[] | undefined>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      String(Array.isArray(value) ? value.at(-1) : value),
    ]),
  );
}
