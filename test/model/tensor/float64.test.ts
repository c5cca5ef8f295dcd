import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import {
  add64,
  cholesky64,
  download64,
  free64,
  identity64,
  multiply64,
  narrow32,
  NotPositiveDefinite,
  scale64,
  scope64,
  solveCholesky64,
  solveLower64,
  subtract64,
  sum64,
  times64,
  trace64,
  transpose64,
  upload64,
  widen64,
  type Matrix64,
} from '../../../model/tensor/float64.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import {
  flat,
  identity,
  plain,
  product,
  randomDefinite,
  solved,
  transposed,
  type Plain,
} from '../plain-matrices.ts';

/**
 * download64 gives 48 bits of mantissa (4e-15 of a number); sums have some tens of terms, and the
 * condition number is below 100.
 */
const TOLERANCE = 1e-11;

const upload = (a: Plain): Matrix64 => upload64(flat(a), a.length, a[0]!.length);
const matrixOf = (rows: number, columns: number, random: () => number) =>
  plain(rows, columns, () => 2 * random() - 1);

let before: number[];
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});
beforeEach(() => {
  before = [raw.liveCount(), tf.memory().numTensors];
});
afterEach(() => {
  expect([raw.liveCount(), tf.memory().numTensors], 'tensors alive').toEqual(before);
});

const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const sizes = fc.integer({ min: 1, max: 12 });
const check = (holds: (seed: number, n: number, m: number, k: number) => void) =>
  fc.assert(fc.property(seeds, sizes, sizes, sizes, holds), { numRuns: 25 });

test('float64 products equal plain ones, either side transposed or not', () => {
  check((seed, n, m, k) => {
    const random = seededRandom(seed);
    const [a, b] = [matrixOf(n, k, random), matrixOf(k, m, random)];
    const wanted = flat(product(a, b));
    for (const [left, right] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ] as const) {
      const found = scope64(() => {
        const x = multiply64(
          upload(left ? transposed(a) : a),
          upload(right ? transposed(b) : b),
          left,
          right,
        );
        expect([x.rows, x.columns]).toEqual([n, m]);
        return download64(x);
      });
      expect(largestDifference(found, wanted)).toBeLessThan(TOLERANCE);
    }
  });
});

test('Cholesky factors and their solutions equal plain ones, from either side', () => {
  check((seed, n, m) => {
    const random = seededRandom(seed);
    const [a, b] = [randomDefinite(n, random), matrixOf(n, m, random)];
    scope64(() => {
      const lower = cholesky64(upload(a));
      const entries = download64(lower);
      entries.forEach((entry, at) => {
        if (at % n > Math.floor(at / n)) expect(entry).toBe(0);
      });
      expect(
        largestDifference(download64(multiply64(lower, lower, false, true)), flat(a)),
      ).toBeLessThan(TOLERANCE);
      const solution = download64(solveCholesky64(lower, upload(b)));
      expect(largestDifference(solution, flat(solved(a, b)))).toBeLessThan(TOLERANCE);
      const dense = plain(n, n, (i, j) => entries[i * n + j]!);
      const below = download64(solveLower64(lower, upload(b)));
      expect(largestDifference(below, flat(solved(dense, b)))).toBeLessThan(TOLERANCE);
      const above = download64(solveLower64(lower, upload(b), true));
      expect(largestDifference(above, flat(solved(transposed(dense), b)))).toBeLessThan(TOLERANCE);
    });
  });
});

test('float64 sums, scalings and transposes equal plain ones', () => {
  check((seed, n, m) => {
    const random = seededRandom(seed);
    const [a, b] = [matrixOf(n, m, random), matrixOf(n, m, random)];
    const total = a.flat().reduce((sum, value) => sum + value, 0);
    scope64(() => {
      const [x, y] = [upload(a), upload(b)];
      const near = (found: Matrix64, entry: (i: number, j: number) => number) =>
        expect(largestDifference(download64(found), flat(plain(n, m, entry)))).toBeLessThan(
          TOLERANCE,
        );
      near(add64(x, y), (i, j) => a[i]![j]! + b[i]![j]!);
      near(subtract64(x, y), (i, j) => a[i]![j]! - b[i]![j]!);
      near(times64(x, y), (i, j) => a[i]![j]! * b[i]![j]!);
      near(scale64(x, 1 / 3), (i, j) => a[i]![j]! / 3);
      expect(largestDifference(download64(transpose64(x)), flat(transposed(a)))).toBeLessThan(
        TOLERANCE,
      );
      expect(Math.abs(sum64(x) - total)).toBeLessThan(TOLERANCE);
    });
    expect(scope64(() => trace64(identity64(n)))).toBe(n);
  });
});

