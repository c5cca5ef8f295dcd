import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, test } from 'vitest';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import {
  deviceSeen,
  loadTensorFlow,
  raw,
  tensorflowVersion,
  TensorFlowError,
  TF_ATTR,
  TF_DTYPE,
} from '../../../model/tensor/tensorflow.ts';

const { addon } = homeFromEnvironment().tensorflow('cpu');
const type = (name: string, value: number) => ({ name, type: TF_ATTR.type, value });
const flag = (name: string, value: boolean) => ({ name, type: TF_ATTR.bool, value });

const FLOAT64 = type('T', TF_DTYPE.float64);

/** Runs a kernel with one output. */
function run(
  kernel: string,
  attributes: Parameters<typeof raw.execute>[1],
  inputs: number[],
): number {
  const ids = raw.execute(kernel, attributes, inputs, 1);
  expect(ids).toHaveLength(1);
  return ids[0]!;
}
const cast = (id: number, from: number, to: number): number =>
  run('Cast', [type('SrcT', from), type('DstT', to), flag('Truncate', false)], [id]);

let unloaded: unknown;
beforeAll(() => {
  try {
    raw.liveCount();
  } catch (error) {
    unloaded = error;
  }
  loadTensorFlow(addon);
});

test('raw kernels are refused until TensorFlow is loaded', () => {
  expect(unloaded).toBeInstanceOf(TensorFlowError);
});

test('TensorFlow is loaded once, as the backend of the tfjs that everybody imports', () => {
  expect(loadTensorFlow(addon)).toBe(tf);
  expect(tf.getBackend()).toBe('tensorflow');
  expect(tensorflowVersion()).toBe('2.18.1');
  expect(deviceSeen()).toBe('cpu');
});

test('a second addon is refused', () => {
  expect(() => loadTensorFlow('/somewhere/else.node')).toThrow(/already loaded/);
});

test('the gradients needed by a transformer equal central differences', () => {
  const before = raw.liveCount();
  const x = tf.tensor2d([1, 2, 3, 5], [2, 2]);
  const mask = tf.tensor2d([1, 0, 0, 1, 1, 1], [3, 2], 'bool');
  const loss = (input: tf.Tensor): tf.Scalar => {
    const attention = tf.softmax(tf.matMul(input, input, false, true));
    const rows = tf.concat([attention, tf.gather(input, [1])], 0);
    const masked = tf.where(mask, rows, tf.zerosLike(rows));
    const normed = tf.mul(masked, tf.rsqrt(tf.add(tf.mean(tf.square(masked), -1, true), 1e-5)));
    return tf.sum<tf.Scalar>(tf.mul(normed, tf.sigmoid(tf.slice(normed, [0, 0], [3, 2]))));
  };
  const gradient = tf.grad(loss)(x);
  // Central differences in float32: the step trades rounding (1e-7 / step) against curvature
  // (step squared).
  const step = 1e-2;
  const values = Array.from(x.dataSync());
  const numeric = values.map((_, i) => {
    const at = (delta: number): number => {
      const moved = values.map((v, j) => (i === j ? v + delta : v));
      return tf.tidy(() => loss(tf.tensor2d(moved, [2, 2])).dataSync()[0] ?? NaN);
    };
    return (at(step) - at(-step)) / (2 * step);
  });
  Array.from(gradient.dataSync()).forEach((value, i) => {
    expect(value).toBeCloseTo(numeric[i] ?? NaN, 2);
  });
  tf.dispose([x, mask, gradient]);
  expect(raw.liveCount()).toBe(before);
});

test('raw kernels factor a matrix in float64', () => {
  const before = raw.liveCount();
  // A Hilbert matrix: in float32 the factor's error would be far larger.
  const n = 8;
  const hilbert = tf.tensor2d(
    Array.from({ length: n * n }, (_, k) => 1 / (Math.floor(k / n) + (k % n) + 1)),
    [n, n],
  );
  const identity = tf.eye(n);
  const scale = tf.scalar(1e-6);
  const [sums, ones, ridge] = [hilbert, identity, scale].map((tensor) =>
    cast(raw.idOf(tensor), TF_DTYPE.float32, TF_DTYPE.float64),
  ) as [number, number, number];
  const damping = run('Mul', [FLOAT64], [ones, ridge]);
  const matrix = run('AddV2', [FLOAT64], [sums, damping]);
  const factor = run('Cholesky', [FLOAT64], [matrix]);
  expect(raw.shapeOf(factor)).toEqual([n, n]);
  const transposed = [flag('transpose_a', false), flag('transpose_b', true)];
  const product = run('MatMul', [FLOAT64, ...transposed], [factor, factor]);
  const difference = run('Sub', [FLOAT64], [product, matrix]);
  const residual = raw.tensor(cast(difference, TF_DTYPE.float64, TF_DTYPE.float32));
  expect(Math.max(...residual.dataSync().map(Math.abs))).toBeLessThan(1e-15);
  for (const id of [sums, ones, ridge, damping, matrix, factor, product, difference]) raw.free(id);
  tf.dispose([hilbert, identity, scale, residual]);
  expect(raw.liveCount()).toBe(before);
});

test('raw kernels free only their own tensors, once, and pass no float64 to tfjs', () => {
  const x = tf.scalar(1);
  expect(() => raw.free(raw.idOf(x))).toThrow(TensorFlowError);
  const wide = cast(raw.idOf(x), TF_DTYPE.float32, TF_DTYPE.float64);
  expect(() => raw.tensor(wide)).toThrow(/float64/);
  raw.free(wide);
  expect(() => raw.free(wide)).toThrow(TensorFlowError);
  x.dispose();
});

test("a worker thread without TensorFlow's environment is refused", async () => {
  const module = new URL('../../../model/tensor/tensorflow.ts', import.meta.url).href;
  const worker = new Worker(
    `import('tsx/esm/api').then(async ({ register }) => {
       register();
       const { loadTensorFlow } = await import(${JSON.stringify(module)});
       const { parentPort } = await import('node:worker_threads');
       try { loadTensorFlow('unused'); } catch (error) { parentPort.postMessage(error.facts); }
     })`,
    { eval: true, env: { PATH: process.env['PATH'] } },
  );
  const [facts] = (await once(worker, 'message')) as [{ missing: string[] }];
  expect(facts.missing).toContain('NVIDIA_TF32_OVERRIDE');
  await worker.terminate();
});
