/**
 * The next piece of a partition's records: successive revisions for the workflow, or successive
 * dead letters.
 */
import {
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  jsonBytes,
  type RevisionChunk,
} from '../workflows/contract.ts';
import type { Problem, ReadRecord } from './ingest-record.ts';
import type { ConsumedRecord } from '../kafka/records.ts';

export type Piece =
  | { kind: 'revisions'; chunk: Omit<RevisionChunk, 'readFrom' | 'run'> }
  | {
      kind: 'dead';
      letters: { record: ConsumedRecord; problem: Problem }[];
      throughOffset: string;
    };

/** Room for the chunk's own fields beside its revisions. */
const CHUNK_HEAD_BYTES = 1_000;

/**
 * Takes the longest run of one kind off the front, within the chunk's bounds; at least one record,
 * of which there must be one. `endOffset` is the partition's. Dead letters are a piece of their
 * own: were they part of a chunk, a full buffer would send them again at every try.
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

/** JSON needs a comma between two revisions. A dead letter goes on with all that it brought. */
function sizeOf(read: ReadRecord): number {
  if (read.kind === 'revision') return jsonBytes(read.revision) + 1;
  const { key, value, headers } = read.record;
  const parts = [key, value, ...Object.entries(headers).flat(2)];
  return parts.reduce((bytes, part) => bytes + (part === null ? 0 : Buffer.byteLength(part)), 0);
}
