/**
 * Kafka, as the rest of the project sees it. The one file that knows kafkajs.
 *
 * Producers are idempotent and wait for all replicas. Consumers never commit by themselves: a batch
 * is done when its reader says up to where.
 */
import {
  CompressionTypes,
  Kafka,
  Partitioners,
  logLevel,
  type Admin,
  type Consumer,
  type EachBatchPayload,
  type ICustomPartitioner,
  type ISocketFactory,
  type KafkaConfig,
  type KafkaMessage,
  type Message,
  type Producer,
  type SASLOptions,
} from 'kafkajs';
import { randomUUID } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import type { Logger } from '../logger.ts';
import { partitionOf } from './murmur2.ts';
import { refusalOf, type Channel, type ChannelRefused } from '../refused-channel.ts';

export interface KafkaSettings {
  brokers: string[];
  clientId: string;
  /** Null: plain text. PEM texts, not paths; without `ca` Node's own list of authorities holds. */
  tls: { ca?: string; certificate?: string; key?: string } | null;
  sasl: {
    mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    username: string;
    password: string;
  } | null;
}

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

/** A name may stand several times, and without a value. */
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

/** Successive records of one partition, in the hands of one reader. */
export interface PartitionBatch {
  topic: string;
  partition: number;
  records: ConsumedRecord[];
  /** The offset that was asked for: between it and the first record there is none. */
  fromOffset: string;
  /** Next offset that the broker will give (the partition's high watermark). */
  endOffset: string;
  /** Everything up to this offset is dealt with: it is committed and not read again. */
  done(throughOffset: string): Promise<void>;
  /** Tells the group that this member lives; throws when the partition is no longer its own. */
  heartbeat(): Promise<void>;
  /** The reader returns and gets the partition's rest again after this time. */
  pauseForMs(pauseMs: number): void;
  /** The reader returns and gets the partition from this offset on. */
  seek(offset: string): void;
  /** False once the consumer stops or moved elsewhere: return without taking more. */
  mine(): boolean;
}

/** Records of one partition from an offset through another, both included. */
export interface RecordSpan {
  partition: number;
  from: string;
  through: string;
}

export interface RecordReader {
  /** Leaves the group; waits for the batch in hand. */
  stop(): Promise<void>;
  /** Settles when the reader ended by itself, with the reason. */
  readonly ended: Promise<Error>;
  /** Settles when it is first a member of its group. */
  readonly ready: Promise<void>;
  /** Whether it is a member now. */
  joined(): boolean;
  /** Whether the partition is this member's. */
  owns(topic: string, partition: number): boolean;
  /** Reads a partition of its own from this offset on. */
  seek(position: RecordPosition): void;
}

export interface RecordSender {
  /**
   * Resolves when all replicas in sync have the records; their positions, in order (offset -1 where
   * a broker did not say).
   */
  send(topic: string, records: readonly OutgoingRecord[]): Promise<RecordPosition[]>;
  close(): Promise<void>;
}

export interface PartitionLag {
  topic: string;
  partition: number;
  /** First offset that there is. */
  beginning: string;
  /** Next offset the group would read; null where it has committed none. */
  committed: string | null;
  end: string;
  lag: number;
}

const CONNECT_WAIT_MS = 5_000;
const REQUEST_WAIT_MS = 30_000;
const RETRY_WAIT_MS = 200;
const RETRY_WAIT_MAX_MS = 5_000;
const RETRIES_MAX = 12;
const ADMINISTRATION_ATTEMPTS_MAX = 8;
/** A reader that was killed is missed for so long; its partitions wait meanwhile. */
const SESSION_MS = 10_000;
const HEARTBEAT_MS = 2_000;
/** `disconnect()` waits for the open fetch. */
const FETCH_WAIT_MS = 250;
const FOLLOW_AGAIN_MS = 1_000;
const TOPIC_READY_WAIT_MS = 15_000;
/**
 * Of one partition in one fetch, as the broker stores it; a larger batch of a producer comes whole.
 * kafkajs fetches again only when all of a fetch is dealt with, and a partition that paused is
 * fetched again from its place: more would hold up the others longer, and be unpacked in vain at
 * every try.
 */
