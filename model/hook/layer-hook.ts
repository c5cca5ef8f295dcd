/** One edited block's share of a hook: the map of its change, and the pairs that define it. */
import * as tf from '@tensorflow/tfjs-core';
import type { Prior } from '../statistics/prior.ts';
import { NotPositiveDefinite } from '../tensor/float64.ts';
import { withCache, type HookCache } from './hook-cache.ts';
import { jointChange, jointMap, type JointMap } from './joint-map.ts';
import { disposeBlocks, type PairBlock } from './pair-blocks.ts';
import { subjectChange, type SubjectMap } from './subject-map.ts';

/** Owns its tensors, but not the prior. */
export interface LayerHook {
  readonly prior: Prior;
  readonly map: JointMap | SubjectMap;
  readonly pairBlocks: readonly PairBlock[];
  /** |W_h - W0|_F / |W0|_F; with maps by subject the largest one. */
  readonly editNorm: number;
}

/** Pairs of one edited block, row-major. */
interface LayerPairs {
  /** [N, F] */
  keys: Float32Array;
  /** [N, D] */
  changes: Float32Array;
  /** The subject of each pair, for maps by subject; null for the joint map. */
  subjects: readonly string[] | null;
}

/** Throws NotPositiveDefinite on numbers that are not finite. */
export function buildLayer(prior: Prior, pairs: LayerPairs, cache?: HookCache): LayerHook {
  return withCache(cache, (given) => {
    const layer = given.layer(prior);
    const { keys, changes, subjects } = pairs;
    const rows = { keys, changes, count: keys.length / prior.lower.rows };
    const pairBlocks = layer.blocksOf(rows);
    let map: JointMap | SubjectMap | null = null;
    try {
      map =
        subjects === null
          ? jointMap(prior, rows, layer)
          : layer.subjects.map(rows, subjects, pairBlocks);
      const editNorm = map.norm / prior.weightNorm;
      // A factorisation sees only the keys; a change that is not finite is detected here.
      if (!Number.isFinite(editNorm)) throw new NotPositiveDefinite({ size: rows.count });
      return { prior, map, pairBlocks, editNorm };
    } catch (error) {
      disposeBlocks(pairBlocks);
      if (map !== null) disposeMap(map);
      throw error;
    }
  });
}

/**
 * (W_h - W0) k of each key regardless of the gate, [R, D]. With maps by subject, uses the map of
 * the subject given for each key.
 */
export function changeOf(
  { map, pairBlocks }: LayerHook,
  keys_RF: tf.Tensor2D,
  subjects: readonly string[] = [],
): tf.Tensor2D {
  if (map.kind === 'joint') return jointChange(map, keys_RF);
  if (subjects.length !== keys_RF.shape[0])
    throw new RangeError(`${subjects.length} subjects for ${keys_RF.shape[0]} keys`);
  return subjectChange(map, pairBlocks, keys_RF, subjects);
}

/** The pair with the largest cosine to each key, whitened by P0. */
export function nearestPairs({ pairBlocks }: LayerHook, keys_RF: tf.Tensor2D): Int32Array {
  const nearest = new Int32Array(keys_RF.shape[0]);
  const best = new Float32Array(nearest.length).fill(Number.NEGATIVE_INFINITY);
  let first = 0;
  for (const pairs of pairBlocks) {
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

/** k^T P0 k_i / |k_i|, with |k_i| whitened, [R, B]; 0 for a pair with a zero key. */
function scaledAffinity({ affinity_BF, energy }: PairBlock, keys_RF: tf.Tensor2D): tf.Tensor2D {
  const scale = energy.map((one) => (one > 0 ? 1 / Math.sqrt(one) : 0));
  return tf.mul(
    tf.matMul(keys_RF, affinity_BF, false, true),
    tf.tensor2d(scale, [1, scale.length]),
  );
}

/**
 * base + change in the opened rows; base itself, bit for bit, elsewhere. `change` takes the opened
 * rows' indices [O] and returns [O, D].
 */
export function openRows(
  base_RD: tf.Tensor2D,
  opened: Uint8Array,
  change: (open: tf.Tensor1D) => tf.Tensor2D,
): tf.Tensor2D {
  const rows = openedRows(opened);
  if (rows.length === 0) return base_RD;
  return tf.tidy((): tf.Tensor2D => {
    const open = tf.tensor1d(rows, 'int32');
    const changed = tf.add(tf.gather(base_RD, open), change(open));
    return tf.tensorScatterUpdate(base_RD, tf.reshape(open, [-1, 1]), changed);
  });
}

export function openedRows(opened: Uint8Array): Int32Array {
  return Int32Array.from(opened.keys()).filter((row) => opened[row] === 1);
}

export function disposeLayers(blocks: Iterable<LayerHook>): void {
  for (const { map, pairBlocks } of blocks) {
    disposeMap(map);
    disposeBlocks(pairBlocks);
  }
}

function disposeMap(map: JointMap | SubjectMap): void {
  tf.dispose(map.kind === 'joint' ? [map.whitened_MF, map.change_MD] : [map.coefficients_ND]);
}
