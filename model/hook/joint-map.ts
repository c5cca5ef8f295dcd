/**
 * One linear map for all corrections of a version, as the papers have it. With the keys K [N, F]
 * and wanted changes U [N, D] as rows, W_h - W0 is the least-squares solution over all of them:
 *   W_h - W0 = U^T K (A0 + K^T K)^-1 = U^T (I + K P0 K^T)^-1 K P0      (P0 = A0^-1)
 * by the push-through identity, kept as two factors, (W_h - W0) k = E^T (Q k):
 *   few pairs (the kernel form of Woodbury's update): R R^T = I + K P0 K^T, N x N;
 *     Q = R^-1 K P0 [N, F],  E = R^-1 U [N, D];
 *   many pairs: R R^T = A0 + K^T K, F x F;
 *     Q = R^-1 [F, F],       E = R^-1 K^T U [F, D].
 * Both run in float64, and no W_h is ever formed. One map has F directions. Beyond about F / 2
 * pairs the corrections crowd one another out, so it is not the default (subject-map.ts).
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Prior } from '../statistics/prior.ts';
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
import type { LayerCache } from './hook-cache.ts';
import { matrix64, type PairRows } from './pair-blocks.ts';

/** Owns its tensors. */
export interface JointMap {
  readonly kind: 'joint';
  /** Q [M, F], M = N or F. */
  readonly whitened_MF: tf.Tensor2D;
  /** E [M, D] */
  readonly change_MD: tf.Tensor2D;
  /** |W_h - W0|_F */
  readonly norm: number;
}

/** Share of F up to which the kernel form is cheaper than the F x F form. */
const KERNEL_FORM_SHARE = 0.5;

/** Throws NotPositiveDefinite on keys that are not finite. */
export function jointMap(prior: Prior, rows: PairRows, cache: LayerCache): JointMap {
  const factors =
    rows.count <= KERNEL_FORM_SHARE * prior.lower.rows
      ? kernelFactors(prior, rows)
      : momentFactors(rows, cache);
  return { kind: 'joint', ...factors, norm: factorNorm(factors) };
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

function momentFactors(rows: PairRows, cache: LayerCache): Factors {
  return cache.withMoments(rows, ({ keys, cross }) => {
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