test('a number keeps 48 bits through upload and download, and all bits in a second round', () => {
  const values = Float64Array.of(Math.PI, -1 / 3, 1e-20, 123456789.12345679, 0, 2 ** 60 + 1);
  scope64(() => {
    const once = download64(upload64(values, 2, 3));
    values.forEach((value, i) =>
      expect(Math.abs(once[i]! - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -47),
    );
    expect(download64(upload64(once, 2, 3))).toEqual(once);
  });
});

test('float32 tensors are widened and narrowed, and stay with their owner', () => {
  const tensor = tf.tensor2d([1.5, -2.25, 3, 4], [2, 2]);
  const back = scope64(() => narrow32(widen64(tensor)));
  expect([...back.dataSync()]).toEqual([1.5, -2.25, 3, 4]);
  expect([...tensor.dataSync()]).toEqual([1.5, -2.25, 3, 4]);
  tf.dispose([tensor, back]);
});

test.each([
  [
    'with a negative eigenvalue',
    [
      [1, 2],
      [2, 1],
    ],
  ],
  [
    'that is singular',
    [
      [1, 1],
      [1, 1],
    ],
  ],
  [
    'of zeros',
    [
      [0, 0],
      [0, 0],
    ],
  ],
  [
    'with NaN on the diagonal',
    [
      [1, 0],
      [0, Number.NaN],
    ],
  ],
  [
    'with NaN beside the diagonal',
    [
      [1, Number.NaN],
      [Number.NaN, 1],
    ],
  ],
  [
    'with infinity',
    [
      [Number.POSITIVE_INFINITY, 0],
      [0, 1],
    ],
  ],
])('factorisation refuses a matrix %s, and leaks nothing', (_, entries) => {
  const tensor = tf.tensor2d(entries);
  const wide = widen64(tensor);
  tensor.dispose();
  // Runs outside any scope, where a forgotten factor would stay.
  expect(() => cholesky64(wide)).toThrow(NotPositiveDefinite);
  free64(wide);
});

test('a failed factorisation is reported with the size', () => {
  const wide = upload([
    [-1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ]);
  expect(() => cholesky64(wide)).toThrow(expect.objectContaining({ facts: { size: 3 } }));
  free64(wide);
});

test('a scope frees its tensors if its work throws, at any depth', () => {
  expect(() =>
    scope64(() => {
      const a = identity64(3);
      scope64(() => {
        add64(a, a);
        throw new RangeError('on purpose');
      });
    }),
  ).toThrow('on purpose');
});

test('a scope passes its result, plain or in a collection, to the outer scope', () => {
  scope64(() => {
    const alone = scope64(() => add64(identity64(2), identity64(2)));
    const { one } = scope64(() => ({ one: identity64(2), number: 3 }));
    const two = scope64(() => [identity64(2)])[0]!;
    const three = scope64(() => new Map([[7, identity64(2)]])).get(7)!;
    for (const matrix of [one, two, three])
      expect([...download64(matrix)]).toEqual([...flat(identity(2))]);
    expect(trace64(alone)).toBe(4);
  });
});

test('a scope keeps a returned matrix beyond all scopes until it is freed', () => {
  const kept = scope64(() => scope64(() => identity64(2)));
  expect(trace64(kept)).toBe(2);
  free64(kept);
});

test('a scope does not free again what was freed inside', () => {
  scope64(() => free64(identity64(2)));
  scope64(() => {
    const outer = identity64(2);
    scope64(() => free64(outer));
  });
});
