/**
 * How the changes of a correction lie in its row of a PairSet: one change of D numbers per key and, where the `sequence`
 * gate is used, the correction's reach (reach.ts) as one number more.
 */

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

/** The changes without reaches, and the smallest reach; without reaches it is infinite. D is the residual width. */
export function takeReaches(rows: Float32Array, count: number, D: number): { changes: Float32Array; smallest: number } {
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