const FETCH_PARTITION_BYTES_MAX = 65_536;
const KEEP_ALIVE_MS = 60_000;
/**
 * Of silence, before what is left of a span is taken for gone; a group's first meeting is well
 * within it.
 */
const SPAN_WAIT_MS = 30_000;
/** Longer than anybody reads spans. */
const SPANS_MS_MAX = 86_400_000;
/** Records in one produce request. */
const SEND_RECORDS_MAX = 500;
const PARTITIONS_AT_ONCE_MAX = 16;
/** What a broker says that had the records already. */
const UNKNOWN_OFFSET = '-1';

/**
 * One client of one cluster. Connections are made as they are needed. What asks for one throws
 * `ChannelRefused` where the brokers do not let this client in, or are not those that it trusts;
 * the constructor does for a certificate and key that do not go together.
 */
export class KafkaCluster {
  readonly #kafka: Kafka;
  readonly #logger: Logger;
  readonly #doors: Doors;

  constructor(settings: KafkaSettings, logger: Logger) {
    this.#logger = logger;
    this.#doors = new Doors(settings);
    this.#kafka = new Kafka(clientConfiguration(settings, this.#doors, logger));
  }

  /**
   * Creates the topics that do not exist; those that do stay as they are. Returns the names of the
   * created ones.
   */
  async ensureTopics(specifications: readonly TopicSpecification[]): Promise<string[]> {
    return await this.#administrate(async (admin) => {
      const existing = new Set(await admin.listTopics());
      const missing = specifications.filter((topic) => !existing.has(topic.name));
      if (missing.length === 0) return [];
      try {
        await admin.createTopics({
          topics: missing.map((topic) => ({
            topic: topic.name,
            numPartitions: topic.partitions,
            replicationFactor: topic.replicationFactor,
            configEntries: Object.entries(topic.configuration).map(([name, value]) => ({
              name,
              value,
            })),
          })),
          waitForLeaders: true,
          timeout: TOPIC_READY_WAIT_MS,
        });
      } catch (error) {
        // Another process may have created some meanwhile; anything else is a fault.
        const present = new Set(await admin.listTopics());
        if (missing.some((topic) => !present.has(topic.name))) throw error;
      }
      return missing.map((topic) => topic.name);
    });
  }

  /** Next offset of each partition. */
  async endOffsets(topic: string): Promise<Map<number, string>> {
    return await this.#administrate(
      async (admin) =>
        new Map(
          (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => [partition, high]),
        ),
    );
  }

  /**
   * First offset that there still is, and the next that will be given, of each partition; null for
   * a topic that does not exist.
   */
  async extents(topic: string): Promise<Map<number, { beginning: string; end: string }> | null> {
    return await this.#administrate(async (admin) => {
      if (!(await admin.listTopics()).includes(topic)) return null;
      return new Map(
        (await admin.fetchTopicOffsets(topic)).map(({ partition, low, high }) => [
          partition,
          { beginning: low, end: high },
        ]),
      );
    });
  }

  /** How far a group is behind on each partition of the topics. */
  async lagOf(group: string, topics: readonly string[]): Promise<PartitionLag[]> {
    return await this.#administrate(async (admin) => {
      const committed = await admin.fetchOffsets({ groupId: group, topics: [...topics] });
      const lags: PartitionLag[] = [];
      for (const { topic, partitions } of committed) {
        const offsets = await admin.fetchTopicOffsets(topic);
        for (const { partition, low, high } of offsets) {
          const at = partitions.find((one) => one.partition === partition)?.offset ?? '-1';
          const read = at === '-1' ? null : at;
          lags.push({
            topic,
            partition,
            beginning: low,
            committed: read,
            end: high,
            lag: Number(BigInt(high) - BigInt(read ?? low)),
          });
        }
      }
      return lags.sort((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition);
    });
  }

  /** How many members a group has now; 0 for one that there is not. */
  async membersOf(group: string): Promise<number> {
    return await this.#administrate(
      async (admin) => (await admin.describeGroups([group])).groups[0]?.members.length ?? 0,
    );
  }

  async sender(): Promise<RecordSender> {
    const ledger: PartitionLedger = new WeakMap();
    const sender = new Sender(ledger, async () => {
      const producer = this.#kafka.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        createPartitioner: notingPartitioner(ledger),
        // Given up in between, a request that the broker did get would lend its sequence number to
        // the next one's records, which the broker would then take for repeated and drop.
        retry: { retries: Number.MAX_SAFE_INTEGER },
      });
      await this.#doors.through(producer.connect());
      return producer;
    });
    await sender.open();
    return sender;
  }

  /**
   * Reads the topics as a member of the group, from the committed offsets or else the beginning,
   * until stopped.
   */
  async read(
    group: string,
    topics: readonly string[],
    onBatch: (batch: PartitionBatch) => Promise<void>,
  ): Promise<RecordReader> {
    return await startReader(await this.#subscribed(group, topics), topics, onBatch, this.#logger, {
      positions: null,
    });
  }

  /**
   * Follows topics outside of any lasting group: from the end as it is when this resolves, or from
   * the given offsets (by `<topic>-<partition>`). Nothing is committed. Records come from one
   * partition at a time, in order; those that `onRecords` answers with `again` are handed on again
   * after a pause.
   */
  async follow(
    topics: readonly string[],
    from: 'beginning' | 'end' | ReadonlyMap<string, string>,
    onRecords: (records: ConsumedRecord[]) => Promise<void | 'again'> | void,
  ): Promise<RecordReader> {
    const starts = new Map<string, string>();
    for (const topic of topics) {
      for (const { partition, high, low } of await this.#administrate((admin) =>
        admin.fetchTopicOffsets(topic),
      )) {
        const key = `${topic}-${partition}`;
        starts.set(
          key,
          from === 'beginning' ? low : from === 'end' ? high : (from.get(key) ?? high),
        );
      }
    }
    const handOn = async (batch: PartitionBatch): Promise<void> => {
      if ((await onRecords(batch.records)) === 'again') return batch.pauseForMs(FOLLOW_AGAIN_MS);
      await batch.done(batch.records.at(-1)!.offset);
    };
    return await startReader(
      await this.#subscribed(`errata-follow-${randomUUID()}`, topics),
      topics,
      handOn,
      this.#logger,
      { positions: starts },
    );
  }

  /**
   * Reads spans of a topic, each once, outside of any lasting group; resolves when all is read that
   * Kafka still has of them. Spans of one partition ascend and do not overlap. Records come from
   * one partition at a time, in order; where nothing comes for `SPAN_WAIT_MS` the rest is taken for
   * gone (a partition may end in marks of transactions).
   */
  async readSpans(
    topic: string,
    spans: readonly RecordSpan[],
    onRecords: (records: ConsumedRecord[]) => Promise<void> | void,
  ): Promise<void> {
    const extents =
      (await this.extents(topic)) ?? new Map<number, { beginning: string; end: string }>();
    const ahead = spansAhead(spans, extents);
    if (ahead.size === 0) return;
    const positions = new Map(
      [...extents].map(([partition, { end }]) => [
        `${topic}-${partition}`,
        String(ahead.get(partition)?.[0]?.from ?? end),
      ]),
    );
    let finish: () => void = () => undefined;
    let fail: (fault: unknown) => void = () => undefined;
    const finished = new Promise<void>((resolve, reject) => ([finish, fail] = [resolve, reject]));
    let quiet: NodeJS.Timeout | undefined;
    let busy = 0;
    // What is in hand is no silence, however long its reader takes.
    const waitOn = (): void => {
      clearTimeout(quiet);
      if (busy === 0) quiet = setTimeout(finish, SPAN_WAIT_MS);
    };
    const onBatch = async (batch: PartitionBatch): Promise<void> => {
      try {
        busy += 1;
        waitOn();
        const left = ahead.get(batch.partition) ?? [];
        const wanted = batch.records.filter(({ offset }) =>
          left.some(({ from, through }) => BigInt(offset) >= from && BigInt(offset) <= through),
        );
        if (wanted.length > 0) await onRecords(wanted);
        const last = BigInt(batch.records.at(-1)!.offset);
        while (left.length > 0 && left[0]!.through <= last) left.shift();
        await batch.done(String(last));
        if (left.length === 0) {
          ahead.delete(batch.partition);
          // What lies behind is nobody's business; the others may take their time.
          batch.pauseForMs(SPANS_MS_MAX);
        } else if (left[0]!.from > last + 1n) {
          positions.set(`${topic}-${batch.partition}`, String(left[0]!.from));
          batch.seek(String(left[0]!.from));
        }
        if (ahead.size === 0) finish();
      } catch (fault) {
        fail(fault);
      } finally {
        busy -= 1;
        waitOn();
      }
    };
    const reader = await startReader(
      await this.#subscribed(`errata-follow-${randomUUID()}`, [topic]),
      [topic],
      onBatch,
      this.#logger,
      { positions },
    );
    try {
      waitOn();
      await Promise.race([finished, reader.ended.then((reason) => Promise.reject(reason))]);
    } finally {
      await reader.stop();
      clearTimeout(quiet);
    }
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
    // Some brokers let a client in and then do not talk to it, so the first question belongs to it.
    await this.#doors.through(
      consumer
        .connect()
        .then(() => consumer.subscribe({ topics: [...topics], fromBeginning: true })),
    );
    return consumer;
  }

  /**
   * Questions and idempotent changes only: where kafkajs says that a failure passes (a topic just
   * made, a broker just back: no leader yet) but does not try again by itself, the work is done
   * again.
   */
  async #administrate<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = this.#kafka.admin();
    await this.#doors.through(admin.connect());
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          return await work(admin);
        } catch (error) {
          if (
            attempt === ADMINISTRATION_ATTEMPTS_MAX ||
            (error as { retriable?: boolean }).retriable !== true
          )
            throw this.#doors.afterwards(error);
          await new Promise((resolve) => setTimeout(resolve, RETRY_WAIT_MS * attempt));
        }
      }
    } finally {
      await admin.disconnect();
    }
  }
}

