/**
 * The prior of an edited block: P0 = (lambda C0 + ridge I)^-1, the inverse of the key moment from
 * which consecutive least squares starts.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import type { Matrix64 } from '../tensor/float64.ts';
import {
  add64,
  cholesky64,
  free64,
  identity64,
  narrow32,
  NotPositiveDefinite,
  scale64,
  scope64,
  solveCholesky64,
  trace64,
} from '../tensor/float64.ts';
import type { KeyStatistics } from './key-statistics.ts';
import type { Transformer } from '../network/transformer.ts';

export interface Prior {
  readonly layer: number;
  /** L [F, F], L L^T = lambda C0 + ridge I. */
  readonly lower: Matrix64;
  /** P0 [F, F]. */
  readonly prior_FF: tf.Tensor2D;
  /** D. */
  readonly residualWidth: number;
  /** |W0|_F. */
  readonly weightNorm: number;
  /**
   * The amount added to the diagonal, in units of C0's mean diagonal. Larger than the
   * hyper-parameter if the factorisation needed more.
   */
  readonly ridge: number;
}

/** Number of tenfold increases of the ridge before a singular moment is refused. */
const RIDGE_RAISES_MAX = 6;
const RIDGE_FIRST_RAISE = 1e-8;

/**
 * Builds the priors of all edited blocks. Throws NotPositiveDefinite if the largest ridge fails.
 */
export function buildPriors(
  model: Transformer,
  statistics: KeyStatistics,
  parameters: HyperParameters,
): Map<number, Prior> {
  const priors = new Map<number, Prior>();
  for (const layer of parameters.layers) {
    const moment = statistics.moments.get(layer);
    if (moment === undefined) throw new Error(`the key statistics hold no block ${layer}`);
    const { lower, ridge } = factor(moment, parameters);
    const prior_FF = scope64(() => narrow32(solveCholesky64(lower, identity64(lower.rows))));
    priors.set(layer, {
      layer,
      lower,
      prior_FF,
      residualWidth: model.config.residualWidth,
      weightNorm: tf.tidy(() => tf.norm(model.downWeight(layer)).dataSync()[0]!),
      ridge,
    });
  }
  return priors;
}

export function disposePriors(priors: Map<number, Prior>): void {
  for (const { lower, prior_FF } of priors.values()) {
    free64(lower);
    prior_FF.dispose();
  }
  priors.clear();
}

/** k^T P0 k of each key, [R]. */
export function keyEnergy(keys_RF: tf.Tensor2D, prior_FF: tf.Tensor2D): tf.Tensor1D {
  return tf.tidy(() => tf.sum(tf.mul(tf.matMul(keys_RF, prior_FF), keys_RF), 1));
}

function factor(moment: Matrix64, parameters: HyperParameters): { lower: Matrix64; ridge: number } {
  const meanDiagonal = trace64(moment) / moment.rows;
  let ridge = parameters.ridge;
  for (let raise = 0; ; raise++) {
    try {
      const lower = scope64(() =>
        cholesky64(
          scale64(
            add64(moment, scale64(identity64(moment.rows), ridge * meanDiagonal)),
            parameters.lambda,
          ),
        ),
      );
      return { lower, ridge };
    } catch (error) {
      if (!(error instanceof NotPositiveDefinite) || raise === RIDGE_RAISES_MAX) throw error;
      ridge = Math.max(ridge * 10, RIDGE_FIRST_RAISE);
    }
  }
}
