/**
 * Whether a token is in a correction's scope. Each kind gives every row a score; the gate opens
 * where the score reaches the block's threshold. All but `sequence` look at the token alone, so
 * that an answer depends neither on padding nor on neighbours, and decoding with a cache sees what
 * the full sequence would.
 *
 *   subject   of a token that ends a corrected subject's name (subject-names.ts): largest cosine between k and that
 *             subject's corrected keys, whitened by P0, in the lowest edited block; the blocks above follow it. No edit lies
 *             below that block, so the decision is the base model's alone: it depends neither on the edits nor on how many
 *             corrections there are, and a correction's own prompt has the very key that was stored. The name keeps
 *             strangers out whose keys happen to lie near; the key keeps out other meanings of the name
 *   scope     leverage, or a key nearly that of a correction: max(h(k), cosine * threshold / nearKey). Corrections whose
 *             own leverage is low (short subjects, common endings) keep their scope, and related keys are still refused
 *   leverage  h(k) = 1 - (k^T P k) / (k^T P0 k), in [0, 1): the share of the key's whitened
 *             energy that the corrections explain (variance reduction of the linear regression)
 *   key       largest cosine between k and a corrected key, whitened by P0 (GRACE, NeuralDB)
 *   norm      |(W_h - W0) k|
 *   sequence  z-score of |(W_h - W0) k| over the token's sequence (arXiv 2403.05330), fillers left out: every token
 *             counts, the deviation divides by n - 1, as in the reference. Unlike there, the first token never opens
 *   always    1
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../../schemas/editing.ts';
import type { LayerHook } from './hook.ts';
import { jointChange, leverageOf } from './joint-map.ts';
import {
  BLOCK_PAIRS,
  COUPLES_TOGETHER_MAX,
  type KnownText,
  type PairBlock,
} from './pair-blocks.ts';
import { keyEnergy } from '../statistics/prior.ts';
import type { TokenRows } from '../network/token-rows.ts';

/** Scores [R] of keys [R, F]. `rows` is needed by `sequence` alone. */
export function scoreKeys(
  gate: GateParameters,
  block: LayerHook,
  keys_RF: tf.Tensor2D,
  rows: TokenRows | null,
): Float32Array {
  const { kind } = gate;
  switch (kind) {
    case 'scope':
    case 'leverage':
    case 'key':
      return tf.tidy(() =>
        relativeScores(gate, block, keys_RF, keyEnergy(keys_RF, block.prior.prior_FF), null),
      );
    case 'norm':
      return changeNorm(block, keys_RF);
    case 'sequence': {
      if (rows === null) throw new Error('the sequence gate needs to know the sequences');
      return zScores(changeNorm(block, keys_RF), rows);
    }
    case 'always':
      return new Float32Array(keys_RF.shape[0]).fill(1);
    case 'subject':
      throw new Error('whether a token ends a subject is not told by its key alone');
  }
}

/**
 * The block's threshold at this version: the gate's floor, or the asked quantile of the score on
 * ordinary text if that is higher.
 */
export function thresholdOf(block: LayerHook, gate: GateParameters): number {
  if (gate.kind === 'always' || gate.kind === 'sequence' || gate.kind === 'subject')
    return gate.floor;
  const { reference_TF, referenceEnergy } = block.prior;
  // A scope's threshold is one of leverage; nearness to a corrected key is asked against a
  // constant.
  const kind = gate.kind === 'scope' ? 'leverage' : gate.kind;
  const scores = scoreKnownKeys(
    { ...gate, kind },
    block,
    reference_TF,
    referenceEnergy,
    'reference',
  );
  return Math.max(gate.floor, quantile(scores, gate.referenceQuantile));
}

function quantile(values: Float32Array, share: number): number {
  return values.slice().sort()[Math.min(values.length - 1, Math.floor(share * values.length))]!;
}

/**
 * Scores of keys whose k^T P0 k is known already, for the gates that look at a token alone. Where
 * they are all keys of a text that the prior holds, naming it spares what the hooks before found
 * out.
 */
export function scoreKnownKeys(
  gate: GateParameters,
  block: LayerHook,
  keys_RF: tf.Tensor2D,
  keyEnergies: Float32Array,
  text: KnownText | null = null,
): Float32Array {
  if (gate.kind === 'norm') return changeNorm(block, keys_RF);
  if (gate.kind === 'always' || gate.kind === 'sequence' || gate.kind === 'subject')
    throw new Error(`the ${gate.kind} gate does not judge a token alone`);
  return tf.tidy(() => relativeScores(gate, block, keys_RF, tf.tensor1d(keyEnergies), text));
}

