/** Takes successive revisions or successive dead letters from a partition's records. */
import {
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  jsonBytes,
  type RevisionChunk,
} from '../workflows/contract.ts';
import type { ReadRecord } from './ingest-record.ts';
import type { RefusalReason } from '../kafka/dead-letter.ts';
import type { ConsumedRecord } from '../kafka/records.ts';

export type Piece = Revisions | DeadLetters;

export interface Revisions {
  kind: 'revisions';
  chunk: Omit<RevisionChunk, 'readFrom' | 'run'>;
}

export interface DeadLetters {
  kind: 'dead';
  letters: { record: ConsumedRecord; problem: RefusalReason }[];
  throughOffset: string;
}

/** Room for the chunk's own fields beside its revisions. */
const CHUNK_HEAD_BYTES = 1_000;

/**
 * Returns the longest run of one kind at the front, within the chunk's bounds and at least one
 * record. Dead letters are a separate piece: inside a chunk, a full buffer would send them again at
 * every try.
 */
export function nextPiece(
  records: readonly ConsumedRecord[],
  endOffset: string,
  read: (record: ConsumedRecord) => ReadRecord,
): Piece {
  const first = read(records[0]!);
  const run = [first];
  let bytes = CHUNK_HEAD_BYTES + sizeOf(first);
  for (const record of records.slice(1, CHUNK_REVISIONS_MAX)) {
    const next = read(record);
    bytes += sizeOf(next);
    if (next.kind !== first.kind || bytes > CHUNK_BYTES_MAX) break;
    run.push(next);
  }
  const throughOffset = run.at(-1)!.record.offset;
  const letters = run.flatMap((item) =>
    item.kind === 'dead' ? [{ record: item.record, problem: item.problem }] : [],
  );
  if (letters.length > 0) return { kind: 'dead', letters, throughOffset };
  const { topic, partition, offset } = first.record;
  return {
    kind: 'revisions',
    chunk: {
      topic,
      partition,
      firstOffset: offset,
      throughOffset,
      endOffset,
      revisions: run.flatMap((item) => (item.kind === 'revision' ? [item.revision] : [])),
    },
  };
}

/** Counts revisions with the comma between them, and dead letters with their whole content. */
function sizeOf(read: ReadRecord): number {
  if (read.kind === 'revision') return jsonBytes(read.revision) + 1;
  const { key, value, headers } = read.record;
  const parts = [key, value, ...Object.entries(headers).flat(2)];
  return parts.reduce((bytes, part) => bytes + (part === null ? 0 : Buffer.byteLength(part)), 0);
}
