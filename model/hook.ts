/**
 * The memory-friendly hook of one version: at each edited block a second weight W_h = W0 + S P beside the untouched W0,
 * and a gate that chooses per token between W_h k and W0 k.
 *
 * With the corrections' keys K [N, F] and wanted changes U [N, D] as rows, W_h is a pure function of that set:
 *   W_h - W0 = U^T K (A0 + K^T K)^-1 = U^T (I + K P0 K^T)^-1 K P0          (push-through identity, P0 = A0^-1)
 * which is the dual, kernel form of Woodbury's update: an N x N factorisation R R^T = I + K P0 K^T in float64, and then
 *   Q = R^-1 K P0 [N, F],  E = R^-1 U [N, D],   (W_h - W0) k = E^T (Q k),   leverage h(k) = |Q k|^2 / (k^T P0 k).
 * One product Q k thus gives both the change and the leverage, no dense W_h is ever formed, and nothing drifts: every
 * version is computed from its pairs. Off the gate the value is the W0 k that the block computed, bit for bit.
 *
 * Sources: COMEBA-HK (arXiv 2403.05330) for hooks and gates; recursive least squares for the set form.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../schemas/editing.ts';
import type { HookReport, PairSet } from './engine.ts';
import { add64, cholesky64, identity64, multiply64, narrow32, NotPositiveDefinite, scope64, solveLower64, sum64, times64, transpose64, widen64 } from './float64.ts';
import { pairScale, scoreKeys, thresholdOf } from './gate.ts';
import type { Prior } from './prior.ts';
import { takeReaches } from './pair-rows.ts';
import type { TokenRows } from './token-rows.ts';
import type { DownHook } from './transformer.ts';

/** One edited block's share of a hook. The tensors are the hook's. */
export interface LayerHook {
  readonly prior: Prior;
  /** Q [N, F] */
  readonly whitened_NF: tf.Tensor2D;
  /** E [N, D] */
  readonly change_ND: tf.Tensor2D;
  /** K P0 [N, F], for the nearest correction. */
  readonly affinity_NF: tf.Tensor2D;
  /** k_i^T P0 k_i, [N] */
  readonly pairEnergy: Float32Array;
  /** |W_h - W0|_F / |W0|_F */
  readonly editNorm: number;
  threshold: number;
}

/** A token on which a gate opened. */
export interface GateOpening {
  row: number;
  layer: number;
  score: number;
  threshold: number;
  nearestRow: number;
}

export class Hook implements DownHook {
  readonly layers: ReadonlySet<number>;
  readonly report: HookReport;
  /** Told of every row on which a gate opens. */
  observer: ((layer: number, opened: Uint8Array, scores: Float32Array, keys_RF: tf.Tensor2D) => void) | null = null;

  private constructor(
    readonly blocks: ReadonlyMap<number, LayerHook>,
    readonly gate: GateParameters,
    corrections: number,
    referenceOpenShare: number,
  ) {
    this.layers = new Set(blocks.keys());
    this.report = {
      corrections,
      layers: [...blocks.values()].map(({ prior, editNorm, threshold }) => ({ layer: prior.layer, editNorm, threshold })),
      referenceOpenShare,
    };
  }

  /** Computes the hook of a set of one or more pairs; the caller owns it. Throws NotPositiveDefinite on pairs that are not finite. */
  static build(pairs: PairSet, priors: ReadonlyMap<number, Prior>, gate: GateParameters): Hook {
    const blocks = new Map<number, LayerHook>();
    let open = 0;
    try {
      pairs.layers.forEach((layer, i) => {
        const prior = priors.get(layer);
        if (prior === undefined) throw new Error(`the hook edits block ${layer}, which these parameters do not edit`);
        const { changes, smallest } = takeReaches(pairs.changes[i]!, pairs.count, prior.residualWidth);
        const block = buildLayer(prior, pairs.keys[i]!, changes);
        blocks.set(layer, block);
        const reference = thresholdOf(block, gate);
        block.threshold = gate.kind === 'sequence' ? Math.min(reference.threshold, smallest) : reference.threshold;
        open = Math.max(open, reference.openShare);
      });
    } catch (error) {
      disposeLayers(blocks.values());
      throw error;
    }
    return new Hook(blocks, gate, pairs.count, open);
  }

