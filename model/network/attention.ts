/**
 * Attention, with forward and backward passes side by side, and the tensors that all blocks of one
 * run share. transformer.ts explains the letters of the shapes.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';
import type { AttentionPast } from './attention-past.ts';
import { linear, linearBack, type Weights } from './layers.ts';
import type { RotaryTable } from './rotary.ts';
import type { TokenRows } from './token-rows.ts';

/** The tensors of a forward pass that the backward pass needs. */
export interface AttentionRecord {
  /** Scaled queries [B, K, G T, d], keys and values [B, K, S, d], softmax [B, K, G T, S]. */
  query: tf.Tensor4D;
  key: tf.Tensor4D;
  value: tf.Tensor4D;
  weights: tf.Tensor4D;
}

/** Output [R, D], and keys and values [B, S, K d] for later tokens. */
interface Attended {
  output_RD: tf.Tensor2D;
  key: tf.Tensor3D;
  value: tf.Tensor3D;
  record: AttentionRecord;
}

/** softmax(q k^T / sqrt(d) + mask) v of a block. Its keys and values follow those of the past. */
export function attend(
  weights: Weights,
  layer: number,
  normed_RD: tf.Tensor2D,
  geometry: AttentionGeometry,
): Attended {
  const name = `blocks.${layer}`;
  const { heads: H, keyValueHeads: K, headWidth: d } = weights.config;
  const { sequences: B, longest: T, keysLong: S, past } = geometry;
  const G = H / K;
  const query_RHd = geometry.rotate(linear(weights, `${name}.query`, normed_RD), H);
  const newKey_RKd = geometry.rotate(linear(weights, `${name}.key`, normed_RD), K);
  const newValue_RKd = linear(weights, `${name}.value`, normed_RD);

  let key: tf.Tensor3D = tf.reshape(geometry.pad(newKey_RKd), [B, T, K * d]);
  let value: tf.Tensor3D = tf.reshape(geometry.pad(newValue_RKd), [B, T, K * d]);
  if (past !== null) {
    const before = past.blocks.get(layer);
    if (before === undefined) throw new Error(`the past holds no keys for block ${layer}`);
    key = tf.concat([before.key, key], 1); // [B, S, K d]
    value = tf.concat([before.value, value], 1); // [B, S, K d]
  }
  const scaled = tf.mul(geometry.pad(query_RHd), 1 / Math.sqrt(d)); // [B T, H d]
  const query_BTKGd = tf.reshape(scaled, [B, T, K, G, d]);
  const query_BKGTd = tf.reshape(tf.transpose(query_BTKGd, [0, 2, 3, 1, 4]), [B, K, G * T, d]);
  const key_BKSd = tf.transpose(tf.reshape(key, [B, S, K, d]), [0, 2, 1, 3]);
  const value_BKSd = tf.transpose(tf.reshape(value, [B, S, K, d]), [0, 2, 1, 3]);
  const scores = tf.matMul(query_BKGTd, key_BKSd, false, true); // [B, K, G T, S]
  const shares = tf.softmax(tf.add<tf.Tensor4D>(scores, geometry.mask)); // [B, K, G T, S]
  const mixed_BKGTd = tf.reshape(tf.matMul(shares, value_BKSd), [B, K, G, T, d]);
  const mixed = tf.reshape<tf.Rank.R2>(tf.transpose(mixed_BKGTd, [0, 3, 1, 2, 4]), [B * T, H * d]);
  return {
    output_RD: linear(weights, `${name}.output`, geometry.unpad(mixed)),
    key,
    value,
    record: {
      query: query_BKGTd as tf.Tensor4D,
      key: key_BKSd as tf.Tensor4D,
      value: value_BKSd as tf.Tensor4D,
      weights: shares,
    },
  };
}

/** Gradient by the normed input [R, D]. The past's keys and values are constants. */
export function attendBack(
  weights: Weights,
  layer: number,
  { query, key, value, weights: shares }: AttentionRecord,
  { geometry, d_RD }: { geometry: AttentionGeometry; d_RD: tf.Tensor2D },
): tf.Tensor2D {
  const name = `blocks.${layer}`;
  const { heads: H, keyValueHeads: K, headWidth: d } = weights.config;
  const { sequences: B, longest: T, keysLong: S } = geometry;
  const G = H / K;
  // Zeros in the fillers, whose outputs were dropped.
  const dMixed = geometry.padZeros(linearBack(weights, `${name}.output`, d_RD)); // [B T, H d]
  const dMixed_BKGTd = tf.transpose(tf.reshape(dMixed, [B, T, K, G, d]), [0, 2, 3, 1, 4]);
  const dMixed_BKTd = tf.reshape(dMixed_BKGTd, [B, K, G * T, d]);
  const dShares = tf.matMul(dMixed_BKTd, value, false, true); // [B, K, G T, S]
  const shared = tf.sum(tf.mul(dShares, shares), 3, true); // [B, K, G T, 1]
  const dScores = tf.mul<tf.Tensor4D>(shares, tf.sub(dShares, shared)); // [B, K, G T, S]
  const dQuery = tf.mul(tf.matMul(dScores, key), 1 / Math.sqrt(d)); // [B, K, G T, d]
  const toRows = (x_BKSd: tf.Tensor): tf.Tensor2D => {
    const new_BKTd = tf.slice(x_BKSd, [0, 0, S - T, 0], [B, K, T, d]);
    return geometry.unpad(tf.reshape(tf.transpose(new_BKTd, [0, 2, 1, 3]), [B * T, K * d]));
  };
  const dKey_RKd = toRows(tf.matMul(dScores, query, true, false));
  const dValue_RKd = toRows(tf.matMul(shares, dMixed_BKTd, true, false));
  const dQuery_BTKGd = tf.transpose(tf.reshape(dQuery, [B, K, G, T, d]), [0, 3, 1, 2, 4]);
  const dQuery_RHd = geometry.unpad(tf.reshape(dQuery_BTKGd, [B * T, H * d]));
  return tf.addN([
    linearBack(weights, `${name}.query`, geometry.rotateBack(dQuery_RHd, H)),
    linearBack(weights, `${name}.key`, geometry.rotateBack(dKey_RKd, K)),
    linearBack(weights, `${name}.value`, dValue_RKd),
  ]);
}

