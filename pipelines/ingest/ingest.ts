/**
 * From the corrections topics into the lineage workflows. A record's offset is committed only after
 * the workflow, or the dead-letter topic, has the record; what is read twice is recognised by its
 * offset in the workflow. A workflow that has less than that (`partition-places.ts`) gets it again.
 *
 * A full buffer, an absent Temporal or an absent schema registry pauses the partition and nothing
 * else: its reader returns at once, so other partitions and lineages flow on and the group's
 * heartbeat is kept.
 */
import { randomUUID } from 'node:crypto';
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { SchemaRegistryUnavailable } from '../../schemas/failures.ts';
import { deadLetter } from '../kafka/dead-letter.ts';
import { nextPiece, type Piece } from './ingest-chunk.ts';
import { readRecord } from './ingest-record.ts';
import type {
  ConsumedRecord,
  PartitionBatch,
  RecordReader,
  RecordSender,
} from '../kafka/records.ts';
import type { Logger } from '../logger.ts';
import { PartitionPlaces } from './partition-places.ts';
import type { RecordFormat } from '../kafka/record-format.ts';
import { INGEST_GROUP, topicsOf } from '../kafka/topics.ts';
import {
  BUFFER_FULL,
  CHUNK_REVISIONS_MAX,
  partitionKey,
  type Acceptance,
  type RevisionChunk,
} from '../workflows/contract.ts';

export interface IngestDependencies {
  /** Reads topics as a member of a group (`KafkaCluster.read`). */
  read(
    group: string,
    topics: readonly string[],
    onBatch: (batch: PartitionBatch) => Promise<void>,
  ): Promise<RecordReader>;
  deadLetters: RecordSender;
  /** Hands a chunk to the lineage's workflow (`TemporalLineages.accept`). */
  accept(lineage: string, chunk: RevisionChunk, attempt: string): Promise<AcceptAnswer>;
  /** How far the group and the workflow are in each partition of the lineage's topic. */
  standing?(lineage: string): Promise<PartitionStanding[]>;
  /** First offset that Kafka has of the partition. */
  beginning?(topic: string, partition: number): Promise<string>;
  logger: Logger;
  format: RecordFormat;
  group?: string;
}

export interface PartitionStanding {
  partition: number;
  beginning: string;
  /** Next offset that the group would read; null where it has committed none. */
  committed: string | null;
  /** Last offset that the workflow has, -1 for none. Not older than `committed`. */
  throughOffset: string;
}

export type AcceptAnswer =
  | { kind: 'accepted'; acceptance: Acceptance }
  /**
   * The workflow's buffer is full; or it finds something wrong, which an operator has to look at.
   */
  | { kind: 'refused'; type: string; message: string }
  /** The workflow lacks what came before: it has everything up to here, -1 for nothing. */
  | { kind: 'behind'; throughOffset: string }
  /** No answer: Temporal or its workers are away. */
  | { kind: 'unavailable'; message: string };

export interface Ingest {
  stop(): Promise<void>;
  /** Settles when it is first a member of its group. */
  readonly ready: Promise<void>;
  /** Settles when reading ended by itself. */
  readonly ended: Promise<Error>;
  health(): IngestHealth;
}

export interface IngestHealth {
  /** It is a member of its group. */
  ready: boolean;
  accepted: number;
  redelivered: number;
  deadLetters: number;
  /** Partitions that wait, by `<topic>-<partition>`, and why. */
  waiting: Record<string, string>;
}

export const PAUSE_FIRST_MS = 250;
export const PAUSE_MAX_MS = 5_000;
/** Kafka's session is 30 s; while an answer is waited for the heartbeat goes on. */
const HEARTBEAT_EVERY_MS = 2_000;
/**
 * How often a workflow is asked whether it still has what it took, where nothing new comes that
 * would tell.
 */
const LOOK_BACK_EVERY_MS = 15_000;

export async function startIngest(
  lineages: readonly string[],
  dependencies: IngestDependencies,
): Promise<Ingest> {
  const ingest = new PartitionIngest(lineages, dependencies);
  const topics = lineages.map((lineage) => topicsOf(lineage).corrections);
  const reader = await dependencies.read(dependencies.group ?? INGEST_GROUP, topics, (batch) =>
    ingest.take(batch),
  );
  const looking = setInterval(() => void ingest.lookBack(reader), LOOK_BACK_EVERY_MS);
  void reader.ready.then(() => ingest.lookBack(reader));
  return {
    stop: () => (clearInterval(looking), reader.stop()),
    ready: reader.ready,
    ended: reader.ended,
    health: () => ({
      ready: reader.joined(),
      ...ingest.counts,
      waiting: Object.fromEntries(ingest.waiting),
    }),
  };
}

