/**
 * The project's interface to Kafka; only the `kafka*.ts` files know kafkajs. Producers are
 * idempotent and wait for all replicas. Consumers commit only through the offset that their reader
 * reports as done.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, type Admin, type Consumer } from 'kafkajs';
import type { Logger } from '../logger.ts';
import {
  BrokerConnections,
  clientConfiguration,
  RETRY_WAIT_MS,
  type KafkaSettings,
} from './kafka-connection.ts';
import { KafkaReader, positionKey, type Positions } from './kafka-reader.ts';
import { KafkaSender } from './kafka-sender.ts';
import { SpanReading } from './kafka-spans.ts';
import type {
  ConsumedRecord,
  PartitionBatch,
  PartitionExtent,
  PartitionLag,
  RecordPosition,
  RecordReader,
  RecordSender,
  RecordSpan,
  TopicSpecification,
} from './records.ts';

const ADMINISTRATION_ATTEMPTS_MAX = 8;
/** Time after which a killed reader is noticed; its partitions wait until then. */
const SESSION_MS = 10_000;
const HEARTBEAT_MS = 2_000;
/** Longest wait of one fetch. `disconnect()` waits for the open fetch. */
const FETCH_WAIT_MS = 250;
const FOLLOW_AGAIN_MS = 1_000;
const TOPIC_READY_WAIT_MS = 15_000;
/**
 * Bytes of one partition in one fetch, as the broker stores them; a larger batch of a producer is
 * fetched whole. kafkajs fetches again only after a whole fetch is handled, and fetches a paused
 * partition again from its position. A larger bound would delay other partitions and decompress
 * records in vain at every try.
 */
const FETCH_PARTITION_BYTES_MAX = 65_536;

/** An offset that a group has not committed. */
const NO_OFFSET = '-1';

/**
 * A client of one cluster, which connects as needed. Methods that connect throw `ChannelRefused`
 * where the brokers refuse this client or it does not trust them. The constructor throws it for a
 * certificate and key that do not match.
 */
export class KafkaCluster {
  readonly #kafka: Kafka;
  readonly #connections: BrokerConnections;

  constructor(
    settings: KafkaSettings,
    private readonly logger: Logger,
  ) {
    this.#connections = new BrokerConnections(settings);
    this.#kafka = new Kafka(clientConfiguration(settings, this.#connections, logger));
  }

