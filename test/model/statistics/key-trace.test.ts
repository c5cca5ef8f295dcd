import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keysOf } from '../../../model/statistics/key-statistics.ts';
import { keyTraces, massiveLayers, type KeyTrace } from '../../../model/statistics/key-trace.ts';
import { loadTiny, type TinyModel } from '../../harness/tiny-model.ts';

let tiny: TinyModel;
beforeAll(async () => {
  tiny = await loadTiny('llama');
});
afterAll(() => tiny.close());

const tracesOf = (...values: number[]): KeyTrace[] =>
  values.map((trace, layer) => ({ layer, trace, traceWithFirst: trace }));

describe('key traces', () => {
  it('are the mean squared length of each block’s keys', async () => {
    const sequences = Array.from({ length: 11 }, (_, i) => [
      0,
      ...Array.from({ length: 3 + i }, (__, t) => (7 * i + 5 * t) % 100),
    ]);
    const before = tf.memory().numTensors;
    const traces = await keyTraces(tiny.model, sequences);
    expect(tf.memory().numTensors).toBe(before);
    const layers = [0, 1, 2, 3];
    expect(traces.map(({ layer }) => layer)).toEqual(layers);
    const keys = keysOf(tiny.model, sequences, layers);
    for (const layer of layers) {
      const all = keys.get(layer)!;
      const expected = tf.tidy(() => tf.sum(tf.square(all)).dataSync()[0]!) / all.shape[0];
      expect(Math.abs(traces[layer]!.trace / expected - 1)).toBeLessThan(1e-4);
      all.dispose();
    }
  });

  it('name an outlying block, but not blocks that grow with depth', () => {
    expect(massiveLayers(tracesOf(30, 35, 40, 45, 19_915, 50, 60, 70))).toEqual([4]);
    expect(massiveLayers(tracesOf(1, 2, 4, 8, 16, 32, 64, 128))).toEqual([]);
    expect(massiveLayers(tracesOf(5000, 40, 45, 50))).toEqual([0]);
    expect(massiveLayers(tracesOf(40))).toEqual([]);
  });

  it('name a block whose first tokens alone are massive', () => {
    const traces = tracesOf(40, 41, 42, 43, 44).map((trace) =>
      trace.layer === 2 ? { ...trace, traceWithFirst: 900 } : trace,
    );
    expect(massiveLayers(traces)).toEqual([2]);
  });
});
