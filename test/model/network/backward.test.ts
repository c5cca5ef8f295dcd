import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { disposePast, gatherPast } from '../../../model/network/attention-past.ts';
import { readPast } from '../../../model/network/decode.ts';
import { backThrough, disposeRecord, type RunRecord } from '../../../model/network/transformer.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import { layOutRows } from '../../../model/network/token-rows.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import { loadTiny, TINY_MODELS, type TinyModel } from '../../harness/tiny-model.ts';

/** Relative to the largest entry, for two orders of summing the same float32 numbers. */
const TOLERANCE = 1e-5;

describe.each(TINY_MODELS)('the backward pass of a tiny %s', (name) => {
  let tiny: TinyModel;
  beforeAll(async () => {
    tiny = await loadTiny(name);
    // Weights are uploaded to the backend on first use.
    disposePast(readPast(tiny.model, [[3]], { from: 0, to: tiny.model.config.layers }));
  });
  afterAll(() => tiny.close());

  it.each([
    [
      'of one length',
      [
        [5, 6, 7],
        [8, 9, 10],
      ],
    ],
    ['of several lengths', [[5], [6, 7, 8, 9], [10, 11]]],
  ])("equals the tape's gradient for sequences %s after a past", (_, sequences) => {
    const { model } = tiny;
    const alive = raw.liveCount();
    const range = { from: 1, to: model.config.layers };
    const read = readPast(model, [[3, 4, 5], [6]], range)!;
    const past = gatherPast(
      read,
      sequences.map((_, b) => b % 2),
    );
    disposePast(read);
    const rows = layOutRows(
      sequences,
      sequences.map((_, b) => (b % 2 === 0 ? 3 : 1)),
    );
    const shape: [number, number] = [rows.count, model.config.residualWidth];
    const [hidden, upstream] = [7, 8].map((seed) =>
      tf.randomNormal<tf.Rank.R2>(shape, 0, 1, 'float32', seed),
    ) as [tf.Tensor2D, tf.Tensor2D];

    const byTape = tf.grad((x: tf.Tensor) =>
      tf.sum(tf.mul(model.run(x as tf.Tensor2D, rows, range, { past }).hidden, upstream)),
    )(hidden);
    const record: RunRecord = { geometry: null, blocks: [] };
    const out = model.run(hidden, rows, range, { past, record });
    const byHand = backThrough(model, record, upstream);

    const wanted = byTape.dataSync() as Float32Array;
    const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0);
    expect(largestDifference(byHand.dataSync() as Float32Array, wanted) / largest).toBeLessThan(
      TOLERANCE,
    );

    disposeRecord(record);
    tf.dispose([byTape, byHand, out.hidden, hidden, upstream]);
    disposePast(past);
    expect(raw.liveCount()).toBe(alive);
  });
});