  /** Creates the missing topics and returns their names; existing ones keep their configuration. */
  async ensureTopics(specifications: readonly TopicSpecification[]): Promise<string[]> {
    return await this.#administrate(async (admin) => {
      const existing = new Set(await admin.listTopics());
      const missing = specifications.filter(({ name }) => !existing.has(name));
      if (missing.length === 0) return [];
      const topics = missing.map(({ name, partitions, replicationFactor, configuration }) => ({
        topic: name,
        numPartitions: partitions,
        replicationFactor,
        configEntries: Object.entries(configuration).map(([key, value]) => ({ name: key, value })),
      }));
      try {
        await admin.createTopics({ topics, waitForLeaders: true, timeout: TOPIC_READY_WAIT_MS });
      } catch (error) {
        // Another process may have created some meanwhile; anything else is a fault.
        const present = new Set(await admin.listTopics());
        if (missing.some(({ name }) => !present.has(name))) throw error;
      }
      return missing.map(({ name }) => name);
    });
  }

  /** Returns the extent of each partition; null for a topic that does not exist. */
  async extents(topic: string): Promise<Map<number, PartitionExtent> | null> {
    return await this.#administrate(async (admin) =>
      (await admin.listTopics()).includes(topic) ? await extentsOf(admin, topic) : null,
    );
  }

  /** Returns a group's lag on each partition of the topics. */
  async lagOf(group: string, topics: readonly string[]): Promise<PartitionLag[]> {
    return await this.#administrate(async (admin) => {
      const lags: PartitionLag[] = [];
      for (const { topic, partitions } of await admin.fetchOffsets({
        groupId: group,
        topics: [...topics],
      }))
        for (const [partition, extent] of await extentsOf(admin, topic)) {
          const found = partitions.find((one) => one.partition === partition)?.offset ?? NO_OFFSET;
          const committed = found === NO_OFFSET ? null : found;
          const lag = Number(BigInt(extent.end) - BigInt(committed ?? extent.beginning));
          lags.push({ topic, partition, ...extent, committed, lag });
        }
      return lags.sort((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition);
    });
  }

  /** Returns the number of a group's members; 0 for an unknown group. */
  async membersOf(group: string): Promise<number> {
    const { groups } = await this.#administrate((admin) => admin.describeGroups([group]));
    return groups[0]?.members.length ?? 0;
  }

  async sender(): Promise<RecordSender> {
    const sender = new KafkaSender(this.#kafka, this.#connections);
    await sender.open();
    return sender;
  }

  /** Reads as a member of the group from its committed offsets, or else the beginning. */
  async read(
    group: string,
    topics: readonly string[],
    onBatch: (batch: PartitionBatch) => Promise<void>,
  ): Promise<RecordReader> {
    return await this.#start(group, topics, onBatch, null);
  }

  /**
   * Follows topics without a lasting group and commits nothing. Starts at the beginning, at the end
   * when this resolves, or at the given positions. Records come from one partition at a time, in
   * order; those that `onRecords` answers with `again` are repeated after a pause.
   */
  async follow(
    topics: readonly string[],
    from: 'beginning' | 'end' | readonly RecordPosition[],
    onRecords: (records: ConsumedRecord[]) => Promise<void | 'again'> | void,
  ): Promise<RecordReader> {
    const positions: Positions = new Map();
    for (const topic of topics) {
      const extents = await this.#administrate((admin) => extentsOf(admin, topic));
      for (const [partition, { beginning, end }] of extents) {
        const offset = from === 'beginning' ? beginning : end;
        positions.set(positionKey({ topic, partition }), { topic, partition, offset });
      }
    }
    if (typeof from !== 'string')
      for (const position of from)
        if (positions.has(positionKey(position))) positions.set(positionKey(position), position);
    const onBatch = async (batch: PartitionBatch): Promise<void> => {
      const answer = await onRecords(batch.records);
      if (answer === 'again') return batch.pauseForMs(FOLLOW_AGAIN_MS);
      await batch.done(batch.records.at(-1)!.offset);
    };
    return await this.#start(followerGroup(), topics, onBatch, positions);
  }

  /**
   * Reads spans of a topic, each once, without a lasting group; resolves after reading all records
   * that Kafka still has. Spans of one partition ascend and do not overlap. Records come from one
   * partition at a time, in order.
   */
  async readSpans(
    topic: string,
    spans: readonly RecordSpan[],
    onRecords: (records: ConsumedRecord[]) => Promise<void> | void,
  ): Promise<void> {
    const extents = (await this.extents(topic)) ?? new Map<number, PartitionExtent>();
    const reading = new SpanReading(topic, spans, extents, onRecords);
    if (reading.isDone) return;
    const onBatch = (batch: PartitionBatch) => reading.take(batch);
    await reading.finished(await this.#start(followerGroup(), [topic], onBatch, reading.positions));
  }

  async #start(
    group: string,
    topics: readonly string[],
    onBatch: (batch: PartitionBatch) => Promise<void>,
    positions: Positions | null,
  ): Promise<RecordReader> {
    const consumer = await this.#subscribed(group, topics);
    return await KafkaReader.start({ consumer, topics, onBatch, logger: this.logger, positions });
  }

  async #subscribed(group: string, topics: readonly string[]): Promise<Consumer> {
    const consumer = this.#kafka.consumer({
      groupId: group,
      sessionTimeout: SESSION_MS,
      heartbeatInterval: HEARTBEAT_MS,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      maxBytesPerPartition: FETCH_PARTITION_BYTES_MAX,
      allowAutoTopicCreation: false,
    });
    // Some brokers accept a connection and refuse its first request, which is therefore made here.
    await this.#connections.establish(
      consumer
        .connect()
        .then(() => consumer.subscribe({ topics: [...topics], fromBeginning: true })),
    );
    return consumer;
  }

  /**
   * Runs idempotent work. Repeats it where kafkajs reports a retriable failure without a retry (a
   * topic or broker that has no leader yet).
   */
  async #administrate<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = this.#kafka.admin();
    await this.#connections.establish(admin.connect());
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          return await work(admin);
        } catch (error) {
          const { retriable } = error as { retriable?: boolean };
          if (attempt === ADMINISTRATION_ATTEMPTS_MAX || retriable !== true)
            throw this.#connections.explained(error);
          await delay(RETRY_WAIT_MS * attempt);
        }
      }
    } finally {
      await admin.disconnect();
    }
  }
}

async function extentsOf(admin: Admin, topic: string): Promise<Map<number, PartitionExtent>> {
  const offsets = await admin.fetchTopicOffsets(topic);
  return new Map(
    offsets.map(({ partition, low, high }) => [partition, { beginning: low, end: high }]),
  );
}

function followerGroup(): string {
  return `errata-follow-${randomUUID()}`;
}
