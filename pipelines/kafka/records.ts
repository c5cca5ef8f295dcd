/** Types for records, topics and readers, independent of the Kafka client. */

export interface TopicSpecification {
  name: string;
  partitions: number;
  replicationFactor: number;
  configuration: Record<string, string>;
}

export interface OutgoingRecord {
  key: Buffer | string | null;
  /** Null: a tombstone. */
  value: Buffer | null;
  headers?: RecordHeaders;
}

/** A name may occur several times, and without a value. */
export type RecordHeaders = Record<string, HeaderValue | HeaderValue[]>;
export type HeaderValue = Buffer | string | null;

export interface RecordPosition {
  topic: string;
  partition: number;
  offset: string;
}

export interface ConsumedRecord extends RecordPosition {
  /** Kafka's timestamp of the record, milliseconds since 1970. */
  timestamp: number;
  key: Buffer | null;
  value: Buffer | null;
  headers: RecordHeaders;
}

/** Successive records of one partition, for one reader. */
export interface PartitionBatch {
  topic: string;
  partition: number;
  records: ConsumedRecord[];
  /** The offset that was requested: there are no records between it and the first one. */
  fromOffset: string;
  /** The next offset that the broker will assign (the partition's high watermark). */
  endOffset: string;
  /** Commits everything through this offset, so that it is not read again. */
  done(throughOffset: string): Promise<void>;
  /** Tells the group that this member is alive; throws when it has lost the partition. */
  heartbeat(): Promise<void>;
  /** Pauses the partition; the reader returns and gets the rest afterwards. */
  pauseForMs(pauseMs: number): void;
  /** Continues at this offset; the reader returns. */
  seek(offset: string): void;
  /** False once the consumer stops or lost the partition: return without taking more. */
  mine(): boolean;
}

/** Records of one partition from an offset through another, both included. */
export interface RecordSpan {
  partition: number;
  from: string;
  through: string;
}

/** The first offset that exists, and the next that will be assigned. */
export interface PartitionExtent {
  beginning: string;
  end: string;
}

export interface PartitionLag extends PartitionExtent {
  topic: string;
  partition: number;
  /** The next offset that the group would read; null where it has committed none. */
  committed: string | null;
  lag: number;
}

export interface RecordReader {
  /** Leaves the group after the current batch. */
  stop(): Promise<void>;
  /** Resolves with the reason when reading ends without a call of `stop`. */
  readonly ended: Promise<Error>;
  /** Resolves when the reader first joins its group. */
  readonly ready: Promise<void>;
  /** Whether it is a member of its group now. */
  joined(): boolean;
  /** Whether the partition is assigned to this member. */
  owns(topic: string, partition: number): boolean;
  /** Continues one of its partitions at this offset. */
  seek(position: RecordPosition): void;
}

export interface RecordSender {
  /**
   * Resolves when all replicas in sync have the records, with their positions in order (offset -1
   * where a broker did not report it).
   */
  send(topic: string, records: readonly OutgoingRecord[]): Promise<RecordPosition[]>;
  close(): Promise<void>;
}
