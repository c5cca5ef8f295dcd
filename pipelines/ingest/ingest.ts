/**
 * Reads the corrections topics into the lineage workflows. A record's offset is committed only
 * after the workflow, or the dead-letter topic, has the record; the workflow recognises repetitions
 * by their offset. A workflow that lost records (`partition-places.ts`) gets them again.
 *
 * A full buffer, or an unavailable Temporal or schema registry, pauses only the partition. Its
 * reader returns at once, so that other partitions and the group's heartbeat go on.
 */
import { randomUUID } from 'node:crypto';
import type { FactCorrection } from '../../schemas/correction.ts';
import { messageOf, SchemaRegistryUnavailable } from '../../schemas/failures.ts';
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import { deadLetter } from '../kafka/dead-letter.ts';
import type { RecordFormat } from '../kafka/record-format.ts';
import type {
  ConsumedRecord,
  PartitionBatch,
  PartitionExtent,
  RecordReader,
  RecordSender,
} from '../kafka/records.ts';
import { topicsOf } from '../kafka/topics.ts';
import type { Logger } from '../logger.ts';
import {
  BUFFER_FULL,
  CHUNK_REVISIONS_MAX,
  partitionKey,
  type Acceptance,
  type RevisionChunk,
} from '../workflows/contract.ts';
import { nextPiece, type DeadLetters, type Piece, type Revisions } from './ingest-chunk.ts';
import { readRecord } from './ingest-record.ts';
import { PartitionPlaces } from './partition-places.ts';

export interface IngestDependencies {
  /** Reads topics as a member of the ingest group. */
  read(
    topics: readonly string[],
    onBatch: (batch: PartitionBatch) => Promise<void>,
  ): Promise<RecordReader>;
  deadLetters: RecordSender;
  accept: (lineage: string, chunk: RevisionChunk, attempt: string) => Promise<AcceptAnswer>;
  /**
   * Returns the progress of the group and the workflow in each partition of the lineage's topic.
   */
  progress(lineage: string): Promise<PartitionProgress[]>;
  /** Returns the first offset of the partition that Kafka still has. */
  beginning: (topic: string, partition: number) => Promise<string>;
  logger: Logger;
  format: RecordFormat;
}

interface PartitionProgress extends Pick<PartitionExtent, 'beginning'> {
  partition: number;
  /** The next offset that the group would read; null where it has committed none. */
  committed: string | null;
  /** The last offset that the workflow has, -1 for none; read after `committed`. */
  throughOffset: string;
}

export type AcceptAnswer =
  | { kind: 'accepted'; acceptance: Acceptance }
  /** The workflow's buffer is full, or it found a fault that an operator must examine. */
  | { kind: 'refused'; type: string; message: string }
  /** The workflow lacks earlier records; it has everything through this offset, -1 for none. */
  | { kind: 'behind'; throughOffset: string }
  /** Neither Temporal nor its workers answer. */
  | { kind: 'unavailable'; message: string };

export interface Ingest {
  stop(): Promise<void>;
  /** Resolves when it first joins its group. */
  readonly ready: Promise<void>;
  /** Resolves when reading ends without a call of `stop`. */
  readonly ended: Promise<Error>;
  health(): IngestHealth;
}

interface IngestHealth {
  /** Whether it is a member of its group. */
  ready: boolean;
  accepted: number;
  redelivered: number;
  deadLetters: number;
  /** The reasons that partitions wait, by `<topic>-<partition>`. */
  waiting: Record<string, string>;
}

export const PAUSE_FIRST_MS = 250;
export const PAUSE_MAX_MS = 5_000;
/** Interval of heartbeats during a call. */
const HEARTBEAT_EVERY_MS = 2_000;
/** Interval of checks for lost records. New records show a loss too, but may not come. */
const LOOK_BACK_EVERY_MS = 15_000;

