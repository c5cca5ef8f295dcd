/** Keys and values of the tokens read so far, which later tokens attend to. */
import * as tf from '@tensorflow/tfjs-core';
import { FILLER, type TokenRows } from './token-rows.ts';

export interface AttentionPast {
  /** S: slots of each sequence. */
  readonly length: number;
  /** [B, S], 1 where a slot holds a token, 0 in fillers. */
  readonly valid: Float32Array;
  /** [B, S] token ids, FILLER in slots without a token. */
  readonly tokens: Int32Array;
  /** Keys and values [B, S, K d] of each block. */
  readonly blocks: Map<number, { key: tf.Tensor3D; value: tf.Tensor3D }>;
}

export function disposePast(past: AttentionPast | null): void {
  for (const { key, value } of past?.blocks.values() ?? []) tf.dispose([key, value]);
}

/**
 * Selects the past of some sequences, in the given order. An index may occur twice. The caller owns
 * the result and keeps `past`.
 */
export function gatherPast(
  past: AttentionPast,
  sequences: readonly number[],
  range = { from: 0, to: Infinity },
): AttentionPast {
  const index = tf.tensor1d(Int32Array.from(sequences), 'int32');
  const blocks: AttentionPast['blocks'] = new Map();
  for (const [layer, { key, value }] of past.blocks)
    if (layer >= range.from && layer < range.to)
      blocks.set(layer, { key: tf.gather(key, index), value: tf.gather(value, index) });
  index.dispose();
  const { length } = past;
  const valid = new Float32Array(sequences.length * length);
  const tokens = new Int32Array(sequences.length * length);
  sequences.forEach((b, i) => {
    valid.set(past.valid.subarray(b * length, (b + 1) * length), i * length);
    tokens.set(past.tokens.subarray(b * length, (b + 1) * length), i * length);
  });
  return { length, valid, tokens, blocks };
}

/** [B, S] token ids: those of the past, then those of the rows, padded. */
export function tokensSoFar(rows: TokenRows, past: AttentionPast | null): Int32Array {
  const before = past?.length ?? 0;
  const length = before + rows.longest;
  const tokens = new Int32Array(rows.sequences * length).fill(FILLER);
  for (let b = 0; b < rows.sequences; b++) {
    if (past !== null) tokens.set(past.tokens.subarray(b * before, (b + 1) * before), b * length);
    tokens.set(rows.tokens.subarray(rows.starts[b], rows.starts[b + 1]), b * length + before);
  }
  return tokens;
}
