/** A partition of a fake broker, and ingest over fakes. */
import { expect } from 'vitest';
import {
  PartitionIngest,
  type AcceptAnswer,
  type IngestDependencies,
} from '../../../pipelines/ingest/ingest.ts';
import type {
  ConsumedRecord,
  OutgoingRecord,
  PartitionBatch,
} from '../../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { type RevisionChunk } from '../../../pipelines/workflows/contract.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { factCorrection, LINEAGE, TOPIC } from '../../harness/corrections.ts';

export const codec = recordCodec('fact-correction');
export const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

export function record(
  offset: number,
  kind: 'sound' | 'garbage' = 'sound',
  more: Partial<ConsumedRecord> = {},
): ConsumedRecord {
  const value =
    kind === 'sound' ? codec.encode(factCorrection(`c${offset}`)) : Buffer.from('garbage');
  return {
    topic: TOPIC,
    partition: 0,
    offset: String(offset),
    timestamp: 1,
    key: Buffer.from('k'),
    value,
    headers: {},
    ...more,
  };
}

/** A partition of a broker that hands out records not yet committed, like Kafka. */
export class FakePartition {
  committed = -1n;
  /** The next offset to read: the committed one, unless a seek changed it. */
  position = 0n;
  readonly pauses: number[] = [];
  readonly log: ConsumedRecord[];
  heartbeats = 0;
  constructor(log: ConsumedRecord[]) {
    this.log = log;
  }
  batch(): PartitionBatch {
    return {
      topic: TOPIC,
      partition: 0,
      fromOffset: String(this.position),
      endOffset: String(BigInt(this.log.at(-1)?.offset ?? -1) + 1n),
      records: this.log.filter(({ offset }) => BigInt(offset) >= this.position),
      done: async (through) => {
        expect(BigInt(through)).toBeGreaterThanOrEqual(this.position);
        this.committed = BigInt(through);
        this.position = this.committed + 1n;
      },
      seek: (offset) => void (this.position = BigInt(offset)),
      heartbeat: async () => void this.heartbeats++,
      pauseForMs: (pauseMs) => void this.pauses.push(pauseMs),
      mine: () => true,
    };
  }
  get left(): number {
    return this.batch().records.length;
  }
}

export function ingestWith(
  accept: (chunk: RevisionChunk, attempt: string) => AcceptAnswer,
  more: Partial<IngestDependencies> = {},
): PartitionIngest {
  return new PartitionIngest([LINEAGE], {
    read: () => Promise.reject(new Error('not read here')),
    deadLetters: deadLettersTo(() => undefined),
    accept: async (_lineage, chunk, attempt) => accept(chunk, attempt),
    progress: async () => [],
    beginning: async () => '0',
    format: SINGLE_OBJECT_FORMAT,
    logger: SILENT,
    ...more,
  });
}

export function deadLettersTo(
  take: (records: readonly OutgoingRecord[]) => void,
): IngestDependencies['deadLetters'] {
  return { send: async (_topic, records) => (take(records), []), close: async () => undefined };
}

export const accepted = (
  chunk: RevisionChunk,
  throughOffset = chunk.throughOffset,
): AcceptAnswer => ({
  kind: 'accepted',
  acceptance: {
    throughOffset,
    accepted: chunk.revisions.length,
    redelivered: 0,
    waiting: 0,
    run: 'run',
  },
});
