/** Dense float64 matrices in plain JavaScript, simple and slow, as a reference for tests. */

/** Rows of numbers. */
export type Plain = number[][];

export function plain(
  rows: number,
  columns: number,
  entry: (row: number, column: number) => number,
): Plain {
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: columns }, (_, j) => entry(i, j)),
  );
}

export function identity(size: number): Plain {
  return plain(size, size, (i, j) => (i === j ? 1 : 0));
}

export function transposed(a: Plain): Plain {
  return plain(a[0]?.length ?? 0, a.length, (i, j) => a[j]![i]!);
}

export function product(a: Plain, b: Plain): Plain {
  return plain(a.length, b[0]!.length, (i, j) =>
    a[i]!.reduce((sum, value, k) => sum + value * b[k]![j]!, 0),
  );
}

export function sum(a: Plain, b: Plain): Plain {
  return plain(a.length, a[0]!.length, (i, j) => a[i]![j]! + b[i]![j]!);
}

export function scaled(a: Plain, factor: number): Plain {
  return a.map((row) => row.map((value) => value * factor));
}

/** X with a X = b, by Gaussian elimination with row pivots. */
export function solved(a: Plain, b: Plain): Plain {
  const size = a.length;
  const rows = a.map((row, i) => [...row, ...b[i]!]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let i = column; i < size; i++)
      if (Math.abs(rows[i]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = i;
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    const head = rows[column]!;
    for (let i = 0; i < size; i++) {
      if (i === column) continue;
      const factor = rows[i]![column]! / head[column]!;
      for (let j = column; j < head.length; j++) rows[i]![j]! -= factor * head[j]!;
    }
  }
  return rows.map((row, i) => row.slice(size).map((value) => value / row[i]!));
}

/** G G^T / columns + floor * I of a random G: symmetric and positive definite. */
export function randomDefinite(size: number, random: () => number, floor = 0.1): Plain {
  const g = plain(size, 2 * size, () => 2 * random() - 1);
  return sum(scaled(product(g, transposed(g)), 1 / (2 * size)), scaled(identity(size), floor));
}

export function flat(a: Plain): Float64Array {
  return Float64Array.from(a.flat());
}

export function frobenius(a: Plain): number {
  return Math.hypot(...a.flat());
}
