/** Measures how well the model predicts given token sequences. */
import * as tf from '@tensorflow/tfjs-core';
import { crossEntropy } from './cross-entropy.ts';
import { layOutRows, type Sequences } from './token-rows.ts';
import { type DownHook, gatherRows, type Transformer } from './transformer.ts';

/** Tokens per forward pass; bounds the [tokens, V] logits. */
const PASS_TOKENS = 512;

/** Summed -log p of each sequence's tokens after the first, in nats. */
export function sequenceLosses(
  model: Transformer,
  sequences: Sequences,
  hook: DownHook | null,
): number[] {
  const losses: number[] = [];
  let pass: (readonly number[])[] = [];
  let tokens = 0;
  for (const [i, sequence] of sequences.entries()) {
    pass.push(sequence);
    tokens += sequence.length;
    const next = sequences[i + 1];
    if (next !== undefined && tokens + next.length <= PASS_TOKENS) continue;
    losses.push(...passLosses(model, pass, hook));
    pass = [];
    tokens = 0;
  }
  return losses;
}

/** exp(mean -log p) over all predicted tokens. */
export function perplexityOf(losses: readonly number[], sequences: Sequences): number {
  const tokens = sequences.reduce((sum, sequence) => sum + sequence.length - 1, 0);
  return Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / tokens);
}

function passLosses(model: Transformer, sequences: Sequences, hook: DownHook | null): number[] {
  const rows = layOutRows(sequences);
  const predicting: number[] = [];
  const wanted: number[] = [];
  const owner: number[] = [];
  sequences.forEach((sequence, b) => {
    for (let t = 0; t + 1 < sequence.length; t++) {
      predicting.push(rows.starts[b]! + t);
      wanted.push(sequence[t + 1]!);
      owner.push(b);
    }
  });
  const values = tf.tidy(() => {
    const { hidden } = model.read(rows, { hook });
    const normed_ND = model.finalNorm(gatherRows(hidden, predicting));
    const tokens = { tokens: wanted, distributions: null };
    return crossEntropy(model.headWeight(), normed_ND, model.headBias(), tokens).dataSync();
  });
  const losses = new Array<number>(sequences.length).fill(0);
  values.forEach((value, i) => (losses[owner[i]!]! += value));
  return losses;
}
