/** Sends records with an idempotent producer that waits for all replicas. */
import {
  CompressionTypes,
  Partitioners,
  type ICustomPartitioner,
  type Kafka,
  type Message,
  type Producer,
} from 'kafkajs';
import type { BrokerConnections } from './kafka-connection.ts';
import { partitionOf } from './murmur2.ts';
import type {
  HeaderValue,
  OutgoingRecord,
  RecordHeaders,
  RecordPosition,
  RecordSender,
} from './records.ts';

/** Records in one produce request. */
const SEND_RECORDS_MAX = 500;
/** A broker's answer where it already had the records. */
const UNKNOWN_OFFSET = '-1';

export class KafkaSender implements RecordSender {
  /** The partition of each message, which kafkajs does not report. */
  readonly #partitionOf = new WeakMap<Message, number>();
  #producer: Promise<Producer> | null = null;

  constructor(
    private readonly kafka: Kafka,
    private readonly connections: BrokerConnections,
  ) {}

  async open(): Promise<Producer> {
    this.#producer ??= this.#connect();
    try {
      return await this.#producer;
    } catch (error) {
      this.#producer = null;
      throw error;
    }
  }

  async send(topic: string, records: readonly OutgoingRecord[]): Promise<RecordPosition[]> {
    const positions: RecordPosition[] = [];
    for (let from = 0; from < records.length; from += SEND_RECORDS_MAX)
      positions.push(
        ...(await this.#sendPart(topic, records.slice(from, from + SEND_RECORDS_MAX))),
      );
    return positions;
  }

  async close(): Promise<void> {
    const producer = this.#producer;
    this.#producer = null;
    await (await producer)?.disconnect();
  }

  async #connect(): Promise<Producer> {
    const producer = this.kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: this.#partitioner,
      // If the client gave up a request that the broker received, the next one would reuse its
      // sequence number, and the broker would drop the records as repeated.
      retry: { retries: Number.MAX_SAFE_INTEGER },
    });
    await this.connections.establish(producer.connect());
    return producer;
  }

  async #sendPart(topic: string, records: readonly OutgoingRecord[]): Promise<RecordPosition[]> {
    const messages = records.map(({ key, value, headers }): Message => ({
      key,
      value,
      ...(headers === undefined ? {} : { headers: writableHeaders(headers) }),
    }));
    const producer = await this.open();
    const written = await producer
      .send({ topic, acks: -1, compression: CompressionTypes.GZIP, messages })
      .catch((error: unknown) => {
        // After a failure the sequence numbers cannot be trusted: the next send uses a new
        // producer.
        this.#producer = null;
        void producer.disconnect().catch(() => undefined);
        throw error;
      });
    // The answer has the first offset per partition; records of one are in the request's order.
    const next = new Map(
      written.map(({ partition, baseOffset }) => [partition, BigInt(baseOffset ?? UNKNOWN_OFFSET)]),
    );
    return messages.map((message) => {
      const partition = this.#partitionOf.get(message) ?? -1;
      const offset = next.get(partition) ?? BigInt(UNKNOWN_OFFSET);
      if (offset >= 0n) next.set(partition, offset + 1n);
      return { topic, partition, offset: String(offset) };
    });
  }

  /** Partitions as Java's producer does, and notes the partition. */
  readonly #partitioner: ICustomPartitioner = () => {
    const chooseWithoutKey = Partitioners.DefaultPartitioner();
    return (choice) => {
      const { message, partitionMetadata } = choice;
      const key = message.key ?? null;
      const partition =
        key === null
          ? chooseWithoutKey(choice)
          : partitionOf(Buffer.from(key), partitionMetadata.length);
      this.#partitionOf.set(message, partition);
      return partition;
    };
  };
}

/** Replaces missing header values by empty ones, since kafkajs cannot write a missing value. */
function writableHeaders(
  headers: RecordHeaders,
): Record<string, Buffer | string | (Buffer | string)[]> {
  const written = (value: HeaderValue): Buffer | string => value ?? Buffer.alloc(0);
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.map(written) : written(value),
    ]),
  );
}
