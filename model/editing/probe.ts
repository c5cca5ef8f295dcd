/**
 * Runs many probes at once: the model's next token and continuation, the probability of given
 * answers, and whether a gate opened.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Probe, ProbeAnswer } from '../engine-types.ts';
import { disposePast, gatherPast } from '../network/attention-past.ts';
import { decodeFrom, prefill, type Prefilled } from '../network/decode.ts';
import {
  type DownHook,
  type DownProjection,
  gatherRows,
  type Transformer,
} from '../network/transformer.ts';
import type { Hook } from '../hook/hook.ts';
import { answerTokens, frontTokens, promptTokens } from '../network/sequences.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { layOutRows } from '../network/token-rows.ts';

/** Prompts per pass; bounds the [prompts, V] logits and the keys and values held. */
const PASS_PROMPTS = 64;
/** Number of prompts in a pass times the longest; bounds attention, which is padded. */
const PASS_SLOTS = 8_192;

interface Prober {
  model: Transformer;
  tokenizer: Tokenizer;
  hook: Hook | null;
  between: () => Promise<void>;
}

export async function probeModel(prober: Prober, probes: readonly Probe[]): Promise<ProbeAnswer[]> {
  const { model, tokenizer, between } = prober;
  const answers: ProbeAnswer[] = new Array<ProbeAnswer>(probes.length);
  // Groups longer continuations, so that few passes decode, and then prompts of similar length,
  // because attention is padded.
  const tokens = probes.map((probe) => fittedPrompt(tokenizer, probe, model.config.contextMax));
  const order = probes
    .map((_, i) => i)
    .sort(
      (a, b) =>
        probes[b]!.greedyTokensMax - probes[a]!.greedyTokensMax ||
        tokens[a]!.length - tokens[b]!.length,
    );
  for (let begin = 0, end = 0; begin < order.length; begin = end) {
    let longest = 0;
    do longest = Math.max(longest, tokens[order[end++]!]!.length);
    while (
      end < order.length &&
      end - begin < PASS_PROMPTS &&
      (end + 1 - begin) * Math.max(longest, tokens[order[end]!]!.length) <= PASS_SLOTS
    );
    const indices = order.slice(begin, end);
    const answered = await probePass(
      prober,
      indices.map((i) => probes[i]!),
      indices.map((i) => tokens[i]!),
    );
    indices.forEach((i, slot) => (answers[i] = answered[slot]!));
    await between();
  }
  return answers;
}

/**
 * Returns the prompt's tokens. If the answers would not fit, only the prompt's front and end
 * remain.
 */
function fittedPrompt(tokenizer: Tokenizer, probe: Probe, contextMax: number): number[] {
  const tokens = promptTokens(tokenizer, probe.prompt);
  const answers = [probe.target, probe.alternative].map((text) =>
    text === undefined ? 0 : answerTokens(tokenizer, probe.prompt, text).length,
  );
  const room = Math.max(1, contextMax - Math.max(1, probe.greedyTokensMax, ...answers));
  if (tokens.length <= room) return tokens;
  const front = frontTokens(tokenizer);
  return [
    ...front,
    ...tokens.slice(Math.min(tokens.length - 1, tokens.length - room + front.length)),
  ];
}

async function probePass(
  { model, tokenizer, hook, between }: Prober,
  probes: readonly Probe[],
  prompts: readonly number[][],
): Promise<ProbeAnswer[]> {
  const watched = hook === null ? null : new Watched(hook, probes.length);
  const start = prefill(model, prompts, watched);
  const nextTokens = tf.tidy(() => tf.argMax(start.logits, 1).dataSync().slice());
  const toScore = (which: 'target' | 'alternative') =>
    probes.map((probe, sequence): Scored => {
      const text = probe[which] ?? '';
      const tokens = answerTokens(tokenizer, probe.prompt, text);
      return { sequence, tokens, sum: 0, isArgmax: true };
    });
  const [targets, alternatives] = [toScore('target'), toScore('alternative')];
  const scored = targets.flatMap((target, b) => [target, alternatives[b]!]);
  scoreAnswers(
    model,
    hook,
    start,
    scored.filter(({ tokens }) => tokens.length > 0),
  );
  const wanted = probes.map(({ greedyTokensMax }, b) =>
    Math.max(greedyTokensMax, targets[b]!.tokens.length),
  );
  const ends = new Set(tokenizer.endTokens);
  const greedy = await decodeFrom(model, start, {
    tokensMax: Math.max(1, ...wanted),
    temperature: 0,
    hook,
    stop: (sequence, soFar) => soFar.length >= wanted[sequence]! || ends.has(soFar.at(-1)!),
    between,
  });
  return probes.map(({ greedyTokensMax }, b) => {
    const [target, decoded] = [targets[b]!, greedy[b]!];
    const answer = decoded.slice(0, greedyTokensMax).filter((token) => !ends.has(token));
    const isScored = target.tokens.length > 0;
    return {
      nextToken: nextTokens[b]!,
      answer: tokenizer.decode(answer),
      targetLogProbability: meanOf(target),
      alternativeLogProbability: meanOf(alternatives[b]!),
      targetIsArgmax: isScored ? target.isArgmax : null,
      targetIsGreedy: isScored ? target.tokens.every((token, i) => decoded[i] === token) : null,
      opened: watched?.opened[b] === 1,
    };
  });
}