/** Mask, rotation, and conversion between rows and padded slots, for all blocks of one run. */
export interface AttentionGeometry {
  /** B */
  readonly sequences: number;
  /** T */
  readonly longest: number;
  /** S: past and new slots. */
  readonly keysLong: number;
  readonly past: AttentionPast | null;
  /** [B, S], 1 where a slot holds a token. */
  readonly valid: Float32Array;
  /** [B, 1, G T, S], 0 or MASKED. */
  readonly mask: tf.Tensor4D;
  pad(x_RX: tf.Tensor2D): tf.Tensor2D;
  /** Like `pad`, with zeros in the fillers. */
  padZeros(x_RX: tf.Tensor2D): tf.Tensor2D;
  unpad(x: tf.Tensor2D): tf.Tensor2D;
  /** Rotates [R, heads d]; the identity if the model has no rotary embedding. */
  rotate(x_RHd: tf.Tensor2D, heads: number): tf.Tensor2D;
  rotateBack(d_RHd: tf.Tensor2D, heads: number): tf.Tensor2D;
  dispose(): void;
}

/** Large enough to vanish in a softmax, small enough to stay finite in float32. */
const MASKED = -1e9;

/** Builds the geometry. The caller disposes it after the run. */
export function attentionGeometry(
  config: ModelConfig,
  rows: TokenRows,
  past: AttentionPast | null,
  rotary: RotaryTable | null,
): AttentionGeometry {
  const { sequences: B, longest: T } = rows;
  const { heads: H, keyValueHeads: K } = config;
  const S = (past?.length ?? 0) + T;
  const valid = validSlots(rows, past);
  const maskTensor = tf.tensor4d(causalMask(rows, valid, H / K), [B, 1, (H / K) * T, S]);
  const angles = rotary?.at(rows.positions) ?? [];
  const rowOfSlot = rows.dense ? null : tf.tensor1d(rows.rowOfSlot, 'int32');
  const slotOfRow = rows.dense ? null : tf.tensor1d(rows.slotOfRow, 'int32');
  const turn = (direction: 'on' | 'back') => (x_RHd: tf.Tensor2D, heads: number) => {
    const [cos_R1d, sin_R1d] = angles;
    return rotary === null || cos_R1d === undefined || sin_R1d === undefined
      ? x_RHd
      : rotary.rotate(x_RHd, heads, { cos_R1d, sin_R1d, direction });
  };
  return {
    sequences: B,
    longest: T,
    keysLong: S,
    past,
    valid,
    mask: maskTensor,
    pad: (x) => (rowOfSlot === null ? x : tf.gather(x, rowOfSlot)),
    padZeros: (x) =>
      slotOfRow === null ? x : tf.scatterND(tf.reshape(slotOfRow, [-1, 1]), x, [B * T, x.shape[1]]),
    unpad: (x) => (slotOfRow === null ? x : tf.gather(x, slotOfRow)),
    rotate: turn('on'),
    rotateBack: turn('back'),
    dispose: () => {
      tf.dispose([maskTensor, ...angles]);
      rowOfSlot?.dispose();
      slotOfRow?.dispose();
    },
  };
}

/** [B, S] */
function validSlots(rows: TokenRows, past: AttentionPast | null): Float32Array {
  const before = past?.length ?? 0;
  const S = before + rows.longest;
  const valid = new Float32Array(rows.sequences * S);
  for (let b = 0; b < rows.sequences; b++) {
    const length = rows.starts[b + 1]! - rows.starts[b]!;
    if (past !== null) valid.set(past.valid.subarray(b * before, (b + 1) * before), b * S);
    valid.fill(1, b * S + before, b * S + before + length);
  }
  return valid;
}

/** [B, G T, S]: a token sees the tokens of the past and those of the rows up to itself. */
function causalMask(rows: TokenRows, valid: Float32Array, group: number): Float32Array {
  const { sequences: B, longest: T } = rows;
  const S = valid.length / B;
  const mask = new Float32Array(B * group * T * S).fill(MASKED);
  for (let b = 0; b < B; b++)
    for (let row = 0; row < group * T; row++) {
      const at = (b * group * T + row) * S;
      const seen = S - T + (row % T) + 1;
      for (let s = 0; s < seen; s++) if (valid[b * S + s] === 1) mask[at + s] = 0;
    }
  return mask;
}