class Sender implements RecordSender {
  readonly #partitionOf: PartitionLedger;
  readonly #connect: () => Promise<Producer>;
  #producer: Promise<Producer> | null = null;

  constructor(partitionOf: PartitionLedger, connect: () => Promise<Producer>) {
    this.#partitionOf = partitionOf;
    this.#connect = connect;
  }

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
    for (let from = 0; from < records.length; from += SEND_RECORDS_MAX) {
      positions.push(
        ...(await this.#sendPart(topic, records.slice(from, from + SEND_RECORDS_MAX))),
      );
    }
    return positions;
  }

  async close(): Promise<void> {
    const producer = this.#producer;
    this.#producer = null;
    await (await producer)?.disconnect();
  }

  async #sendPart(topic: string, records: readonly OutgoingRecord[]): Promise<RecordPosition[]> {
    const messages = records.map((record): Message => ({
      key: record.key,
      value: record.value,
      ...(record.headers === undefined ? {} : { headers: writableHeaders(record.headers) }),
    }));
    const producer = await this.open();
    const written = await producer
      .send({ topic, acks: -1, compression: CompressionTypes.GZIP, messages })
      .catch((error: unknown) => {
        // What a failure leaves of the sequence is not to be trusted: the next send is a new
        // producer's.
        this.#producer = null;
        void producer.disconnect().catch(() => undefined);
        throw error;
      });
    // A broker answers with the first offset per partition; within a partition the order is that of
    // the request.
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
}

