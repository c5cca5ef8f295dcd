/**
 * The rows of a PairSet. A correction's row of changes holds D numbers per key and, if the
 * `sequence` gate is used, the correction's reach (reach.ts) as one more number.
 */
import type { PairSet } from '../engine-types.ts';

/**
 * Returns the older set as a view of the newer one's memory if the newer begins with its rows, as
 * when one version was committed on another; else the older set itself. Hooks of consecutive
 * versions then keep their pairs once.
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

/** Appends one number to each row of changes [n, width]: [n, width + 1]. */
export function withReaches(changes: Float32Array, reaches: Float32Array): Float32Array {
  const width = changes.length / reaches.length;
  const rows = new Float32Array(changes.length + reaches.length);
  reaches.forEach((reach, row) => {
    rows.set(changes.subarray(row * width, (row + 1) * width), row * (width + 1));
    rows[row * (width + 1) + width] = reach;
  });
  return rows;
}

/** Repeats each item in a row: a correction has one pair per view of its prompt. */
export function repeatEach(items: readonly string[], times: number): string[] {
  return items.flatMap((item) => new Array<string>(times).fill(item));
}

/**
 * Returns the changes without reaches, and the smallest reach (infinite without reaches). D is the
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
