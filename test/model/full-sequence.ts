/**
 * Predicts by running the whole sequence again for each token: no cache and no batch. The faster
 * ways are compared with it.
 */
import * as tf from '@tensorflow/tfjs-core';
import { layOutRows } from '../../model/network/token-rows.ts';
import type { Transformer } from '../../model/network/transformer.ts';

/** log p [T, V] of the token after each position. */
export function logProbabilities(model: Transformer, tokens: readonly number[]): Float32Array[] {
  const flat = tf.tidy(() => {
    const rows = layOutRows([tokens]);
    const { hidden } = model.run(model.embed(rows), rows, { from: 0, to: model.config.layers });
    return tf.logSoftmax(model.logits(hidden)).dataSync().slice();
  });
  const V = flat.length / tokens.length;
  return tokens.map((_, t) => flat.subarray(t * V, (t + 1) * V) as Float32Array);
}

export function argMax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

/** The most probable continuation token by token, up to and including the first of `ends`. */
export function greedily(
  model: Transformer,
  prompt: readonly number[],
  tokensMax: number,
  ends: readonly number[] = [],
): number[] {
  const said: number[] = [];
  while (said.length < tokensMax && !ends.includes(said.at(-1) ?? -1)) {
    said.push(argMax(logProbabilities(model, [...prompt, ...said]).at(-1)!));
  }
  return said;
}
