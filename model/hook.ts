/**
 * The memory-friendly hook of one version: at each edited block a second weight W_h = W0 + S P beside the untouched W0,
 * and a gate that chooses per token between W_h k and W0 k.
 *
 * With the corrections' keys K [N, F] and wanted changes U [N, D] as rows, W_h is a pure function of that set:
 *   W_h - W0 = U^T K (A0 + K^T K)^-1 = U^T (I + K P0 K^T)^-1 K P0          (push-through identity, P0 = A0^-1)
 * It is kept as two factors, (W_h - W0) k = E^T (Q k), such that the product Q k tells the leverage as well. Which ones
 * depends on what there is less of:
 *   few pairs (the kernel form of Woodbury's update): R R^T = I + K P0 K^T, N x N;
 *     Q = R^-1 K P0 [N, F],  E = R^-1 U [N, D],          leverage h(k) = |Q k|^2 / (k^T P0 k);
 *   many pairs: R R^T = A0 + K^T K, F x F;
 *     Q = R^-1 [F, F],       E = R^-1 K^T U [F, D],      leverage h(k) = 1 - |Q k|^2 / (k^T P0 k).
 * Both in float64. Nothing drifts: every version is computed from its pairs, and no W_h is ever formed. Off the gate the
 * value is the W0 k that the block computed, bit for bit.
 *
 * Sources: COMEBA-HK (arXiv 2403.05330) for hooks and gates; recursive least squares for the set form.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../schemas/editing.ts';
import type { HookReport, PairSet } from './engine.ts';
import { add64, cholesky64, identity64, multiply64, narrow32, NotPositiveDefinite, scope64, solveLower64, transpose64 } from './float64.ts';
import { scaledAffinity, scoreKeys, thresholdOf } from './gate.ts';
import { disposeBlocks, HookMemory, matrix64, type LayerMemory, type PairBlock, type PairRows } from './hook-memory.ts';
import type { Prior } from './prior.ts';
import { takeReaches } from './pair-rows.ts';
import type { TokenRows } from './token-rows.ts';
import type { DownHook } from './transformer.ts';

/** One edited block's share of a hook. The tensors are the hook's. */
export interface LayerHook {
  readonly prior: Prior;
  /** Whether |Q k|^2 is what the corrections explain of a key's energy, or what they leave. */
  readonly response: 'explained' | 'left';
  /** Q [M, F], M = N or F. */
  readonly whitened_MF: tf.Tensor2D;
  /** E [M, D] */
  readonly change_MD: tf.Tensor2D;
  /** The pairs, for the nearest correction. */
  readonly pairBlocks: readonly PairBlock[];
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
  /** What the lowest block said of the tokens in hand. */
  private decided: Decision | null = null;

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

  /** Computes the hook of a set of one or more pairs; the caller owns it. With a memory it costs what is new in the set. Throws NotPositiveDefinite on pairs that are not finite. */
  static build(pairs: PairSet, priors: ReadonlyMap<number, Prior>, gate: GateParameters, memory?: HookMemory): Hook {
    const own = memory ?? new HookMemory();
    const blocks = new Map<number, LayerHook>();
    let open = 0;
    try {
      pairs.layers.forEach((layer, i) => {
        const prior = priors.get(layer);
        if (prior === undefined) throw new Error(`the hook edits block ${layer}, which these parameters do not edit`);
        const { changes, smallest } = takeReaches(pairs.changes[i]!, pairs.count, prior.residualWidth);
        const block = buildLayer(prior, pairs.keys[i]!, changes, own);
        blocks.set(layer, block);
        const first = blocks.get(pairs.layers[0]!)!;
        if (gate.kind === 'subject' && block !== first) {
          block.threshold = first.threshold;
          return;
        }
        const views = pairs.keyWidth / prior.lower.rows;
        const strangers = gate.kind === 'subject' ? own.layer(prior).nearnessOfStrangers(pairs.keys[i]!, block.pairBlocks, views) : null;
        const reference = thresholdOf(block, gate, strangers);
        block.threshold = gate.kind === 'sequence' ? Math.min(reference.threshold, smallest) : reference.threshold;
        open = Math.max(open, reference.openShare);
      });
    } catch (error) {
      disposeLayers(blocks.values());
      throw error;
    } finally {
      if (memory === undefined) own.dispose();
    }
    return new Hook(blocks, gate, pairs.count, open);
  }

  /** The blocks whose keys decide: all of them, or the lowest for those above it. */
  deciding(): LayerHook[] {
    const blocks = [...this.blocks.values()];
    return this.gate.kind === 'subject' ? blocks.slice(0, 1) : blocks;
  }

  dispose(): void {
    disposeLayers(this.blocks.values());
  }

  project(layer: number, keys_RF: tf.Tensor2D, base_RD: tf.Tensor2D, rows: TokenRows): tf.Tensor2D {
    const block = this.blocks.get(layer)!;
    const { opened, scores } = this.decide(block, keys_RF, rows);
    if (!opened.includes(1)) return base_RD;
    this.observer?.(layer, opened, scores, keys_RF);
    return openRows(base_RD, opened, (open) => changeOf(block, tf.gather(keys_RF, open)));
  }

  private decide(block: LayerHook, keys_RF: tf.Tensor2D, rows: TokenRows): Decision {
    const first = this.deciding()[0]!;
    if (this.gate.kind === 'subject' && block !== first) {
      if (this.decided?.rows !== rows) throw new Error(`block ${block.prior.layer} follows the gate of block ${first.prior.layer}, which has not seen these tokens`);
      return this.decided;
    }
    const scores = scoreKeys(this.gate, block, keys_RF, rows);
    const opened = new Uint8Array(rows.count);
    for (let row = 0; row < rows.count; row++) {
      // The first position is the attention sink, the same key under every prompt: never in scope.
      if (scores[row]! >= block.threshold && rows.positions[row] !== 0) opened[row] = 1;
    }
    this.decided = { rows, opened, scores };
    return this.decided;
  }
}

