/**
 * Float64 matrices on TensorFlow's kernels, for the closed-form update: tfjs itself has float32
 * only and neither Cholesky nor triangular solves. Everything made inside `scope64` is freed at its
 * end but what it returns.
 */
import * as tf from '@tensorflow/tfjs-core';
import { raw, TF_ATTR, TF_DTYPE } from './tensorflow.ts';

/** A [rows, columns] float64 matrix in the backend's memory. */
export interface Matrix64 {
  readonly id: number;
  readonly rows: number;
  readonly columns: number;
}

/**
 * A Cholesky factorisation met a matrix that is not positive definite, or an entry that is not
 * finite.
 */
export class NotPositiveDefinite extends Error {
  override readonly name = 'NotPositiveDefinite';
  constructor(readonly facts: { size: number }) {
    super(
      `a ${facts.size} x ${facts.size} matrix is not positive definite; a larger ridge makes it so`,
    );
  }
}

/**
 * Runs `work` and frees what it made, but the matrices found in its result (an object's, array's or
 * map's own values).
 */
export function scope64<T>(work: () => T): T {
  const outer = open;
  const mine = new Set<number>();
  open = { made: mine, outer };
  let kept = new Set<number>();
  try {
    const result = work();
    kept = new Set(matricesIn(result).map((matrix) => matrix.id));
    return result;
  } finally {
    open = outer;
    for (const id of mine) {
      if (!kept.has(id)) raw.free(id);
      else outer?.made.add(id);
    }
  }
}

/** Takes matrices out of every scope that is open: they live until `free64`. */
export function keep64(...matrices: Matrix64[]): void {
  for (const matrix of matrices)
    for (let scope = open; scope !== null; scope = scope.outer) scope.made.delete(matrix.id);
}

/** Frees matrices that outlived their scope. */
export function free64(...matrices: Matrix64[]): void {
  keep64(...matrices);
  for (const matrix of matrices) raw.free(matrix.id);
}

/** Widens a float32 tensor; the tensor stays the caller's. */
export function widen64(x: tf.Tensor2D): Matrix64 {
  return made(raw.execute('Cast', CAST_32_TO_64, [raw.idOf(x)], 1)[0]!, x.shape[0], x.shape[1]);
}

/** Rounds to a float32 tensor, which tfjs owns. */
export function narrow32(x: Matrix64): tf.Tensor2D {
  return raw.tensor(raw.execute('Cast', CAST_64_TO_32, [x.id], 1)[0]!) as tf.Tensor2D;
}

/** Uploads float64 values exactly, as the sum of two float32 halves. */
export function upload64(values: Float64Array, rows: number, columns: number): Matrix64 {
  const high = Float32Array.from(values);
  const low = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) low[i] = values[i]! - high[i]!;
  return scope64(() => {
    const [highTensor, lowTensor] = [
      tf.tensor2d(high, [rows, columns]),
      tf.tensor2d(low, [rows, columns]),
    ];
    const sum = add64(widen64(highTensor), widen64(lowTensor));
    tf.dispose([highTensor, lowTensor]);
    return sum;
  });
}

/** Reads the values back, to about 48 bits of mantissa (two float32 halves). */
export function download64(x: Matrix64): Float64Array {
  return scope64(() => {
    const highTensor = narrow32(x);
    const lowTensor = narrow32(subtract64(x, widen64(highTensor)));
    const [high, low] = [highTensor.dataSync(), lowTensor.dataSync()];
    tf.dispose([highTensor, lowTensor]);
    return Float64Array.from(high, (value, i) => value + low[i]!);
  });
}

/** op(a) op(b), op the transpose where asked. */
export function multiply64(
  a: Matrix64,
  b: Matrix64,
  transposeA = false,
  transposeB = false,
): Matrix64 {
  const attributes = [
    { name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 },
    { name: 'transpose_a', type: TF_ATTR.bool, value: transposeA },
    { name: 'transpose_b', type: TF_ATTR.bool, value: transposeB },
  ];
  const id = raw.execute('MatMul', attributes, [a.id, b.id], 1)[0]!;
  return made(id, transposeA ? a.columns : a.rows, transposeB ? b.rows : b.columns);
}

export function add64(a: Matrix64, b: Matrix64): Matrix64 {
  return made(raw.execute('AddV2', T64, [a.id, b.id], 1)[0]!, a.rows, a.columns);
}

export function subtract64(a: Matrix64, b: Matrix64): Matrix64 {
  return made(raw.execute('Sub', T64, [a.id, b.id], 1)[0]!, a.rows, a.columns);
}

/** Entry by entry. */
export function times64(a: Matrix64, b: Matrix64): Matrix64 {
  return made(raw.execute('Mul', T64, [a.id, b.id], 1)[0]!, a.rows, a.columns);
}

export function scale64(a: Matrix64, factor: number): Matrix64 {
  return scope64(() => {
    const scalar = upload64(Float64Array.of(factor), 1, 1);
    return made(raw.execute('Mul', T64, [a.id, scalar.id], 1)[0]!, a.rows, a.columns);
  });
}

