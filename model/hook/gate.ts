/**
 * Scores of the gates. A gate opens at a token where the score reaches the block's threshold.
 *
 *   subject   at a token that ends a corrected subject's name (subject-names.ts): the largest
 *             cosine between k and that subject's corrected keys, whitened by P0, in the lowest
 *             edited block; the blocks above follow its decision. No edit lies below that block,
 *             so the decision is the base model's alone: it does not depend on the edits, and a
 *             correction's own prompt has exactly the stored key. The name excludes other subjects
 *             with similar keys; the key excludes other meanings of the name
 *   sequence  the z-score of |(W_h - W0) k| over the token's sequence (arXiv 2403.05330), without
 *             fillers; every token counts and the deviation divides by n - 1, as in the reference
 *   always    1
 *
 * The subject gate sees only the token and those before it. An answer therefore does not depend on
 * padding or neighbours, and cached decoding gives the same decisions as the whole sequence.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { TokenRows } from '../network/token-rows.ts';
import { keyEnergy } from '../statistics/prior.ts';
import { changeOf, type LayerHook } from './layer-hook.ts';
import { BLOCK_PAIRS, COUPLES_TOGETHER_MAX } from './pair-blocks.ts';

/** A row of keys, and the pair to compare it with. */
interface Couple {
  row: number;
  pair: number;
}

/** Cosine, whitened by P0, between the key and the pair of each couple. */
export function whitenedCosines(
  { prior, pairBlocks }: LayerHook,
  keys_RF: tf.Tensor2D,
  couples: readonly Couple[],
): Float32Array {
  const cosines = new Float32Array(couples.length);
  const rows = [...new Set(couples.map(({ row }) => row))];
  const place = new Map(rows.map((row, i) => [row, i]));
  tf.tidy(() => {
    const keys = tf.gather(keys_RF, tf.tensor1d(rows, 'int32'));
    const energies = keyEnergy(keys, prior.prior_FF).dataSync();
    pairBlocks.forEach(({ affinity_BF, energy }, b) => {
      const ofBlock = couples.flatMap(({ row, pair }, c) =>
        Math.floor(pair / BLOCK_PAIRS) === b
          ? [{ c, row: place.get(row)!, pair: pair - b * BLOCK_PAIRS }]
          : [],
      );
      for (let from = 0; from < ofBlock.length; from += COUPLES_TOGETHER_MAX) {
        const some = ofBlock.slice(from, from + COUPLES_TOGETHER_MAX);
        const products = rowProducts(keys, affinity_BF, some);
        some.forEach(({ c, row, pair }, i) => {
          const scale = Math.sqrt(energies[row]! * energy[pair]!);
          cosines[c] = scale > 0 ? products[i]! / scale : 0;
        });
      }
    });
  });
  return cosines;
}

/** k^T P0 k_i of each couple. */
function rowProducts(keys_RF: tf.Tensor2D, affinity_BF: tf.Tensor2D, couples: readonly Couple[]) {
  const picked = (from: tf.Tensor2D, rows: number[]) => tf.gather(from, tf.tensor1d(rows, 'int32'));
  return tf.tidy(() => {
    const affinity = picked(
      affinity_BF,
      couples.map(({ pair }) => pair),
    );
    const keys = picked(
      keys_RF,
      couples.map(({ row }) => row),
    );
    return tf.sum(tf.mul(keys, affinity), 1).dataSync();
  });
}

/** The scores of the `sequence` gate, [R]. */
export function sequenceScores(
  block: LayerHook,
  keys_RF: tf.Tensor2D,
  rows: TokenRows,
): Float32Array {
  const sizes = tf.tidy(
    () => tf.norm(changeOf(block, keys_RF), 'euclidean', 1).dataSync() as Float32Array,
  );
  return zScores(sizes, rows);
}

/**
 * Standardises values inside each sequence. Equal values and single tokens score 0, where the
 * reference divides 0 by 0.
 */
function zScores(values: Float32Array, rows: TokenRows): Float32Array {
  const scores = new Float32Array(values.length);
  for (let b = 0; b < rows.sequences; b++) {
    const [begin, end] = [rows.starts[b]!, rows.starts[b + 1]!];
    const members = values.subarray(begin, end);
    const mean = members.reduce((sum, value) => sum + value, 0) / members.length;
    const squares = members.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    if (squares === 0) continue;
    const deviation = Math.sqrt(squares / (members.length - 1));
    for (let row = begin; row < end; row++) scores[row] = (values[row]! - mean) / deviation;
  }
  return scores;
}
