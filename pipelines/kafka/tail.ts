/** Follows what a lineage announces. */
import { SchemaRegistryUnavailable, UndecodableRecord } from '../../schemas/failures.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { HookVersion } from '../../schemas/hook-version.ts';
import { originOf } from './dead-letter.ts';
import type { ConsumedRecord, KafkaCluster, RecordReader } from './kafka.ts';
import type { RecordFormat } from './record-format.ts';
import { topicsOf } from './topics.ts';

export type LineageEvent =
  | { kind: 'outcome'; lineage: string; outcome: Outcome }
  | { kind: 'version'; lineage: string; version: HookVersion }
  | {
      kind: 'dead-letter';
      lineage: string;
      origin: { topic: string; partition: number; offset: string };
      className: string;
      message: string;
    }
  /** A record on an announcing topic that is none of ours. */
  | { kind: 'unreadable'; topic: string; partition: number; offset: string; message: string };

export interface TailOptions {
  /**
   * `end`: what is announced from now on; positions by `<topic>-<partition>` as `endsOfAnnouncements`
   * gave them: what was announced since then. Take them before submitting, and no outcome is
   * missed.
   */
  from: 'beginning' | 'end' | ReadonlyMap<string, string>;
  deadLetters?: boolean;
  format: RecordFormat;
  /**
   * Told why what was announced cannot be read for now, once until it can: the schema registry is
   * away. Nothing is missed.
   */
  waits?: (reason: string) => void;
}

/** Where the announcing topics end now. */
export async function endsOfAnnouncements(
  cluster: KafkaCluster,
  lineages: readonly string[],
): Promise<Map<string, string>> {
  const ends = new Map<string, string>();
  for (const topic of lineages.flatMap((lineage) => announcingTopics(lineage, true))) {
    for (const [partition, offset] of await cluster.endOffsets(topic))
      ends.set(`${topic}-${partition}`, offset);
  }
  return ends;
}

export async function tail(
  cluster: KafkaCluster,
  lineages: readonly string[],
  options: TailOptions,
  onAnnouncement: (announcement: LineageEvent) => void,
): Promise<RecordReader> {
  const topics = lineages.flatMap((lineage) =>
    announcingTopics(lineage, options.deadLetters ?? false),
  );
  const readers = new Map(lineages.flatMap((lineage) => readersOf(lineage, options.format)));
  let waiting = false;
  return await cluster.follow(topics, options.from, async (records) => {
    const read = await readers.get(records[0]!.topic)!(records).catch((fault: unknown) => {
      if (fault instanceof SchemaRegistryUnavailable) return fault;
      throw fault;
    });
    if (read instanceof SchemaRegistryUnavailable) {
      if (!waiting) options.waits?.(read.message);
      waiting = true;
      return 'again';
    }
    waiting = false;
    for (const record of records) {
      // A compacted topic may hold tombstones; they announce nothing.
      if (record.value !== null || record.topic.endsWith('.dlq')) onAnnouncement(read(record));
    }
    return undefined;
  });
}

function announcingTopics(lineage: string, deadLetters: boolean): string[] {
  const topics = topicsOf(lineage);
  return deadLetters
    ? [topics.outcomes, topics.versions, topics.deadLetters]
    : [topics.outcomes, topics.versions];
}

/** Reads a partition's successive records once it knows the schemas that wrote them. */
type AnnouncementReader = (
  records: readonly ConsumedRecord[],
) => Promise<(record: ConsumedRecord) => LineageEvent>;

function readersOf(lineage: string, format: RecordFormat): [string, AnnouncementReader][] {
  const topics = topicsOf(lineage);
  const valuesOf = (records: readonly ConsumedRecord[]): (Buffer | null)[] =>
    records.map(({ value }) => value);
  const decoded =
    (decode: (bytes: Buffer) => LineageEvent) =>
    (record: ConsumedRecord): LineageEvent => {
      try {
        return decode(record.value!);
      } catch (error) {
        if (!(error instanceof UndecodableRecord)) throw error;
        return {
          kind: 'unreadable',
          topic: record.topic,
          partition: record.partition,
          offset: record.offset,
          message: error.message,
        };
      }
    };
  return [
    [
      topics.outcomes,
      async (records) => {
        const decoder = await format.decoder('correction-outcome', valuesOf(records));
        return decoded((bytes) => ({ kind: 'outcome', lineage, outcome: decoder.decode(bytes) }));
      },
    ],
    [
      topics.versions,
      async (records) => {
        const decoder = await format.decoder('hook-version', valuesOf(records));
        return decoded((bytes) => ({ kind: 'version', lineage, version: decoder.decode(bytes) }));
      },
    ],
    [topics.deadLetters, async () => (record) => deadLetterAnnouncement(lineage, record)],
  ];
}

function deadLetterAnnouncement(lineage: string, record: ConsumedRecord): LineageEvent {
  const origin = originOf(record);
  if (origin === null)
    return {
      kind: 'unreadable',
      topic: record.topic,
      partition: record.partition,
      offset: record.offset,
      message: 'a dead letter without its origin',
    };
  const { className, message, ...position } = origin;
  return { kind: 'dead-letter', lineage, origin: position, className, message };
}
