/**
 * Pairs in blocks of a fixed length, in the order of their set. Results for a block stay valid as
 * long as nothing before its end changes.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Matrix64 } from '../tensor/float64.ts';
import { widen64 } from '../tensor/float64.ts';
import type { Prior } from '../statistics/prior.ts';

export const BLOCK_PAIRS = 256;

/**
 * Number of keys compared with pairs at a time; bounds the gathered tensors, [couples, F] twice.
 */
export const COUPLES_TOGETHER_MAX = 2_048;

/** Pairs prepared for comparison with keys. */
export interface PairBlock {
  /** K P0 of the block's pairs, [B, F]. */
  readonly affinity_BF: tf.Tensor2D;
  /** k^T P0 k of each, [B]. */
  readonly energy: Float32Array;
}

/** One edited block's rows: keys [N, F] and changes [N, D], row-major. */
export interface PairRows {
  readonly keys: Float32Array;
  readonly changes: Float32Array;
  readonly count: number;
}

/** Prepares a block, which the caller owns. */
export function pairBlock(prior: Prior, { keys, count }: PairRows): PairBlock {
  return tf.tidy(() => {
    const keys_BF = tf.tensor2d(keys, [count, prior.lower.rows]);
    const affinity_BF = tf.matMul<tf.Tensor2D>(keys_BF, prior.prior_FF);
    return {
      affinity_BF,
      energy: tf.sum(tf.mul(affinity_BF, keys_BF), 1).dataSync().slice() as Float32Array,
    };
  });
}

/** Returns the rows of one block of a set. */
export function blockRows({ keys, changes, count }: PairRows, block: number): PairRows {
  const [from, to] = [
    Math.min(count, block * BLOCK_PAIRS),
    Math.min(count, (block + 1) * BLOCK_PAIRS),
  ];
  const [F, D] = [keys.length / count, changes.length / count];
  return {
    keys: keys.subarray(from * F, to * F),
    changes: changes.subarray(from * D, to * D),
    count: to - from,
  };
}

export function disposeBlocks(blocks: readonly PairBlock[]): void {
  for (const { affinity_BF } of blocks) affinity_BF.dispose();
}

export function matrix64(values: Float32Array, rows: number): Matrix64 {
  const narrow = tf.tensor2d(values, [rows, values.length / rows]);
  const wide = widen64(narrow);
  narrow.dispose();
  return wide;
}