/** Notes the sequences in which a hook's gate opened. */
class Watched implements DownHook {
  readonly layers: ReadonlySet<number>;
  readonly opened: Uint8Array;
  constructor(
    private readonly hook: Hook,
    sequences: number,
  ) {
    this.layers = hook.layers;
    this.opened = new Uint8Array(sequences);
  }
  project(down: DownProjection): tf.Tensor2D {
    const { rows } = down;
    this.hook.openObserver = (_, openRows) => {
      for (let b = 0; b < rows.sequences; b++) {
        for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++)
          if (openRows[row] === 1) this.opened[b] = 1;
      }
    };
    try {
      return this.hook.project(down);
    } finally {
      this.hook.openObserver = null;
    }
  }
}

/** An answer to a prefilled prompt. Without tokens it is not scored. */
interface Scored {
  sequence: number;
  tokens: number[];
  /** Summed log-probability of the tokens. */
  sum: number;
  /** True while every token is the argmax. */
  isArgmax: boolean;
}

function meanOf({ sum, tokens }: Scored): number | null {
  return tokens.length === 0 ? null : sum / tokens.length;
}

function scoreAnswers(
  model: Transformer,
  hook: DownHook | null,
  start: Prefilled,
  scored: readonly Scored[],
): void {
  if (scored.length === 0) return;
  const sequences = scored.map(({ sequence }) => sequence);
  const first = tokenScores(
    gatherRows(start.logits, sequences),
    scored.map(({ tokens }) => tokens[0]!),
  );
  scored.forEach((one, i) => addToken(one, first, i));
  const longer = scored.filter(({ tokens }) => tokens.length > 1);
  if (longer.length === 0) return;
  const past = gatherPast(
    start.past,
    longer.map(({ sequence }) => sequence),
  );
  const rows = layOutRows(
    longer.map(({ tokens }) => tokens.slice(0, -1)),
    longer.map(({ sequence }) => start.lengths[sequence]!),
  );
  const { hidden } = model.read(rows, { past, hook });
  const rest = tokenScores(
    model.logits(hidden),
    longer.flatMap(({ tokens }) => tokens.slice(1)),
  );
  let row = 0;
  for (const one of longer) one.tokens.slice(1).forEach(() => addToken(one, rest, row++));
  hidden.dispose();
  disposePast(past);
}

function addToken(one: Scored, scores: ReturnType<typeof tokenScores>, row: number): void {
  one.sum += scores.logProbability[row]!;
  one.isArgmax &&= scores.argmax[row]!;
}

/** log p of one token per row. Disposes the logits [N, V]. */
function tokenScores(logits_NV: tf.Tensor2D, tokens: readonly number[]) {
  const { values, best } = tf.tidy(() => {
    const picked = tf.gatherND(
      logits_NV,
      tf.tensor2d(
        tokens.map((token, row) => [row, token]),
        [tokens.length, 2],
        'int32',
      ),
    );
    return { values: tf.sub(picked, tf.logSumExp(logits_NV, 1)), best: tf.argMax(logits_NV, 1) };
  });
  const result = {
    logProbability: values.dataSync().slice() as Float32Array,
    argmax: Array.from(best.dataSync()).map((token, row) => token === tokens[row]),
  };
  tf.dispose([values, best, logits_NV]);
  return result;
}