  dispose(): void {
    disposeLayers(this.blocks.values());
  }

  project(layer: number, keys_RF: tf.Tensor2D, base_RD: tf.Tensor2D, rows: TokenRows): tf.Tensor2D {
    const block = this.blocks.get(layer)!;
    const response_RN = tf.matMul<tf.Tensor2D>(keys_RF, block.whitened_NF, false, true);
    const scores = scoreKeys(this.gate, block, keys_RF, response_RN, rows);
    const opened = new Uint8Array(rows.count);
    let any = false;
    for (let row = 0; row < rows.count; row++) {
      // The first position is the attention sink, the same key under every prompt: never in scope.
      if (scores[row]! >= block.threshold && rows.positions[row] !== 0) {
        opened[row] = 1;
        any = true;
      }
    }
    if (!any) return base_RD;
    this.observer?.(layer, opened, scores, keys_RF);
    return openRows(base_RD, tf.matMul(response_RN, block.change_ND), opened);
  }
}

export function disposeLayers(blocks: Iterable<LayerHook>): void {
  for (const { whitened_NF, change_ND, affinity_NF } of blocks) tf.dispose([whitened_NF, change_ND, affinity_NF]);
}

/** base + change where opened, base itself elsewhere. */
export function openRows(base_RD: tf.Tensor2D, change_RD: tf.Tensor2D, opened: Uint8Array): tf.Tensor2D {
  const mask = tf.tensor2d(opened, [opened.length, 1], 'bool');
  return tf.where(mask, tf.add(base_RD, change_RD), base_RD) as tf.Tensor2D;
}

/** (W_h - W0) k of each key, [R, D], whatever the gate says. */
export function changeOf(block: LayerHook, keys_RF: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => tf.matMul<tf.Tensor2D>(tf.matMul(keys_RF, block.whitened_NF, false, true), block.change_ND));
}

/** The pair whose key is most like each given key, by the cosine in the space whitened by P0. */
export function nearestPairs(block: LayerHook, keys_RF: tf.Tensor2D): Int32Array {
  return tf.tidy(() => {
    return tf.argMax(tf.mul(tf.matMul(keys_RF, block.affinity_NF, false, true), pairScale(block)), 1).dataSync().slice() as Int32Array;
  });
}

/**
 * A block's hook before its gate is set (threshold +infinity). keys [N, F] and changes [N, D] are row-major. Throws
 * NotPositiveDefinite on numbers that are not finite.
 */
export function buildLayer(prior: Prior, keys: Float32Array, changes: Float32Array): LayerHook {
  const F = prior.lower.rows;
  const count = keys.length / F;
  const D = changes.length / count;
  const [keys_NF, changes_ND] = [tf.tensor2d(keys, [count, F]), tf.tensor2d(changes, [count, D])];
  try {
    return scope64(() => {
      const K = widen64(keys_NF);
      const white_FN = solveLower64(prior.lower, transpose64(K));
      const gram = multiply64(white_FN, white_FN, true, false);
      const factor = cholesky64(add64(gram, identity64(count)));
      const affinity = transpose64(solveLower64(prior.lower, white_FN, true));
      const whitened = solveLower64(factor, affinity);
      const change = solveLower64(factor, widen64(changes_ND));
      const normSquared = sum64(times64(multiply64(whitened, whitened, false, true), multiply64(change, change, false, true)));
      // The factorisation sees the keys alone; a change that is not finite shows here.
      if (!Number.isFinite(normSquared)) throw new NotPositiveDefinite({ size: count });
      const diagonal = tf.tidy(() => tf.sum(tf.mul(narrow32(gram), tf.eye(count)), 1).dataSync().slice() as Float32Array);
      return {
        prior,
        whitened_NF: narrow32(whitened),
        change_ND: narrow32(change),
        affinity_NF: narrow32(affinity),
        pairEnergy: diagonal,
        editNorm: Math.sqrt(Math.max(0, normSquared)) / prior.weightNorm,
        threshold: Number.POSITIVE_INFINITY,
      };
    });
  } finally {
    tf.dispose([keys_NF, changes_ND]);
  }
}