function relativeScores(
  { kind, nearKey }: GateParameters,
  block: LayerHook,
  keys_RF: tf.Tensor2D,
  energy: tf.Tensor1D,
  text: KnownText | null,
): Float32Array {
  if (kind === 'leverage') return leverage(block, keys_RF, energy);
  const near = nearness(block, keys_RF, energy, text);
  if (kind !== 'scope') return near;
  return leverage(block, keys_RF, energy).map((explained, row) =>
    Math.max(explained, (near[row]! * block.threshold) / nearKey),
  );
}

function leverage({ map }: LayerHook, keys_RF: tf.Tensor2D, energy: tf.Tensor1D): Float32Array {
  if (map.kind !== 'joint') throw new Error('leverage is that of the joint map');
  return leverageOf(map, keys_RF, energy);
}

/** Largest whitened cosine to a corrected key, [R]. */
function nearness(
  { pairBlocks }: LayerHook,
  keys_RF: tf.Tensor2D,
  energy: tf.Tensor1D,
  text: KnownText | null,
): Float32Array {
  const near = new Float32Array(keys_RF.shape[0]).fill(Number.NEGATIVE_INFINITY);
  for (const pairs of pairBlocks) {
    let of = text === null ? undefined : pairs.near[text];
    if (of === undefined) {
      of = tf.tidy(
        () =>
          tf
            .divNoNan(tf.max(scaledAffinity(pairs, keys_RF), 1), tf.sqrt(energy))
            .dataSync()
            .slice() as Float32Array,
      );
      if (text !== null) pairs.near[text] = of;
    }
    for (let row = 0; row < near.length; row++) near[row] = Math.max(near[row]!, of[row]!);
  }
  return near;
}

/**
 * k^T P0 k_i / |k_i|, |k_i| whitened, of keys [R, F] and the block's pairs: [R, B]; 0 for a pair
 * whose key is zero, which is like no other.
 */
export function scaledAffinity(
  { affinity_BF, energy }: PairBlock,
  keys_RF: tf.Tensor2D,
): tf.Tensor2D {
  const scale = energy.map((one) => (one > 0 ? 1 / Math.sqrt(one) : 0));
  return tf.mul(
    tf.matMul(keys_RF, affinity_BF, false, true),
    tf.tensor2d(scale, [1, scale.length]),
  );
}

/** Cosine, whitened by P0, between the key in a row and that of a pair, of each couple. */
export function whitenedCosines(
  { prior, pairBlocks }: LayerHook,
  keys_RF: tf.Tensor2D,
  couples: readonly { row: number; pair: number }[],
): Float32Array {
  const cosines = new Float32Array(couples.length);
  const rows = [...new Set(couples.map(({ row }) => row))];
  const place = new Map(rows.map((row, i) => [row, i]));
  tf.tidy(() => {
    const keys = tf.gather(keys_RF, tf.tensor1d(rows, 'int32'));
    const energies = keyEnergy(keys, prior.prior_FF).dataSync();
    pairBlocks.forEach(({ affinity_BF, energy }, b) => {
      const ofBlock = couples
        .map((_, c) => c)
        .filter((c) => Math.floor(couples[c]!.pair / BLOCK_PAIRS) === b);
      for (let from = 0; from < ofBlock.length; from += COUPLES_TOGETHER_MAX) {
        const mine = ofBlock.slice(from, from + COUPLES_TOGETHER_MAX);
        const within = mine.map((c) => couples[c]!.pair - b * BLOCK_PAIRS);
        const products = tf.tidy(() => {
          const affinity = tf.gather(affinity_BF, tf.tensor1d(within, 'int32'));
          return tf
            .sum(
              tf.mul(
                tf.gather(
                  keys,
                  tf.tensor1d(
                    mine.map((c) => place.get(couples[c]!.row)!),
                    'int32',
                  ),
                ),
                affinity,
              ),
              1,
            )
            .dataSync();
        });
        mine.forEach((c, i) => {
          const scale = Math.sqrt(energies[place.get(couples[c]!.row)!]! * energy[within[i]!]!);
          cosines[c] = scale > 0 ? products[i]! / scale : 0;
        });
      }
    });
  });
  return cosines;
}

function changeNorm({ map }: LayerHook, keys_RF: tf.Tensor2D): Float32Array {
  if (map.kind !== 'joint') throw new Error('the size of a change is that of the joint map');
  return tf.tidy(
    () => tf.norm(jointChange(map, keys_RF), 'euclidean', 1).dataSync().slice() as Float32Array,
  );
}

/**
 * Standardised inside each sequence; one whose values do not differ, or that is one token long,
 * scores 0 (the reference divides 0 by 0).
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
