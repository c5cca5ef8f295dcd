/**
 * Float64 matrices on TensorFlow's kernels, for the closed-form update: tfjs has only float32, and
 * neither Cholesky nor triangular solves. Matrices made inside `scope64` are freed at its end,
 * except those it returns.
 */
import * as tf from '@tensorflow/tfjs-core';
import { raw, TF_ATTR, TF_DTYPE, type OpAttribute } from './tensorflow.ts';

/** A [rows, columns] float64 matrix in the backend's memory. */
export interface Matrix64 {
  readonly id: number;
  readonly rows: number;
  readonly columns: number;
}

/** A matrix to factor is not positive definite, or not finite. */
export class NotPositiveDefinite extends Error {
  override readonly name = 'NotPositiveDefinite';
  constructor(readonly facts: { size: number }) {
    super(
      `a ${facts.size} x ${facts.size} matrix is not positive definite; a larger ridge makes it so`,
    );
  }
}

/**
 * Runs `work` and frees the matrices it made, except those in its result: the result itself, or the
 * values of an object, array or map.
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

/** Takes matrices out of every open scope, so that they live until `free64`. */
export function keep64(...matrices: Matrix64[]): void {
  for (const matrix of matrices)
    for (let scope = open; scope !== null; scope = scope.outer) scope.made.delete(matrix.id);
}

/** Frees matrices that outlived their scope. */
export function free64(...matrices: Matrix64[]): void {
  keep64(...matrices);
  for (const matrix of matrices) raw.free(matrix.id);
}

/** Widens a float32 tensor, which the caller still owns. */
export function widen64(x: tf.Tensor2D): Matrix64 {
  const types = [ofType('SrcT', TF_DTYPE.float32), ofType('DstT', TF_DTYPE.float64)];
  return run('Cast', types, [raw.idOf(x)], x.shape);
}

/** Rounds to a float32 tensor, which tfjs owns. */
export function narrow32(x: Matrix64): tf.Tensor2D {
  const types = [ofType('SrcT', TF_DTYPE.float64), ofType('DstT', TF_DTYPE.float32)];
  return raw.tensor(raw.execute('Cast', types, [x.id], 1)[0]!) as tf.Tensor2D;
}

/** Uploads float64 values exactly, as the sum of two float32 halves. */
export function upload64(values: Float64Array, rows: number, columns: number): Matrix64 {
  const high = Float32Array.from(values);
  const low = Float32Array.from(values, (value, i) => value - high[i]!);
  return scope64(() => {
    const halves = [high, low].map((half) => tf.tensor2d(half, [rows, columns]));
    const sum = add64(widen64(halves[0]!), widen64(halves[1]!));
    tf.dispose(halves);
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

/** op(a) op(b), where op transposes if requested. */
export function multiply64(
  a: Matrix64,
  b: Matrix64,
  transposeA = false,
  transposeB = false,
): Matrix64 {
  const flags = [flag('transpose_a', transposeA), flag('transpose_b', transposeB)];
  return run(
    'MatMul',
    [...T64, ...flags],
    [a.id, b.id],
    [transposeA ? a.columns : a.rows, transposeB ? b.rows : b.columns],
  );
}

/** A kernel over the entries of two matrices. A 1 x 1 `b` is combined with every entry of `a`. */
const byEntry = (kernel: string) => (a: Matrix64, b: Matrix64) =>
  run(kernel, T64, [a.id, b.id], [a.rows, a.columns]);
export const add64 = byEntry('AddV2');
export const subtract64 = byEntry('Sub');
export const times64 = byEntry('Mul');

export function scale64(a: Matrix64, factor: number): Matrix64 {
  return scope64(() => times64(a, upload64(Float64Array.of(factor), 1, 1)));
}

export function identity64(size: number): Matrix64 {
  const eye = tf.eye(size);
  const wide = widen64(eye);
  eye.dispose();
  return wide;
}

/** Lower Cholesky factor L, L L^T = a, of a symmetric matrix. Throws NotPositiveDefinite. */
export function cholesky64(a: Matrix64): Matrix64 {
  return scope64(() => {
    let factor: Matrix64;
    try {
      factor = run('Cholesky', T64, [a.id], [a.rows, a.columns]);
    } catch {
      throw new NotPositiveDefinite({ size: a.rows });
    }
    // The GPU's kernel returns NaN where the CPU's throws; both do for a matrix that holds NaN.
    if (!Number.isFinite(trace64(factor))) throw new NotPositiveDefinite({ size: a.rows });
    return factor;
  });
}

/** X with L X = b, or L^T X = b if `adjoint`. */
export function solveLower64(lower: Matrix64, b: Matrix64, adjoint = false): Matrix64 {
  const attributes = [...T64, flag('lower', true), flag('adjoint', adjoint)];
  const shape: [number, number] = [lower.rows, b.columns];
  return run('MatrixTriangularSolve', attributes, [lower.id, b.id], shape);
}

/** X with L L^T X = b. */
export function solveCholesky64(lower: Matrix64, b: Matrix64): Matrix64 {
  return scope64(() => solveLower64(lower, solveLower64(lower, b), true));
}

export function transpose64(a: Matrix64): Matrix64 {
  const order = tf.tensor1d([1, 0], 'int32');
  const attributes = [...T64, ofType('Tperm', TF_DTYPE.int32)];
  const result = run('Transpose', attributes, [a.id, raw.idOf(order)], [a.columns, a.rows]);
  order.dispose();
  return result;
}

/** Sum of all entries. */
export function sum64(a: Matrix64): number {
  return scope64(() => {
    const axes = tf.tensor1d([0, 1], 'int32');
    const attributes = [...T64, ofType('Tidx', TF_DTYPE.int32), flag('keep_dims', true)];
    const total = run('Sum', attributes, [a.id, raw.idOf(axes)], [1, 1]);
    axes.dispose();
    return download64(total)[0]!;
  });
}

export function trace64(a: Matrix64): number {
  return scope64(() => sum64(times64(a, identity64(a.rows))));
}

const ofType = (name: string, value: number) => ({ name, type: TF_ATTR.type, value });
const flag = (name: string, value: boolean) => ({ name, type: TF_ATTR.bool, value });
const T64 = [ofType('T', TF_DTYPE.float64)];

interface Scope {
  readonly made: Set<number>;
  readonly outer: Scope | null;
}

let open: Scope | null = null;

function run(
  kernel: string,
  attributes: readonly OpAttribute[],
  inputIds: readonly number[],
  [rows, columns]: readonly [number, number],
): Matrix64 {
  const id = raw.execute(kernel, attributes, inputIds, 1)[0]!;
  open?.made.add(id);
  return { id, rows, columns };
}

function matricesIn(result: unknown): Matrix64[] {
  if (result === null || typeof result !== 'object') return [];
  if (isMatrix(result)) return [result];
  const values: unknown[] = result instanceof Map ? [...result.values()] : Object.values(result);
  return values.filter(isMatrix);
}

function isMatrix(value: unknown): value is Matrix64 {
  return typeof value === 'object' && value !== null && 'id' in value && 'columns' in value;
}
