/**
 * One linear map for all corrections of a version, as the papers have it. With the keys K [N, F]
 * and wanted changes U [N, D] as rows, W_h - W0 is the least-squares solution over all of them:
 *   W_h - W0 = U^T K (A0 + K^T K)^-1 = U^T (I + K P0 K^T)^-1 K P0          (push-through identity, P0 = A0^-1)
 * kept as two factors, (W_h - W0) k = E^T (Q k), such that the product Q k tells the leverage as
 * well. Which ones depends on what there is less of:
 *   few pairs (the kernel form of Woodbury's update): R R^T = I + K P0 K^T, N x N;
 *     Q = R^-1 K P0 [N, F],  E = R^-1 U [N, D],          leverage h(k) = |Q k|^2 / (k^T P0 k);
 *   many pairs: R R^T = A0 + K^T K, F x F;
 *     Q = R^-1 [F, F],       E = R^-1 K^T U [F, D],      leverage h(k) = 1 - |Q k|^2 / (k^T P0 k).
 * Both in float64; no W_h is ever formed. One map has F directions: past F / 2 pairs or so the
 * corrections crowd one another out, which is why it is not the default (subject-map.ts).
 */
import * as tf from '@tensorflow/tfjs-core';
import {
  add64,
  cholesky64,
  identity64,
  multiply64,
  narrow32,
  scope64,
  solveLower64,
  transpose64,
} from '../tensor/float64.ts';
import type { LayerMemory } from './hook-memory.ts';
import { matrix64, type PairRows } from './pair-blocks.ts';
import type { Prior } from '../statistics/prior.ts';

/** The tensors are the map's. */
export interface JointMap {
  readonly kind: 'joint';
  /** Whether |Q k|^2 is what the corrections explain of a key's energy, or what they leave. */
  readonly response: 'explained' | 'left';
  /** Q [M, F], M = N or F. */
  readonly whitened_MF: tf.Tensor2D;
  /** E [M, D] */
  readonly change_MD: tf.Tensor2D;
  /** |W_h - W0|_F */
  readonly norm: number;
}

/** Pairs above this share of F: the F x F form is cheaper. */
const KERNEL_FORM_SHARE = 0.5;

/** Throws NotPositiveDefinite on keys that are not finite. */
export function jointMap(prior: Prior, rows: PairRows, memory: LayerMemory): JointMap {
  const isFew = rows.count <= KERNEL_FORM_SHARE * prior.lower.rows;
  const factors = isFew ? kernelFactors(prior, rows) : momentFactors(rows, memory);
  return {
    kind: 'joint',
    response: isFew ? 'explained' : 'left',
    ...factors,
    norm: factorNorm(factors),
  };
}

/** (W_h - W0) k of each key, [R, D]. */
export function jointChange(
  { whitened_MF, change_MD }: JointMap,
  keys_RF: tf.Tensor2D,
): tf.Tensor2D {
  return tf.tidy(() =>
    tf.matMul<tf.Tensor2D>(tf.matMul(keys_RF, whitened_MF, false, true), change_MD),
  );
}

/** h(k) of each key, whose k^T P0 k are given: [R]. */
export function leverageOf(
  { response, whitened_MF }: JointMap,
  keys_RF: tf.Tensor2D,
  energy: tf.Tensor1D,
): Float32Array {
  return tf.tidy(() => {
    const share = tf.divNoNan(
      tf.sum(tf.square(tf.matMul(keys_RF, whitened_MF, false, true)), 1),
      energy,
    );
    // A key of zeros has no energy that anything could explain.
    return (response === 'explained' ? share : tf.where(tf.greater(energy, 0), tf.sub(1, share), 0))
      .dataSync()
      .slice() as Float32Array;
  });
}

type Factors = Pick<JointMap, 'whitened_MF' | 'change_MD'>;

function kernelFactors(prior: Prior, { keys, changes, count }: PairRows): Factors {
  return scope64(() => {
    const white_FN = solveLower64(prior.lower, transpose64(matrix64(keys, count)));
    const factor = cholesky64(
      add64(multiply64(white_FN, white_FN, true, false), identity64(count)),
    );
    const affinity = transpose64(solveLower64(prior.lower, white_FN, true));
    return {
      whitened_MF: narrow32(solveLower64(factor, affinity)),
      change_MD: narrow32(solveLower64(factor, matrix64(changes, count))),
    };
  });
}

function momentFactors(rows: PairRows, memory: LayerMemory): Factors {
  return memory.withMoments(rows, ({ keys, cross }) => {
    const factor = cholesky64(keys);
    return {
      whitened_MF: narrow32(solveLower64(factor, identity64(keys.rows))),
      change_MD: narrow32(solveLower64(factor, cross)),
    };
  });
}

/** |E^T Q|_F */
function factorNorm({ whitened_MF, change_MD }: Factors): number {
  return tf.tidy(() => tf.norm(tf.matMul(change_MD, whitened_MF, true, false)).dataSync()[0]!);
}