/** Which partition a message was put into; kafkajs does not say. */
type PartitionLedger = WeakMap<Message, number>;

/** Java's partitioner, with a note of what it chose. */
function notingPartitioner(ledger: PartitionLedger): ICustomPartitioner {
  return () => {
    const choose = Partitioners.DefaultPartitioner();
    return (choice) => {
      const { key } = choice.message;
      const partition =
        key === null || key === undefined
          ? choose(choice)
          : partitionOf(Buffer.from(key), choice.partitionMetadata.length);
      ledger.set(choice.message, partition);
      return partition;
    };
  };
}

/** What of the spans Kafka still has, by partition. */
function spansAhead(
  spans: readonly RecordSpan[],
  extents: ReadonlyMap<number, { beginning: string; end: string }>,
): Map<number, { from: bigint; through: bigint }[]> {
  const ahead = new Map<number, { from: bigint; through: bigint }[]>();
  for (const { partition, from, through } of spans) {
    const extent = extents.get(partition);
    if (extent === undefined) continue;
    const [first, last] = [
      BigInt(from) > BigInt(extent.beginning) ? BigInt(from) : BigInt(extent.beginning),
      BigInt(through) < BigInt(extent.end) ? BigInt(through) : BigInt(extent.end) - 1n,
    ];
    if (first <= last)
      ahead.set(partition, [...(ahead.get(partition) ?? []), { from: first, through: last }]);
  }
  return ahead;
}