export class PartitionIngest {
  readonly counts = { accepted: 0, redelivered: 0, deadLetters: 0 };
  readonly waiting = new Map<string, string>();
  readonly #lineageOf: Map<string, string>;
  readonly #dependencies: IngestDependencies;
  readonly #pauses = new Map<string, number>();
  readonly #places = new PartitionPlaces();
  /** By lineage: the run of its workflow that answered last. */
  readonly #runs = new Map<string, string>();
  #attempt = randomUUID();

  constructor(lineages: readonly string[], dependencies: IngestDependencies) {
    this.#lineageOf = new Map(lineages.map((lineage) => [topicsOf(lineage).corrections, lineage]));
    this.#dependencies = dependencies;
  }

  /**
   * Deals with a partition's records in order, as far as it can; what is left is read again after a
   * pause.
   */
  async take(batch: PartitionBatch): Promise<void> {
    const lineage = this.#lineageOf.get(batch.topic)!;
    let { records } = batch;
    if (!batch.mine()) return;
    this.#places.begin(partitionKey(batch), batch.fromOffset);
    while (records.length > 0 && batch.mine()) {
      const decoder = await beating(batch, this.#decoderOf(records));
      if (decoder instanceof SchemaRegistryUnavailable)
        return void this.#pause(batch, decoder.message);
      const piece = nextPiece(records, batch.endOffset, (record) =>
        readRecord(record, lineage, decoder),
      );
      const through = await this.#deliver(piece, lineage, batch);
      if (through === null) return;
      await batch.done(through);
      this.#flows(batch);
      records = recordsBehind(records, through);
      await batch.heartbeat();
    }
  }

  /** Reads again what a workflow no longer has. An outage of either side is not its affair. */
  async lookBack(reader: Pick<RecordReader, 'owns' | 'seek'>): Promise<void> {
    const { logger } = this.#dependencies;
    for (const [topic, lineage] of this.#lineageOf) {
      const partitions = (await this.#dependencies.standing?.(lineage).catch(() => null)) ?? [];
      for (const { partition, beginning, committed, throughOffset } of partitions) {
        if (committed === null || !reader.owns(topic, partition)) continue;
        const offset = this.#places.goBack(
          partitionKey({ topic, partition }),
          throughOffset,
          beginning,
          committed,
        );
        if (offset === null) continue;
        logger.info(
          { topic, partition, offset, committed },
          'The lineage may lack records behind this offset: they are read again',
        );
        this.#attempt = randomUUID();
        reader.seek({ topic, partition, offset });
      }
    }
  }

  /** Of the records that the next piece is taken from. */
  async #decoderOf(
    records: readonly ConsumedRecord[],
  ): Promise<RecordDecoder<FactCorrection> | SchemaRegistryUnavailable> {
    try {
      return await this.#dependencies.format.decoder(
        'fact-correction',
        records.slice(0, CHUNK_REVISIONS_MAX).map(({ value }) => value),
      );
    } catch (error) {
      if (error instanceof SchemaRegistryUnavailable) return error;
      throw error;
    }
  }

  /**
   * The offset up to which the piece is in safe hands, or null where the partition pauses or is
   * read again.
   */
  async #deliver(piece: Piece, lineage: string, batch: PartitionBatch): Promise<string | null> {
    const { logger, deadLetters } = this.#dependencies;
    const partition = partitionKey(batch);
    if (piece.kind === 'dead') {
      const letters = piece.letters.filter(
        ({ record }) => !this.#places.isLetterSent(partition, record.offset),
      );
      const sent = await beating(
        batch,
        settled(
          deadLetters.send(
            topicsOf(lineage).deadLetters,
            letters.map(({ record, problem }) => deadLetter(record, problem)),
          ),
        ),
      );
      if (sent.kind === 'failed')
        return this.#pause(batch, `the dead-letter topic cannot be written: ${sent.message}`);
      this.#places.buried(partition, piece.throughOffset);
      this.counts.deadLetters += letters.length;
      for (const { record, problem } of letters) {
        logger.warn(
          {
            lineage,
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            problem: problem.className,
          },
          'Record sent to the dead-letter topic',
        );
      }
      return piece.throughOffset;
    }
    const chunk: RevisionChunk = {
      ...piece.chunk,
      readFrom: this.#places.readFrom(partition),
      run: this.#runs.get(lineage) ?? null,
    };
    const answer = await beating(batch, this.#dependencies.accept(lineage, chunk, this.#attempt));
    if (answer.kind === 'behind') return await this.#goBack(batch, answer.throughOffset);
    // Mended by an operator, it is a new question: an answer from before would be given again.
    if (answer.kind === 'refused' && answer.type !== BUFFER_FULL) this.#attempt = randomUUID();
    if (answer.kind === 'refused' && answer.type !== BUFFER_FULL)
      logger.error(
        {
          lineage,
          topic: chunk.topic,
          partition: chunk.partition,
          type: answer.type,
          reason: answer.message,
        },
        'The lineage refuses these records',
      );
    if (answer.kind !== 'accepted') return this.#pause(batch, answer.message);
    const { acceptance } = answer;
    this.counts.accepted += acceptance.accepted;
    this.counts.redelivered += acceptance.redelivered;
    this.#runs.set(lineage, acceptance.run);
    logger.debug(
      { lineage, partition: chunk.partition, firstOffset: chunk.firstOffset, ...acceptance },
      'Revisions handed to the lineage',
    );
    // Answered for an earlier, shorter chunk of the same first offset, only so much is the
    // workflow's.
    const through =
      BigInt(acceptance.throughOffset) < BigInt(chunk.throughOffset)
        ? acceptance.throughOffset
        : chunk.throughOffset;
    this.#places.handed(partition, through);
    return through;
  }

  async #goBack(batch: PartitionBatch, throughOffset: string): Promise<null> {
    const { topic, partition } = batch;
    const beginning = await beating(
      batch,
      this.#dependencies.beginning?.(topic, partition).catch(() => null) ?? Promise.resolve('0'),
    );
    if (beginning === null)
      return this.#pause(
        batch,
        'the lineage lacks records, and Kafka does not say which there are',
      );
    const offset = this.#places.goBack(partitionKey(batch), throughOffset, beginning)!;
    this.#dependencies.logger.warn(
      { topic: batch.topic, partition: batch.partition, offset },
      'The lineage lacks records behind this offset: they are read again',
    );
    this.#attempt = randomUUID();
    batch.seek(offset);
    return null;
  }

  #pause(batch: PartitionBatch, reason: string): null {
    const key = `${batch.topic}-${batch.partition}`;
    const pauseMs = this.#pauses.get(key) ?? PAUSE_FIRST_MS;
    this.#pauses.set(key, Math.min(2 * pauseMs, PAUSE_MAX_MS));
    const told = this.waiting.get(key);
    if (told === undefined || withoutNumbers(told) !== withoutNumbers(reason))
      this.#dependencies.logger.info(
        { topic: batch.topic, partition: batch.partition, reason },
        'Partition paused',
      );
    this.waiting.set(key, reason);
    batch.pauseForMs(pauseMs);
    return null;
  }

  #flows(batch: PartitionBatch): void {
    const key = `${batch.topic}-${batch.partition}`;
    this.#pauses.delete(key);
    if (this.waiting.delete(key))
      this.#dependencies.logger.info(
        { topic: batch.topic, partition: batch.partition },
        'Partition flows again',
      );
  }
}

/** How many wait and how long was waited changes from try to try, and is the same reason. */
function withoutNumbers(reason: string): string {
  return reason.replace(/\d+/g, '');
}

function recordsBehind(records: ConsumedRecord[], offset: string): ConsumedRecord[] {
  const next = records.findIndex((record) => BigInt(record.offset) > BigInt(offset));
  return next === -1 ? [] : records.slice(next);
}

/**
 * Waits for the work and keeps the group's heartbeat meanwhile. A heartbeat that fails (the
 * partition moved) is thrown once the work has settled, so that no call is left behind.
 */
async function beating<T>(batch: PartitionBatch, work: Promise<T>): Promise<T> {
  const failures: Error[] = [];
  const timer = setInterval(() => {
    batch
      .heartbeat()
      .catch((error: unknown) =>
        failures.push(error instanceof Error ? error : new Error(String(error))),
      );
  }, HEARTBEAT_EVERY_MS);
  try {
    const result = await work;
    if (failures[0] !== undefined) throw failures[0];
    return result;
  } finally {
    clearInterval(timer);
  }
}

async function settled(
  work: Promise<unknown>,
): Promise<{ kind: 'done' } | { kind: 'failed'; message: string }> {
  try {
    await work;
    return { kind: 'done' };
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
}
