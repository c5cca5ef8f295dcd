/**
 * Whether a token is in a correction's scope. Each kind gives every row a score; the gate opens where the score reaches
 * the block's threshold. All but `sequence` look at the token alone, so that an answer depends neither on padding nor
 * on neighbours, and decoding with a cache sees what the full sequence would.
 *
 *   subject   largest cosine between k and a corrected key, whitened by P0, in the lowest edited block; the blocks above
 *             follow it. No edit lies below that block, so what the gate says of a prompt never depends on the edits, and a
 *             correction's own prompt has the very key that was stored. The threshold follows the version: as corrections
 *             grow in number, so does the chance that a stranger's key lies near one of theirs, and how near the
 *             corrections lie to one another tells by how much
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
import type { GateParameters } from '../schemas/editing.ts';
import type { LayerHook } from './hook.ts';
import type { KnownText, PairBlock } from './hook-memory.ts';
import { keyEnergy } from './prior.ts';
import type { TokenRows } from './token-rows.ts';

/** Scores [R] of keys [R, F]. `rows` is needed by `sequence` alone. */
export function scoreKeys(gate: GateParameters, block: LayerHook, keys_RF: tf.Tensor2D, rows: TokenRows | null): Float32Array {
  const { kind } = gate;
  switch (kind) {
    case 'scope':
    case 'leverage':
    case 'key':
    case 'subject':
      return tf.tidy(() => relativeScores(gate, block, keys_RF, keyEnergy(keys_RF, block.prior.prior_FF), null));
    case 'norm':
      return changeNorm(block, keys_RF);
    case 'sequence': {
      if (rows === null) throw new Error('the sequence gate needs to know the sequences');
      return zScores(changeNorm(block, keys_RF), rows);
    }
    case 'always':
      return new Float32Array(keys_RF.shape[0]).fill(1);
  }
}

/**
 * The block's threshold at this version: the gate's floor, or the asked quantile of the score of what must stay out if
 * that is higher: ordinary text, or for `subject` the corrections of one another, each by those of other facts.
 */
export function thresholdOf(block: LayerHook, gate: GateParameters, strangers: Float32Array | null = null): { threshold: number; openShare: number } {
  if (gate.kind === 'always' || gate.kind === 'sequence') return { threshold: gate.floor, openShare: gate.kind === 'always' ? 1 : 0 };
  const { reference_TF, referenceEnergy } = block.prior;
  // A scope's threshold is one of leverage; nearness to a corrected key is asked against a constant.
  const kind = gate.kind === 'scope' ? 'leverage' : gate.kind;
  let scores = scoreKnownKeys({ ...gate, kind }, block, reference_TF, referenceEnergy, 'reference');
  const asked = Math.max(gate.floor, quantile(strangers ?? scores, gate.referenceQuantile));
  // Corrections of one subject lie on one another: what has the very key of a correction must always come in.
  const threshold = gate.kind === 'subject' ? Math.min(asked, gate.nearKey) : asked;
  if (gate.kind === 'scope') scores = scoreKnownKeys(gate, { ...block, threshold }, reference_TF, referenceEnergy, 'reference');
  return { threshold, openShare: scores.reduce((count, score) => count + (score >= threshold ? 1 : 0), 0) / scores.length };
}

function quantile(values: Float32Array, share: number): number {
  return values.slice().sort()[Math.min(values.length - 1, Math.floor(share * values.length))]!;
}

/**
 * Scores of keys whose k^T P0 k is known already, for the gates that look at a token alone. Where they are all keys of a
 * text that the prior holds, naming it spares what the hooks before found out.
 */
export function scoreKnownKeys(gate: GateParameters, block: LayerHook, keys_RF: tf.Tensor2D, keyEnergies: Float32Array, text: KnownText | null = null): Float32Array {
  if (gate.kind === 'norm') return changeNorm(block, keys_RF);
  if (gate.kind === 'always' || gate.kind === 'sequence') throw new Error(`the ${gate.kind} gate does not judge a token alone`);
  return tf.tidy(() => relativeScores(gate, block, keys_RF, tf.tensor1d(keyEnergies), text));
}

function relativeScores({ kind, nearKey }: GateParameters, block: LayerHook, keys_RF: tf.Tensor2D, energy: tf.Tensor1D, text: KnownText | null): Float32Array {
  if (kind === 'leverage') return leverage(block, keys_RF, energy);
  const near = nearness(block, keys_RF, energy, text);
  if (kind !== 'scope') return near;
  return leverage(block, keys_RF, energy).map((explained, row) => Math.max(explained, (near[row]! * block.threshold) / nearKey));
}

function leverage({ response, whitened_MF }: LayerHook, keys_RF: tf.Tensor2D, energy: tf.Tensor1D): Float32Array {
  return tf.tidy(() => {
    const share = tf.divNoNan(tf.sum(tf.square(tf.matMul(keys_RF, whitened_MF, false, true)), 1), energy);
    // A key of zeros has no energy that anything could explain.
    return (response === 'explained' ? share : tf.where(tf.greater(energy, 0), tf.sub(1, share), 0)).dataSync().slice() as Float32Array;
  });
}

/** Largest whitened cosine to a corrected key, [R]. */
function nearness({ pairBlocks }: LayerHook, keys_RF: tf.Tensor2D, energy: tf.Tensor1D, text: KnownText | null): Float32Array {
  const near = new Float32Array(keys_RF.shape[0]).fill(Number.NEGATIVE_INFINITY);
  for (const pairs of pairBlocks) {
    let of = text === null ? undefined : pairs.near[text];
    if (of === undefined) {
      of = tf.tidy(() => tf.divNoNan(tf.max(scaledAffinity(pairs, keys_RF), 1), tf.sqrt(energy)).dataSync().slice() as Float32Array);
      if (text !== null) pairs.near[text] = of;
    }
    for (let row = 0; row < near.length; row++) near[row] = Math.max(near[row]!, of[row]!);
  }
  return near;
}

/** k^T P0 k_i / |k_i|, |k_i| whitened, of keys [R, F] and the block's pairs: [R, B]; 0 for a pair whose key is zero, which is like no other. */
export function scaledAffinity({ affinity_BF, energy }: PairBlock, keys_RF: tf.Tensor2D): tf.Tensor2D {
  const scale = energy.map((one) => (one > 0 ? 1 / Math.sqrt(one) : 0));
  return tf.mul(tf.matMul(keys_RF, affinity_BF, false, true), tf.tensor2d(scale, [1, scale.length]));
}

function changeNorm({ whitened_MF, change_MD }: LayerHook, keys_RF: tf.Tensor2D): Float32Array {
  return tf.tidy(() => tf.norm(tf.matMul(tf.matMul(keys_RF, whitened_MF, false, true), change_MD), 'euclidean', 1).dataSync().slice() as Float32Array);
}

/** Standardised inside each sequence; one whose values do not differ, or that is one token long, scores 0 (the reference divides 0 by 0). */
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
