/**
 * A hook for the first of several sequences read together. The others get the base model's values,
 * bit for bit. A version and its base then decode the same prompt in the same passes, and the main
 * cost of a pass, reading the weights, is paid once.
 */
import * as tf from '@tensorflow/tfjs-core';
import { layOutRows, type TokenRows } from '../network/token-rows.ts';
import type { AttentionPast } from '../network/attention-past.ts';
import type { DownHook, DownProjection } from '../network/transformer.ts';

export class FirstSequenceHook implements DownHook {
  /** Set once the first sequence is finished. The remaining sequences are the base model's. */
  ended = false;
  /** The current pass, identified by its rows. */
  #pass: { rows: TokenRows; first: TokenRows } | null = null;

  constructor(private readonly hook: DownHook) {}

  get layers(): ReadonlySet<number> {
    return this.hook.layers;
  }

  project({ layer, keys_RF, base_RD, rows, past }: DownProjection): tf.Tensor2D {
    if (this.ended) return base_RD;
    const count = rows.starts[1]!;
    const [firstKeys, firstBase] = [tf.slice(keys_RF, 0, count), tf.slice(base_RD, 0, count)];
    const first = this.hook.project({
      layer,
      keys_RF: firstKeys,
      base_RD: firstBase,
      rows: this.#firstOf(rows),
      past: past === null ? null : firstPast(past),
    });
    if (first === firstBase) return base_RD;
    return count === rows.count ? first : tf.concat([first, tf.slice(base_RD, count)], 0);
  }

  #firstOf(rows: TokenRows): TokenRows {
    if (this.#pass?.rows !== rows)
      this.#pass = {
        rows,
        first: layOutRows(
          [Array.from(rows.tokens.subarray(0, rows.starts[1]))],
          [rows.positions[0]!],
        ),
      };
    return this.#pass.first;
  }
}

/** The tokens read so far; a hook needs no keys and values. */
function firstPast({ length, valid, tokens }: AttentionPast): AttentionPast {
  return {
    length,
    valid: valid.subarray(0, length),
    tokens: tokens.subarray(0, length),
    blocks: new Map(),
  };
}
