/**
 * The rows of a PairSet. The changes of a correction lie in its row as one change of D numbers per
 * key and, where the `sequence` gate is used, the correction's reach (reach.ts) as one number more.
 */
import type { PairSet } from '../engine-types.ts';

/**
 * The older set on the newer one's memory where its rows are how the newer begins, as when a
 * version was committed on another; else the older set itself. So hooks of consecutive versions
 * keep their pairs once.
 */
export function sharingRows(older: PairSet, newer: PairSet): PairSet {
  const share = (mine: readonly Float32Array[], theirs: readonly Float32Array[]) =>
    mine.map((rows, i) =>
      beginsWith(theirs[i], rows) ? theirs[i]!.subarray(0, rows.length) : rows,
    );
  if (older.keyWidth !== newer.keyWidth || older.valueWidth !== newer.valueWidth) return older;
  return {
    ...older,
    keys: share(older.keys, newer.keys),
    changes: share(older.changes, newer.changes),
  };
}

function beginsWith(long: Float32Array | undefined, short: Float32Array): boolean {
  if (long === undefined || long.length < short.length) return false;
  const bytes = (values: Float32Array) =>
    Buffer.from(values.buffer, values.byteOffset, 4 * short.length);
  return bytes(long).equals(bytes(short));
}

/** Rows of changes [n, width] with one more number at the end of each: [n, width + 1]. */
export function withReaches(changes: Float32Array, reaches: Float32Array): Float32Array {
  const width = changes.length / reaches.length;
  const rows = new Float32Array(changes.length + reaches.length);
  reaches.forEach((reach, row) => {
    rows.set(changes.subarray(row * width, (row + 1) * width), row * (width + 1));
    rows[row * (width + 1) + width] = reach;
  });
  return rows;
}

/** Each item several times in a row: a correction has one pair per view of its prompt. */
export function repeatEach(items: readonly string[], times: number): string[] {
  return items.flatMap((item) => new Array<string>(times).fill(item));
}

/**
 * The changes without reaches, and the smallest reach; without reaches it is infinite. D is the
 * residual width.
 */
export function takeReaches(
  rows: Float32Array,
  count: number,
  D: number,
): { changes: Float32Array; smallest: number } {
  const width = rows.length / count;
  if (width % D === 0) return { changes: rows, smallest: Number.POSITIVE_INFINITY };
  const changes = new Float32Array(count * (width - 1));
  let smallest = Number.POSITIVE_INFINITY;
  for (let row = 0; row < count; row++) {
    changes.set(rows.subarray(row * width, (row + 1) * width - 1), row * (width - 1));
    smallest = Math.min(smallest, rows[(row + 1) * width - 1]!);
  }
  return { changes, smallest };
}