export async function startIngest(
  lineages: readonly string[],
  dependencies: IngestDependencies,
): Promise<Ingest> {
  const ingest = new PartitionIngest(lineages, dependencies);
  const topics = lineages.map((lineage) => topicsOf(lineage).corrections);
  const reader = await dependencies.read(topics, (batch) => ingest.take(batch));
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
  readonly #pauses = new Map<string, number>();
  readonly #places = new PartitionPlaces();
  /** The run of each lineage's workflow that answered last. */
  readonly #runs = new Map<string, string>();
  /** Part of the updates' ids. Equal updates get the first one's answer. */
  #attempt = randomUUID();

  constructor(
    lineages: readonly string[],
    private readonly dependencies: IngestDependencies,
  ) {
    this.#lineageOf = new Map(lineages.map((lineage) => [topicsOf(lineage).corrections, lineage]));
  }

  /** Handles a partition's records in order, as far as possible; reads the rest after a pause. */
  async take(batch: PartitionBatch): Promise<void> {
    const lineage = this.#lineageOf.get(batch.topic)!;
    let { records } = batch;
    if (!batch.mine()) return;
    this.#places.begin(partitionKey(batch), batch.fromOffset);
    while (records.length > 0 && batch.mine()) {
      const decoder = await withHeartbeat(batch, this.#decoderOf(records));
      if (decoder instanceof SchemaRegistryUnavailable) {
        this.#pause(batch, decoder.message);
        return;
      }
      const piece = nextPiece(records, batch.endOffset, (record) =>
        readRecord(record, lineage, decoder),
      );
      const through = await this.#deliver(piece, lineage, batch);
      if (through === null) return;
      await batch.done(through);
      this.#resume(batch);
      records = records.filter(({ offset }) => BigInt(offset) > BigInt(through));
      await batch.heartbeat();
    }
  }

  /** Rereads records that a workflow no longer has; ignores outages. */
  async lookBack(reader: Pick<RecordReader, 'owns' | 'seek'>): Promise<void> {
    for (const [topic, lineage] of this.#lineageOf) {
      const progress = await this.dependencies.progress(lineage).catch(() => []);
      for (const { partition, beginning, committed, throughOffset } of progress) {
        if (committed === null || !reader.owns(topic, partition)) continue;
        const key = partitionKey({ topic, partition });
        const offset = this.#places.goBack(key, { throughOffset, beginning, committed });
        if (offset === null) continue;
        this.dependencies.logger.info(
          { topic, partition, offset, committed },
          'The lineage may lack records behind this offset: they are read again',
        );
        this.#attempt = randomUUID();
        reader.seek({ topic, partition, offset });
      }
    }
  }

  /** Returns a decoder for the records of the next piece. */
  async #decoderOf(
    records: readonly ConsumedRecord[],
  ): Promise<RecordDecoder<FactCorrection> | SchemaRegistryUnavailable> {
    try {
      const values = records.slice(0, CHUNK_REVISIONS_MAX).map(({ value }) => value);
      return await this.dependencies.format.decoder('fact-correction', values);
    } catch (error) {
      if (error instanceof SchemaRegistryUnavailable) return error;
      throw error;
    }
  }

  /** Returns the offset through which the piece is safe; null if the partition waits or seeks. */
  async #deliver(piece: Piece, lineage: string, batch: PartitionBatch): Promise<string | null> {
    return piece.kind === 'dead'
      ? await this.#bury(piece, lineage, batch)
      : await this.#handOver(piece.chunk, lineage, batch);
  }

  async #bury(piece: DeadLetters, lineage: string, batch: PartitionBatch): Promise<string | null> {
    const { logger, deadLetters } = this.dependencies;
    const key = partitionKey(batch);
    const { throughOffset } = piece;
    const letters = piece.letters.filter(
      ({ record }) => !this.#places.isLetterSent(key, record.offset),
    );
    const records = letters.map(({ record, problem }) => deadLetter(record, problem));
    const fault = await withHeartbeat(
      batch,
      deadLetters.send(topicsOf(lineage).deadLetters, records).then(() => null, messageOf),
    );
    if (fault !== null)
      return this.#pause(batch, `the dead-letter topic cannot be written: ${fault}`);
    this.#places.buried(key, throughOffset);
    this.counts.deadLetters += letters.length;
    for (const { record, problem } of letters) {
      const { topic, partition, offset } = record;
      const place = { lineage, topic, partition, offset };
      logger.warn({ ...place, problem: problem.className }, 'Record sent to the dead-letter topic');
    }
    return throughOffset;
  }

  async #handOver(
    piece: Revisions['chunk'],
    lineage: string,
    batch: PartitionBatch,
  ): Promise<string | null> {
    const { logger, accept } = this.dependencies;
    const key = partitionKey(batch);
    const { topic, partition, firstOffset, throughOffset } = piece;
    const run = this.#runs.get(lineage) ?? null;
    const chunk: RevisionChunk = { ...piece, readFrom: this.#places.readFrom(key), run };
    const answer = await withHeartbeat(batch, accept(lineage, chunk, this.#attempt));
    if (answer.kind === 'behind') return await this.#goBack(batch, answer.throughOffset);
    if (answer.kind === 'refused' && answer.type !== BUFFER_FULL) {
      // After an operator's fix, the same request must get a new answer.
      this.#attempt = randomUUID();
      logger.error(
        { lineage, topic, partition, type: answer.type, reason: answer.message },
        'The lineage refuses these records',
      );
    }
    if (answer.kind !== 'accepted') return this.#pause(batch, answer.message);
    const { acceptance } = answer;
    this.counts.accepted += acceptance.accepted;
    this.counts.redelivered += acceptance.redelivered;
    this.#runs.set(lineage, acceptance.run);
    logger.debug(
      { lineage, partition, firstOffset, ...acceptance },
      'Revisions handed to the lineage',
    );
    // The answer may be for an earlier, shorter chunk with the same first offset.
    const isShorter = BigInt(acceptance.throughOffset) < BigInt(throughOffset);
    const through = isShorter ? acceptance.throughOffset : throughOffset;
    this.#places.handed(key, through);
    return through;
  }

  async #goBack(batch: PartitionBatch, throughOffset: string): Promise<null> {
    const { topic, partition } = batch;
    const { logger, beginning } = this.dependencies;
    const first = await withHeartbeat(
      batch,
      beginning(topic, partition).catch(() => null),
    );
    if (first === null)
      return this.#pause(batch, 'the lineage lacks records, and Kafka does not say which exist');
    const offset = this.#places.goBack(partitionKey(batch), { throughOffset, beginning: first })!;
    logger.warn(
      { topic, partition, offset },
      'The lineage lacks records behind this offset: they are read again',
    );
    this.#attempt = randomUUID();
    batch.seek(offset);
    return null;
  }

  #pause(batch: PartitionBatch, reason: string): null {
    const key = partitionKey(batch);
    const { topic, partition } = batch;
    const pauseMs = this.#pauses.get(key) ?? PAUSE_FIRST_MS;
    this.#pauses.set(key, Math.min(2 * pauseMs, PAUSE_MAX_MS));
    const logged = this.waiting.get(key);
    if (logged === undefined || withoutNumbers(logged) !== withoutNumbers(reason))
      this.dependencies.logger.info({ topic, partition, reason }, 'Partition paused');
    this.waiting.set(key, reason);
    batch.pauseForMs(pauseMs);
    return null;
  }

  #resume(batch: PartitionBatch): void {
    const key = partitionKey(batch);
    const { topic, partition } = batch;
    this.#pauses.delete(key);
    if (this.waiting.delete(key))
      this.dependencies.logger.info({ topic, partition }, 'Partition flows again');
  }
}

/** Removes numbers, which change from try to try while the reason stays the same. */
function withoutNumbers(reason: string): string {
  return reason.replace(/\d+/g, '');
}

/**
 * Awaits the work and sends the group's heartbeat meanwhile. A failed heartbeat (the partition
 * moved) is thrown after the work has settled, so that no call is left behind.
 */
async function withHeartbeat<T>(batch: PartitionBatch, work: Promise<T>): Promise<T> {
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
