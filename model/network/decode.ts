/** Greedy and sampled decoding with a key-value cache, for one sequence or many side by side. */
import * as tf from '@tensorflow/tfjs-core';
import { disposePast, gatherPast, type AttentionPast } from './attention-past.ts';
import type { BlockRange, DownHook, RunOptions, Transformer } from './transformer.ts';
import { lastRow, layOutRows, type Sequences } from './token-rows.ts';

interface DecodeOptions {
  tokensMax: number;
  temperature: number;
  /** Share of the probability kept, in (0, 1]; 1 keeps all. */
  topP?: number;
  /** Random numbers in [0, 1). Required if the temperature is above 0. */
  random?: () => number;
  hook?: DownHook | null;
  /** Called after each token. Returning true ends the sequence. */
  stop?: (sequence: number, tokens: readonly number[]) => boolean;
  /** Awaited between steps, so that others in the same thread can run. */
  between?: () => Promise<void>;
}

/** Prompts already read: their keys and values, and the logits [B, V] of the next token. */
export interface Prefilled {
  past: AttentionPast;
  logits: tf.Tensor2D;
  lengths: number[];
}

/**
 * Continues each prompt by at most `tokensMax` tokens. Returns the new tokens, including the one
 * that stopped it.
 */
export async function decode(
  model: Transformer,
  prompts: Sequences,
  options: DecodeOptions,
): Promise<number[][]> {
  if (options.tokensMax === 0 || prompts.length === 0) return prompts.map(() => []);
  return decodeFrom(model, prefill(model, prompts, options.hook ?? null), options);
}

/** Reads the prompts in one pass. The caller owns `past` and `logits`. */
export function prefill(model: Transformer, prompts: Sequences, hook: DownHook | null): Prefilled {
  const rows = layOutRows(prompts);
  const ran = model.read(rows, { hook, keep: true });
  const logits = model.logits(
    ran.hidden,
    prompts.map((_, b) => lastRow(rows, b)),
  );
  ran.hidden.dispose();
  return { past: ran.kept!, logits, lengths: prompts.map((prompt) => prompt.length) };
}

/** Continues decoding, and disposes the prefilled tensors. */
export async function decodeFrom(
  model: Transformer,
  start: Prefilled,
  options: DecodeOptions,
): Promise<number[][]> {
  const answers: number[][] = start.lengths.map(() => []);
  let live = start.lengths.map((_, i) => i);
  let { past, logits } = start;
  try {
    for (let step = 0; step < options.tokensMax; step++) {
      const chosen = choose(logits, options);
      const finished = live.map((sequence, b) => {
        answers[sequence]!.push(chosen[b]!);
        return options.stop?.(sequence, answers[sequence]!) === true;
      });
      if (finished.every(Boolean) || step + 1 === options.tokensMax) break;
      if (finished.some(Boolean)) {
        const stay = live.map((_, b) => b).filter((b) => !finished[b]);
        const smaller = gatherPast(past, stay);
        disposePast(past);
        past = smaller;
        live = stay.map((b) => live[b]!);
      }
      await options.between?.();
      const rows = layOutRows(
        live.map((sequence) => [answers[sequence]!.at(-1)!]),
        live.map((sequence) => start.lengths[sequence]! + step),
      );
      const ran = model.read(rows, { past, hook: options.hook, keep: true });
      logits.dispose();
      disposePast(past);
      past = ran.kept!;
      logits = model.logits(ran.hidden);
      ran.hidden.dispose();
    }
  } finally {
    logits.dispose();
    disposePast(past);
  }
  return answers;
}

/**
 * Reads sequences that others will follow, after a past of their own. Returns null if there are no
 * tokens. The caller owns the result.
 */
export function readPast(
  model: Transformer,
  sequences: Sequences,
  range: BlockRange,
  { startAt, ...options }: RunOptions & { startAt?: readonly number[] } = {},
): AttentionPast | null {
  if (sequences.every((sequence) => sequence.length === 0)) return null;
  const rows = layOutRows(sequences, startAt);
  const { hidden, kept } = model.read(rows, { ...options, keep: true }, range);
  hidden.dispose();
  return kept;
}

/** Number of most probable tokens that sampling considers. */
const CANDIDATES_MAX = 256;

function choose(logits_BV: tf.Tensor2D, options: DecodeOptions): number[] {
  if (options.temperature === 0) {
    const best = tf.argMax(logits_BV, 1);
    const tokens = Array.from(best.dataSync());
    best.dispose();
    return tokens;
  }
  const [B, V] = logits_BV.shape;
  const C = Math.min(CANDIDATES_MAX, V);
  const top = tf.tidy(() => {
    const { values, indices } = tf.topk(logits_BV, C);
    return [tf.softmax(tf.div(values, options.temperature)), indices] as tf.Tensor[];
  });
  const [probabilities, tokens] = [top[0]!.dataSync(), top[1]!.dataSync()];
  tf.dispose(top);
  const random = options.random ?? Math.random;
  return Array.from({ length: B }, (_, b) => {
    const descending = probabilities.subarray(b * C, (b + 1) * C) as Float32Array;
    return tokens[b * C + sampleDescending(descending, options.topP ?? 1, random())]!;
  });
}

/**
 * Samples by inverse transform over the leading probabilities (descending) whose mass reaches topP.
 */
function sampleDescending(probabilities: Float32Array, topP: number, uniform: number): number {
  let nucleus = 0;
  let mass = 0;
  do mass += probabilities[nucleus++]!;
  while (nucleus < probabilities.length && mass < topP);
  let left = uniform * mass;
  for (let i = 0; i < nucleus; i++) {
    left -= probabilities[i]!;
    if (left <= 0) return i;
  }
  return nucleus - 1;
}
