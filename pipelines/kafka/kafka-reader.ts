/** Reads records with a kafkajs consumer. Its handler decides how far a batch is committed. */
import type { Consumer, EachBatchPayload, KafkaMessage } from 'kafkajs';
import type { Logger } from '../logger.ts';
import type {
  ConsumedRecord,
  HeaderValue,
  PartitionBatch,
  RecordHeaders,
  RecordPosition,
  RecordReader,
} from './records.ts';

const PARTITIONS_AT_ONCE_MAX = 16;

/** Next positions, keyed by `positionKey`. */
export type Positions = Map<string, RecordPosition>;

interface ReaderParts {
  consumer: Consumer;
  topics: readonly string[];
  onBatch: (batch: PartitionBatch) => Promise<void>;
  logger: Logger;
  /**
   * The next position of each partition, kept up to date by the reader, which commits nothing.
   * Null: the group's committed offsets.
   */
  positions: Positions | null;
}

export function positionKey({ topic, partition }: Omit<RecordPosition, 'offset'>): string {
  return `${topic}-${partition}`;
}

export class KafkaReader implements RecordReader {
  readonly #timers = new Set<NodeJS.Timeout>();
  #assigned: Record<string, number[]> = {};
  #joined = false;
  #stopping = false;
  #resolveEnded: (reason: Error) => void = () => undefined;
  #resolveReady: () => void = () => undefined;
  readonly ended = new Promise<Error>((resolve) => (this.#resolveEnded = resolve));
  readonly ready = new Promise<void>((resolve) => (this.#resolveReady = resolve));

  private constructor(private readonly parts: ReaderParts) {}

  static async start(parts: ReaderParts): Promise<KafkaReader> {
    const reader = new KafkaReader(parts);
    reader.#listen();
    await parts.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: PARTITIONS_AT_ONCE_MAX,
      eachBatch: (payload) => reader.#take(payload),
    });
    return reader;
  }

  joined(): boolean {
    return this.#joined;
  }

  owns(topic: string, partition: number): boolean {
    return this.#joined && (this.#assigned[topic]?.includes(partition) ?? false);
  }

  seek(position: RecordPosition): void {
    this.parts.consumer.seek(position);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await this.parts.consumer.disconnect();
  }

  #listen(): void {
    const { consumer, topics, logger, positions } = this.parts;
    const { GROUP_JOIN, REBALANCING, DISCONNECT, CRASH } = consumer.events;
    consumer.on(GROUP_JOIN, ({ payload }) => {
      this.#assigned = payload.memberAssignment;
      // Also needed after a break: without commits the group would begin at the beginning.
      for (const position of positions?.values() ?? []) consumer.seek(position);
      this.#joined = true;
      this.#resolveReady();
    });
    consumer.on(REBALANCING, () => (this.#joined = false));
    consumer.on(DISCONNECT, () => (this.#joined = false));
    consumer.on(CRASH, ({ payload: { error, restart } }) => {
      this.#joined = false;
      logger.warn({ topics, error: error.message, restart }, 'Kafka reader broke off');
      if (!restart) this.#resolveEnded(error);
    });
  }

  async #take(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload;
    const start = this.parts.positions?.get(positionKey(batch))?.offset;
    const records = batch.messages
      .filter(({ offset }) => start === undefined || BigInt(offset) >= BigInt(start))
      .map((message) => consumedRecord(message, batch));
    if (records.length === 0) payload.resolveOffset(batch.lastOffset());
    else await this.parts.onBatch(this.#batchOf(records, payload));
  }

  #batchOf(records: ConsumedRecord[], payload: EachBatchPayload): PartitionBatch {
    const { consumer, positions } = this.parts;
    const { topic, partition, highWatermark } = payload.batch;
    return {
      topic,
      partition,
      records,
      // kafkajs has this field but does not declare it.
      fromOffset: (payload.batch as unknown as { fetchedOffset: string }).fetchedOffset,
      endOffset: highWatermark,
      done: async (throughOffset) => {
        const offset = String(BigInt(throughOffset) + 1n);
        payload.resolveOffset(throughOffset);
        if (positions !== null)
          positions.set(positionKey(payload.batch), { topic, partition, offset });
        else
          await payload.commitOffsetsIfNecessary({
            topics: [{ topic, partitions: [{ partition, offset }] }],
          });
      },
      heartbeat: () => payload.heartbeat(),
      pauseForMs: (pauseMs) => {
        const resume = payload.pause();
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          if (!this.#stopping) resume();
        }, pauseMs);
        this.#timers.add(timer);
      },
      seek: (offset) => consumer.seek({ topic, partition, offset }),
      mine: () => payload.isRunning() && !payload.isStale() && !this.#stopping,
    };
  }
}

function consumedRecord(
  { offset, timestamp, key, value, headers }: KafkaMessage,
  { topic, partition }: EachBatchPayload['batch'],
): ConsumedRecord {
  return {
    topic,
    partition,
    offset,
    timestamp: Number(timestamp),
    key,
    value,
    headers: headersOf(headers ?? {}),
  };
}

/**
 * Cleans headers up. Where a header has the name of an inherited member (`constructor`), kafkajs
 * makes a list that begins with the inherited value.
 */
function headersOf(headers: Record<string, unknown>): RecordHeaders {
  const isValue = (value: unknown): value is HeaderValue =>
    value === null || typeof value === 'string' || Buffer.isBuffer(value);
  const entries = Object.entries(headers).map(
    ([name, value]): [string, HeaderValue | HeaderValue[]] => {
      if (isValue(value)) return [name, value];
      const values = Array.isArray(value) ? value.filter(isValue) : [];
      return [name, values.length === 1 ? (values[0] ?? null) : values];
    },
  );
  return Object.fromEntries(entries);
}