interface ReaderOptions {
  /**
   * Next offset by `<topic>-<partition>`, kept up to date. Where it is given, nothing before is
   * handed on and nothing is committed.
   */
  positions: Map<string, string> | null;
}

async function startReader(
  consumer: Consumer,
  topics: readonly string[],
  onBatch: (batch: PartitionBatch) => Promise<void>,
  logger: Logger,
  options: ReaderOptions,
): Promise<RecordReader> {
  let joined = false;
  let stopping = false;
  const timers = new Set<NodeJS.Timeout>();
  let end: (reason: Error) => void = () => undefined;
  const ended = new Promise<Error>((resolve) => (end = resolve));
  let enter: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (enter = resolve));
  // Also after a break: a follower commits nothing, so the group would begin it at the beginning
  // again.
  const goOn = (): void => {
    for (const [partition, offset] of options.positions ?? []) {
      const at = partition.lastIndexOf('-');
      consumer.seek({
        topic: partition.slice(0, at),
        partition: Number(partition.slice(at + 1)),
        offset,
      });
    }
  };
  let assigned: Record<string, number[]> = {};
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    assigned = payload.memberAssignment;
    goOn();
    joined = true;
    enter();
  });
  consumer.on(consumer.events.REBALANCING, () => (joined = false));
  consumer.on(consumer.events.DISCONNECT, () => (joined = false));
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    joined = false;
    logger.warn(
      { topics, error: payload.error.message, restart: payload.restart },
      'Kafka reader broke off',
    );
    if (!payload.restart) end(payload.error);
  });

  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    partitionsConsumedConcurrently: PARTITIONS_AT_ONCE_MAX,
    eachBatch: async (payload) => {
      const start = options.positions?.get(`${payload.batch.topic}-${payload.batch.partition}`);
      const records = payload.batch.messages
        .filter((message) => start === undefined || BigInt(message.offset) >= BigInt(start))
        .map((message) => consumedRecord(message, payload));
      if (records.length === 0) payload.resolveOffset(payload.batch.lastOffset());
      else
        await onBatch(
          partitionBatch(records, payload, options.positions, {
            consumer,
            timers,
            stopping: () => stopping,
          }),
        );
    },
  });

  return {
    ended,
    ready,
    joined: () => joined,
    owns: (topic, partition) => joined && (assigned[topic]?.includes(partition) ?? false),
    seek: (position) => consumer.seek(position),
    async stop() {
      stopping = true;
      for (const timer of timers) clearTimeout(timer);
      await consumer.disconnect();
    },
  };
}

function partitionBatch(
  records: ConsumedRecord[],
  payload: EachBatchPayload,
  positions: Map<string, string> | null,
  reader: { consumer: Consumer; timers: Set<NodeJS.Timeout>; stopping: () => boolean },
): PartitionBatch {
  const { topic, partition } = payload.batch;
  return {
    topic,
    partition,
    records,
    // kafkajs has it and does not declare it.
    fromOffset: (payload.batch as unknown as { fetchedOffset: string }).fetchedOffset,
    endOffset: payload.batch.highWatermark,
    async done(throughOffset) {
      const next = String(BigInt(throughOffset) + 1n);
      payload.resolveOffset(throughOffset);
      if (positions === null)
        await payload.commitOffsetsIfNecessary({
          topics: [{ topic, partitions: [{ partition, offset: next }] }],
        });
      else positions.set(`${topic}-${partition}`, next);
    },
    heartbeat: () => payload.heartbeat(),
    pauseForMs(pauseMs) {
      const resume = payload.pause();
      const timer = setTimeout(() => {
        reader.timers.delete(timer);
        if (!reader.stopping()) resume();
      }, pauseMs);
      reader.timers.add(timer);
    },
    seek: (offset) => reader.consumer.seek({ topic, partition, offset }),
    mine: () => payload.isRunning() && !payload.isStale() && !reader.stopping(),
  };
}

function consumedRecord(message: KafkaMessage, payload: EachBatchPayload): ConsumedRecord {
  const { topic, partition } = payload.batch;
  return {
    topic,
    partition,
    offset: message.offset,
    timestamp: Number(message.timestamp),
    key: message.key,
    value: message.value,
    headers: headersOf(message.headers ?? {}),
  };
}

