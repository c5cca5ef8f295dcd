/**
 * The ways to feed a model the same text: in one pass, among others, in chunks, or token by token.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Hook } from '../../model/hook/hook.ts';
import { layOutRows, type TokenRows } from '../../model/network/token-rows.ts';
import { type AttentionPast, disposePast } from '../../model/network/attention-past.ts';
import type { DownHook, Transformer } from '../../model/network/transformer.ts';

export interface ReadingForm {
  /** All sequences in one pass, attention padded to the longest; otherwise each alone. */
  together: boolean;
  /** Tokens per pass; earlier tokens are in the cache. */
  chunkTokens: number;
}

export const READING_FORMS: Readonly<Record<string, ReadingForm>> = {
  'unpadded, in one pass': { together: false, chunkTokens: Infinity },
  'in a ragged batch': { together: true, chunkTokens: Infinity },
  'prefilled in chunks of 5': { together: false, chunkTokens: 5 },
  'prefilled in chunks of 3, in a ragged batch': { together: true, chunkTokens: 3 },
  'token by token': { together: false, chunkTokens: 1 },
  'token by token, in a ragged batch': { together: true, chunkTokens: 1 },
};

/** The readings of one sequence. */
export interface Reading {
  /** One row of V per position. */
  logits: Float32Array[];
  /** `block:position` of every gate that opened. */
  opened: Set<string>;
}

export function readAs(
  model: Transformer,
  sequences: readonly (readonly number[])[],
  form: ReadingForm,
  hook: Hook | null,
): Reading[] {
  return form.together
    ? readTogether(model, sequences, form.chunkTokens, hook)
    : sequences.flatMap((sequence) => readTogether(model, [sequence], form.chunkTokens, hook));
}

function readTogether(
  model: Transformer,
  sequences: readonly (readonly number[])[],
  chunkTokens: number,
  hook: Hook | null,
): Reading[] {
  const readings = sequences.map((): Reading => ({ logits: [], opened: new Set() }));
  const longest = Math.max(...sequences.map((sequence) => sequence.length));
  let past: AttentionPast | null = null;
  for (let begin = 0; begin < longest; begin += chunkTokens) {
    // A sequence that has ended waits as a row of fillers until the others end.
    const chunk = sequences.map((sequence) => sequence.slice(begin, begin + chunkTokens));
    const rows = layOutRows(
      chunk,
      sequences.map(() => begin),
    );
    const embedded = model.embed(rows);
    const watching = hook === null ? null : watch(hook, readings, rows);
    const ran = model.run(
      embedded,
      rows,
      { from: 0, to: model.config.layers },
      { past, hook: watching, keep: true },
    );
    const logits = model.logits(ran.hidden);
    const values = logits.dataSync() as Float32Array;
    const V = logits.shape[1];
    for (let b = 0; b < rows.sequences; b++)
      for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++)
        readings[b]!.logits.push(values.slice(row * V, (row + 1) * V));
    tf.dispose([embedded, ran.hidden, logits]);
    disposePast(past);
    past = ran.kept;
  }
  disposePast(past);
  return readings;
}

function watch(hook: Hook, readings: readonly Reading[], rows: TokenRows): DownHook {
  return {
    layers: hook.layers,
    project({ layer, keys_RF, base_RD, past }) {
      hook.openObserver = (_, opened) => {
        for (let b = 0; b < rows.sequences; b++)
          for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++)
            if (opened[row] === 1) readings[b]!.opened.add(`${layer}:${rows.positions[row]}`);
      };
      try {
        return hook.project({ layer, keys_RF, base_RD, rows, past });
      } finally {
        hook.openObserver = null;
      }
    },
  };
}

export function argMaxOf(logits: Float32Array): number {
  return logits.reduce((best, value, at) => (value > logits[best]! ? at : best), 0);
}
