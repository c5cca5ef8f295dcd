/** Follows what a lineage announces. */
import { recordCodec } from '../schemas/avro.ts';
import { UndecodableRecord } from '../schemas/failures.ts';
import type { Outcome } from '../schemas/editing.ts';
import type { HookVersion } from '../schemas/hook-version.ts';
import { originOf } from './dead-letter.ts';
import type { ConsumedRecord, KafkaCluster, RecordReader } from './kafka.ts';
import { topicsOf } from './topics.ts';

export type Announcement =
  | { kind: 'outcome'; lineage: string; outcome: Outcome }
  | { kind: 'version'; lineage: string; version: HookVersion }
  | { kind: 'dead-letter'; lineage: string; origin: { topic: string; partition: number; offset: string }; className: string; message: string }
  /** A record on an announcing topic that is none of ours. */
  | { kind: 'unreadable'; topic: string; partition: number; offset: string; message: string };

export interface TailOptions {
  /**
   * `end`: what is announced from now on; positions by `<topic>-<partition>` as `announcedSoFar` gave them: what was
   * announced since then. Take them before submitting, and no outcome is missed.
   */
  from: 'beginning' | 'end' | ReadonlyMap<string, string>;
  deadLetters?: boolean;
}

/** Where the announcing topics end now. */
export async function announcedSoFar(cluster: KafkaCluster, lineages: readonly string[]): Promise<Map<string, string>> {
  const ends = new Map<string, string>();
  for (const topic of lineages.flatMap((lineage) => announcingTopics(lineage, true))) {
    for (const [partition, offset] of await cluster.endOffsets(topic)) ends.set(`${topic}-${partition}`, offset);
  }
  return ends;
}

export async function tail(cluster: KafkaCluster, lineages: readonly string[], options: TailOptions, onAnnouncement: (announcement: Announcement) => void): Promise<RecordReader> {
  const topics = lineages.flatMap((lineage) => announcingTopics(lineage, options.deadLetters ?? false));
  const read = new Map<string, (record: ConsumedRecord) => Announcement>(lineages.flatMap(readersOf));
  return await cluster.follow(topics, options.from, (records) => {
    for (const record of records) {
      // A compacted topic may hold tombstones; they announce nothing.
      if (record.value !== null || record.topic.endsWith('.dlq')) onAnnouncement(read.get(record.topic)!(record));
    }
  });
}

function announcingTopics(lineage: string, deadLetters: boolean): string[] {
  const topics = topicsOf(lineage);
  return deadLetters ? [topics.outcomes, topics.versions, topics.deadLetters] : [topics.outcomes, topics.versions];
}

const outcomeCodec = recordCodec('correction-outcome');
const versionCodec = recordCodec('hook-version');

function readersOf(lineage: string): [string, (record: ConsumedRecord) => Announcement][] {
  const topics = topicsOf(lineage);
  const decoded = (decode: (bytes: Buffer) => Announcement) => (record: ConsumedRecord): Announcement => {
    try {
      return decode(record.value!);
    } catch (error) {
      if (!(error instanceof UndecodableRecord)) throw error;
      return { kind: 'unreadable', topic: record.topic, partition: record.partition, offset: record.offset, message: error.message };
    }
  };
  return [
    [topics.outcomes, decoded((bytes) => ({ kind: 'outcome', lineage, outcome: outcomeCodec.decode(bytes) }))],
    [topics.versions, decoded((bytes) => ({ kind: 'version', lineage, version: versionCodec.decode(bytes) }))],
    [topics.deadLetters, (record) => deadLetterAnnouncement(lineage, record)],
  ];
}

function deadLetterAnnouncement(lineage: string, record: ConsumedRecord): Announcement {
  const origin = originOf(record);
  if (origin === null) return { kind: 'unreadable', topic: record.topic, partition: record.partition, offset: record.offset, message: 'a dead letter without its origin' };
  const { className, message, ...position } = origin;
  return { kind: 'dead-letter', lineage, origin: position, className, message };
}