/**
 * The ways to the brokers that the settings name. kafkajs takes every broken connection for an
 * outage and tries for minutes; a certificate that is refused at all of them will be refused the
 * next time as well.
 */
class Doors {
  readonly #channel: Channel;
  readonly #named: ReadonlySet<string>;
  readonly #refused = new Map<string, ChannelRefused>();
  readonly #waiting = new Set<(refusal: ChannelRefused) => void>();
  readonly open: ISocketFactory;

  constructor(settings: KafkaSettings) {
    this.#channel = {
      to: 'Kafka',
      tls: settings.tls !== null,
      certificate: settings.tls?.certificate !== undefined,
      credential: settings.sasl !== null,
    };
    this.#named = new Set(settings.brokers);
    const secureContext = settings.tls === null ? undefined : this.#contextOf(settings.tls);
    this.open = ({ host, port, onConnect }) => {
      const socket =
        secureContext === undefined
          ? net.connect({ host, port }, onConnect)
          : tls.connect(
              { host, port, secureContext, ...(net.isIP(host) === 0 ? { servername: host } : {}) },
              onConnect,
            );
      const broker = `${host}:${port}`;
      socket.once('data', () => this.#refused.delete(broker));
      socket.on('error', (error: Error) => this.#met(broker, error));
      return socket.setKeepAlive(true, KEEP_ALIVE_MS);
    };
  }

  /** What the connecting comes to. Throws `ChannelRefused` once every named broker refused. */
  async through(connecting: Promise<void>): Promise<void> {
    let give: ((refusal: ChannelRefused) => void) | undefined;
    try {
      await Promise.race([
        connecting,
        new Promise<never>((_, reject) => this.#waiting.add((give = reject))),
      ]);
    } catch (error) {
      throw refusalOf(error, this.#channel) ?? error;
    } finally {
      this.#waiting.delete(give!);
    }
  }

  /** Of an error after that. Without TLS and a user a connection that breaks is an outage. */
  afterwards(error: unknown): unknown {
    return this.#channel.tls || this.#channel.credential
      ? (refusalOf(error, this.#channel) ?? error)
      : error;
  }

  #met(broker: string, error: Error): void {
    const refusal = refusalOf(error, this.#channel, 'sure');
    if (refusal === null || !this.#named.has(broker)) return;
    this.#refused.set(broker, refusal);
    if (this.#refused.size === this.#named.size) for (const give of this.#waiting) give(refusal);
  }

  #contextOf({ ca, certificate, key }: NonNullable<KafkaSettings['tls']>): tls.SecureContext {
    try {
      return tls.createSecureContext({
        ...(ca === undefined ? {} : { ca }),
        ...(certificate === undefined ? {} : { cert: certificate }),
        ...(key === undefined ? {} : { key }),
      });
    } catch (error) {
      throw refusalOf(error, this.#channel) ?? error;
    }
  }
}

/**
 * Of a name that objects inherit (`constructor`) kafkajs makes a list that begins with what they
 * inherit.
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

/** kafkajs cannot write a header without a value: it gets an empty one. */
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

function clientConfiguration(settings: KafkaSettings, doors: Doors, logger: Logger): KafkaConfig {
  const { sasl } = settings;
  return {
    clientId: settings.clientId,
    brokers: settings.brokers,
    connectionTimeout: CONNECT_WAIT_MS,
    requestTimeout: REQUEST_WAIT_MS,
    retry: {
      initialRetryTime: RETRY_WAIT_MS,
      maxRetryTime: RETRY_WAIT_MAX_MS,
      retries: RETRIES_MAX,
    },
    socketFactory: doors.open,
    ...(settings.tls === null ? {} : { ssl: true }),
    ...(sasl === null ? {} : { sasl: sasl as SASLOptions }),
    logLevel: logLevel.WARN,
    // What kafkajs calls an error it mostly mends by itself: broken connections, rebalances.
    logCreator:
      () =>
      ({ namespace, log }) => {
        const { message, timestamp: _timestamp, logger: _logger, ...fields } = log;
        logger.warn({ namespace, detail: message, ...fields }, 'Kafka client reports');
      },
  };
}