interface Decision {
  rows: TokenRows;
  opened: Uint8Array;
  scores: Float32Array;
}

export function disposeLayers(blocks: Iterable<LayerHook>): void {
  for (const { whitened_MF, change_MD, pairBlocks } of blocks) {
    tf.dispose([whitened_MF, change_MD]);
    disposeBlocks(pairBlocks);
  }
}

/** base + change in the opened rows, base itself, bit for bit, elsewhere. `changeOf` gets the opened rows' indices [O] and gives [O, D]. */
export function openRows(base_RD: tf.Tensor2D, opened: Uint8Array, changeOf: (open: tf.Tensor1D) => tf.Tensor2D): tf.Tensor2D {
  const indices = Int32Array.from(opened.keys()).filter((row) => opened[row] === 1);
  if (indices.length === 0) return base_RD;
  return tf.tidy((): tf.Tensor2D => {
    const open = tf.tensor1d(indices, 'int32');
    const changed = tf.add(tf.gather(base_RD, open), changeOf(open));
    return tf.tensorScatterUpdate(base_RD, tf.reshape(open, [-1, 1]), changed);
  });
}

/** (W_h - W0) k of each key, [R, D], whatever the gate says. */
export function changeOf(block: LayerHook, keys_RF: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => tf.matMul<tf.Tensor2D>(tf.matMul(keys_RF, block.whitened_MF, false, true), block.change_MD));
}

/** The pair whose key is most like each given key, by the cosine in the space whitened by P0. */
export function nearestPairs(block: LayerHook, keys_RF: tf.Tensor2D): Int32Array {
  const nearest = new Int32Array(keys_RF.shape[0]);
  const best = new Float32Array(nearest.length).fill(Number.NEGATIVE_INFINITY);
  let first = 0;
  for (const pairs of block.pairBlocks) {
    const { values, indices } = tf.tidy(() => {
      const affinity = scaledAffinity(pairs, keys_RF);
      return { values: tf.max(affinity, 1).dataSync(), indices: tf.argMax(affinity, 1).dataSync() };
    });
    for (let row = 0; row < nearest.length; row++) {
      if (values[row]! <= best[row]!) continue;
      best[row] = values[row]!;
      nearest[row] = first + indices[row]!;
    }
    first += pairs.energy.length;
  }
  return nearest;
}

/** Pairs above this share of F: the F x F form is cheaper. */
const KERNEL_FORM_SHARE = 0.5;

/**
 * A block's hook before its gate is set (threshold +infinity). keys [N, F] and changes [N, D] are row-major. Throws
 * NotPositiveDefinite on numbers that are not finite.
 */
export function buildLayer(prior: Prior, keys: Float32Array, changes: Float32Array, memory?: HookMemory): LayerHook {
  if (memory !== undefined) return buildOn(memory.layer(prior), prior, keys, changes);
  const own = new HookMemory();
  try {
    return buildOn(own.layer(prior), prior, keys, changes);
  } finally {
    own.dispose();
  }
}

function buildOn(memory: LayerMemory, prior: Prior, keys: Float32Array, changes: Float32Array): LayerHook {
  const F = prior.lower.rows;
  const rows: PairRows = { keys, changes, count: keys.length / F };
  const isFew = rows.count <= KERNEL_FORM_SHARE * F;
  const factors = isFew ? kernelFactors(prior, rows) : momentFactors(rows, memory);
  try {
    const editNorm = factorNorm(factors.whitened_MF, factors.change_MD) / prior.weightNorm;
    // The factorisation sees the keys alone; a change that is not finite shows here.
    if (!Number.isFinite(editNorm)) throw new NotPositiveDefinite({ size: rows.count });
    return { prior, response: isFew ? 'explained' : 'left', ...factors, pairBlocks: memory.blocksOf(rows), editNorm, threshold: Number.POSITIVE_INFINITY };
  } catch (error) {
    tf.dispose([factors.whitened_MF, factors.change_MD]);
    throw error;
  }
}

interface Factors {
  whitened_MF: tf.Tensor2D;
  change_MD: tf.Tensor2D;
}

function kernelFactors(prior: Prior, { keys, changes, count }: PairRows): Factors {
  return scope64(() => {
    const white_FN = solveLower64(prior.lower, transpose64(matrix64(keys, count)));
    const factor = cholesky64(add64(multiply64(white_FN, white_FN, true, false), identity64(count)));
    const affinity = transpose64(solveLower64(prior.lower, white_FN, true));
    return { whitened_MF: narrow32(solveLower64(factor, affinity)), change_MD: narrow32(solveLower64(factor, matrix64(changes, count))) };
  });
}

function momentFactors(rows: PairRows, memory: LayerMemory): Factors {
  return memory.withMoments(rows, ({ keys, cross }) => {
    const factor = cholesky64(keys);
    return { whitened_MF: narrow32(solveLower64(factor, identity64(keys.rows))), change_MD: narrow32(solveLower64(factor, cross)) };
  });
}

/** |E^T Q|_F */
function factorNorm(whitened_MF: tf.Tensor2D, change_MD: tf.Tensor2D): number {
  return tf.tidy(() => tf.norm(tf.matMul(change_MD, whitened_MF, true, false)).dataSync()[0]!);
}
