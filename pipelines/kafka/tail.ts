/** Follows a lineage's announcements. */
import type { Outcome } from '../../schemas/outcome.ts';
import { SchemaRegistryUnavailable, UndecodableRecord } from '../../schemas/failures.ts';
import type { HookVersion } from '../../schemas/hook-version.ts';
import { originOf } from './dead-letter.ts';
import type { KafkaCluster } from './kafka.ts';
import type { RecordFormat } from './record-format.ts';
import type { ConsumedRecord, RecordPosition, RecordReader } from './records.ts';
import { topicsOf } from './topics.ts';

export type LineageEvent =
  | { kind: 'outcome'; lineage: string; outcome: Outcome }
  | { kind: 'version'; lineage: string; version: HookVersion }
  | {
      kind: 'dead-letter';
      lineage: string;
      origin: RecordPosition;
      className: string;
      message: string;
    }
  /** A record that Errata did not write. */
  | ({ kind: 'unreadable'; message: string } & RecordPosition);

interface TailOptions {
  /**
   * `end`: announcements from now on. Positions (`endsOfAnnouncements`): announcements since then;
   * take them before submitting, and no outcome is missed.
   */
  from: 'beginning' | 'end' | readonly RecordPosition[];
  deadLetters?: boolean;
  format: RecordFormat;
  /** Called once when the schema registry becomes unavailable. No announcement is missed. */
  onWait?: (reason: string) => void;
}

/** Returns the current ends of the announcing topics. */
export async function endsOfAnnouncements(
  cluster: KafkaCluster,
  lineages: readonly string[],
): Promise<RecordPosition[]> {
  const ends: RecordPosition[] = [];
  for (const topic of lineages.flatMap((lineage) => announcingTopics(lineage, true)))
    for (const [partition, { end }] of (await cluster.extents(topic)) ?? [])
      ends.push({ topic, partition, offset: end });
  return ends;
}

export async function tail(
  cluster: KafkaCluster,
  lineages: readonly string[],
  { from, format, deadLetters = false, onWait }: TailOptions,
  onEvent: (event: LineageEvent) => void,
): Promise<RecordReader> {
  const topics = lineages.flatMap((lineage) => announcingTopics(lineage, deadLetters));
  const sources = new Map(lineages.flatMap((lineage) => sourcesOf(lineage)));
  let isWaiting = false;
  return await cluster.follow(topics, from, async (records) => {
    try {
      const eventOf = await sources.get(records[0]!.topic)!(format, records);
      isWaiting = false;
      for (const record of records) {
        const event = eventOf(record);
        if (event !== null) onEvent(event);
      }
      return undefined;
    } catch (fault) {
      if (!(fault instanceof SchemaRegistryUnavailable)) throw fault;
      if (!isWaiting) onWait?.(fault.message);
      isWaiting = true;
      return 'again';
    }
  });
}

function announcingTopics(lineage: string, deadLetters: boolean): string[] {
  const topics = topicsOf(lineage);
  return [topics.outcomes, topics.versions, ...(deadLetters ? [topics.deadLetters] : [])];
}

/** Loads the schemas of a partition's records and returns a function that makes events. */
type Source = (
  format: RecordFormat,
  records: readonly ConsumedRecord[],
) => Promise<(record: ConsumedRecord) => LineageEvent | null>;

function sourcesOf(lineage: string): [topic: string, Source][] {
  const topics = topicsOf(lineage);
  return [
    [
      topics.outcomes,
      async (format, records) => {
        const decoder = await format.decoder('correction-outcome', valuesOf(records));
        return decoded((bytes) => ({ kind: 'outcome', lineage, outcome: decoder.decode(bytes) }));
      },
    ],
    [
      topics.versions,
      async (format, records) => {
        const decoder = await format.decoder('hook-version', valuesOf(records));
        return decoded((bytes) => ({ kind: 'version', lineage, version: decoder.decode(bytes) }));
      },
    ],
    [topics.deadLetters, async () => (record) => deadLetterEvent(lineage, record)],
  ];
}

function valuesOf(records: readonly ConsumedRecord[]): (Buffer | null)[] {
  return records.map(({ value }) => value);
}

function decoded(decode: (bytes: Buffer) => LineageEvent) {
  return (record: ConsumedRecord): LineageEvent | null => {
    // A compacted topic may hold tombstones, which announce nothing.
    if (record.value === null) return null;
    try {
      return decode(record.value);
    } catch (error) {
      if (error instanceof UndecodableRecord) return unreadable(record, error.message);
      throw error;
    }
  };
}

function deadLetterEvent(lineage: string, record: ConsumedRecord): LineageEvent {
  const origin = originOf(record);
  if (origin === null) return unreadable(record, 'a dead letter without its origin');
  const { className, message, ...position } = origin;
  return { kind: 'dead-letter', lineage, origin: position, className, message };
}

function unreadable({ topic, partition, offset }: RecordPosition, message: string): LineageEvent {
  return { kind: 'unreadable', topic, partition, offset, message };
}