export function identity64(size: number): Matrix64 {
  const eye = tf.eye(size);
  const wide = widen64(eye);
  eye.dispose();
  return wide;
}

/** Rows of a above rows of b. */
export function stack64(a: Matrix64, b: Matrix64): Matrix64 {
  return scope64(() => {
    const axis = tf.scalar(0, 'int32');
    const attributes = [
      { name: 'N', type: TF_ATTR.int, value: 2 },
      { name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 },
      { name: 'Tidx', type: TF_ATTR.type, value: TF_DTYPE.int32 },
    ];
    const id = raw.execute('ConcatV2', attributes, [a.id, b.id, raw.idOf(axis)], 1)[0]!;
    axis.dispose();
    return made(id, a.rows + b.rows, a.columns);
  });
}

/**
 * Lower Cholesky factor L of a symmetric positive definite matrix, L L^T = a. Throws
 * NotPositiveDefinite.
 */
export function cholesky64(a: Matrix64): Matrix64 {
  return scope64(() => {
    let id: number;
    try {
      id = raw.execute('Cholesky', T64, [a.id], 1)[0]!;
    } catch {
      throw new NotPositiveDefinite({ size: a.rows });
    }
    const factor = made(id, a.rows, a.columns);
    // TensorFlow's GPU kernel returns NaN where the CPU's throws, and so does the CPU's where the
    // matrix holds NaN.
    if (!Number.isFinite(trace64(factor))) throw new NotPositiveDefinite({ size: a.rows });
    return factor;
  });
}

/** X with L X = b, or L^T X = b where `adjoint`. */
export function solveLower64(lower: Matrix64, b: Matrix64, adjoint = false): Matrix64 {
  const attributes = [
    { name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 },
    { name: 'lower', type: TF_ATTR.bool, value: true },
    { name: 'adjoint', type: TF_ATTR.bool, value: adjoint },
  ];
  return made(
    raw.execute('MatrixTriangularSolve', attributes, [lower.id, b.id], 1)[0]!,
    lower.rows,
    b.columns,
  );
}

/** X with L L^T X = b. */
export function solveCholesky64(lower: Matrix64, b: Matrix64): Matrix64 {
  return scope64(() => solveLower64(lower, solveLower64(lower, b), true));
}

export function transpose64(a: Matrix64): Matrix64 {
  return scope64(() => {
    const order = tf.tensor1d([1, 0], 'int32');
    const attributes = [
      { name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 },
      { name: 'Tperm', type: TF_ATTR.type, value: TF_DTYPE.int32 },
    ];
    const id = raw.execute('Transpose', attributes, [a.id, raw.idOf(order)], 1)[0]!;
    order.dispose();
    return made(id, a.columns, a.rows);
  });
}

/** Sum of all entries. */
export function sum64(a: Matrix64): number {
  return scope64(() => {
    const axes = tf.tensor1d([0, 1], 'int32');
    const attributes = [
      { name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 },
      { name: 'Tidx', type: TF_ATTR.type, value: TF_DTYPE.int32 },
      { name: 'keep_dims', type: TF_ATTR.bool, value: true },
    ];
    const total = made(raw.execute('Sum', attributes, [a.id, raw.idOf(axes)], 1)[0]!, 1, 1);
    axes.dispose();
    return download64(total)[0]!;
  });
}

export function trace64(a: Matrix64): number {
  return scope64(() => sum64(times64(a, identity64(a.rows))));
}

const T64 = [{ name: 'T', type: TF_ATTR.type, value: TF_DTYPE.float64 }];
const CAST_32_TO_64 = [
  { name: 'SrcT', type: TF_ATTR.type, value: TF_DTYPE.float32 },
  { name: 'DstT', type: TF_ATTR.type, value: TF_DTYPE.float64 },
];
const CAST_64_TO_32 = [
  { name: 'SrcT', type: TF_ATTR.type, value: TF_DTYPE.float64 },
  { name: 'DstT', type: TF_ATTR.type, value: TF_DTYPE.float32 },
];

interface Scope {
  /** Ids. */
  readonly made: Set<number>;
  readonly outer: Scope | null;
}

/** The innermost open scope. */
let open: Scope | null = null;

function made(id: number, rows: number, columns: number): Matrix64 {
  open?.made.add(id);
  return { id, rows, columns };
}

function matricesIn(result: unknown): Matrix64[] {
  if (result === null || typeof result !== 'object') return [];
  if ('id' in result && 'columns' in result) return [result as Matrix64];
  const values: unknown[] = result instanceof Map ? [...result.values()] : Object.values(result);
  return values.flatMap(matricesInOne);
}

function matricesInOne(value: unknown): Matrix64[] {
  if (value === null || typeof value !== 'object') return [];
  return 'id' in value && 'columns' in value ? [value as Matrix64] : [];
}
