import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Probe, ProbeAnswer } from '../../../model/engine-types.ts';
import { probeModel } from '../../../model/editing/probe.ts';
import { answerTokens, promptTokens } from '../../../model/network/sequences.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import { argMax, greedily, logProbabilities } from '../full-sequence.ts';
import { loadTiny, TINY_MODELS, type TinyModel } from '../../harness/tiny-model.ts';

/** float32 sums in another order; log-probabilities are 1 to 10 in size. */
const LOG_PROBABILITY_TOLERANCE = 1e-4;
const DECODED = 5;
/** More than fit in one pass. */
const MANY = 70;

const PROMPTS = [
  'the mother tongue of tom is',
  'rome',
  'the capital of the old country is',
  'his english author was born in the town on the river in',
  'anna plays',
];
const TARGETS = ['greek', 'the capital of the old country', 'in', 'a', 'french and english'];

/** A tiny model, probes of it, and its answers. */
interface Probed {
  tiny: TinyModel;
  probes: Probe[];
  answers: ProbeAnswer[];
  ask: (asked: readonly Probe[], between?: () => Promise<void>) => Promise<ProbeAnswer[]>;
  tokensOf: (probe: Probe) => number[];
}

const probed = new Map<string, Probed>();
beforeAll(async () => {
  for (const name of TINY_MODELS) probed.set(name, await probeTiny(name));
});
afterAll(async () => {
  for (const { tiny } of probed.values()) await tiny.close();
});

async function probeTiny(name: (typeof TINY_MODELS)[number]): Promise<Probed> {
  const tiny = await loadTiny(name);
  const { model } = tiny;
  const { tokenizer } = tiny.checkpoint;
  const ask: Probed['ask'] = (asked, between = async () => {}) =>
    probeModel({ model, tokenizer, hook: null, between }, asked);
  const tokensOf = ({ prompt }: Probe) => promptTokens(tokenizer, prompt);
  const probes: Probe[] = PROMPTS.map((prompt, i) => ({
    prompt,
    target: TARGETS[i]!,
    alternative: TARGETS[(i + 1) % TARGETS.length]!,
    greedyTokensMax: DECODED,
  }));
  // Targets are the model's own answers, some of which tokenise as they were decoded.
  for (const prompt of PROMPTS) {
    const decoded = greedily(model, promptTokens(tokenizer, prompt), 2, tokenizer.endTokens);
    for (const tokens of [decoded, decoded.slice(0, 1)])
      probes.push({
        prompt,
        target: tokenizer.decode(tokens.filter((token) => !tokenizer.endTokens.includes(token))),
        greedyTokensMax: 1,
      });
  }
  return { tiny, probes, answers: await ask(probes), ask, tokensOf };
}

it.each(TINY_MODELS)(
  'a tiny %s predicts and decodes the most probable tokens of the whole sequence',
  (name) => {
    const { tiny, probes, answers, tokensOf } = probed.get(name)!;
    const { tokenizer } = tiny.checkpoint;
    probes.forEach((probe, i) => {
      const said = greedily(
        tiny.model,
        tokensOf(probe),
        probe.greedyTokensMax,
        tokenizer.endTokens,
      );
      expect(answers[i]!.nextToken).toBe(said[0]);
      expect(answers[i]!.answer).toBe(
        tokenizer.decode(said.filter((token) => !tokenizer.endTokens.includes(token))),
      );
    });
    expect(new Set(answers.map(({ answer }) => answer)).size).toBeGreaterThan(1);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s scores answers as the whole sequence does, by mean log-probability and argmax',
  (name) => {
    const { tiny, probes, answers, tokensOf } = probed.get(name)!;
    const { tokenizer } = tiny.checkpoint;
    const scored = (probe: Probe, text: string) => {
      const prompt = tokensOf(probe);
      const answer = answerTokens(tokenizer, probe.prompt, text);
      if (answer.length === 0) return null;
      const read = logProbabilities(tiny.model, [...prompt, ...answer]).slice(
        prompt.length - 1,
        -1,
      );
      return {
        mean: answer.reduce((sum, token, t) => sum + read[t]![token]!, 0) / answer.length,
        argmax: answer.every((token, t) => token === argMax(read[t]!)),
        answer,
      };
    };
    const seen = {
      argmax: new Set<boolean | null>(),
      greedy: new Set<boolean | null>(),
      longest: 0,
    };
    probes.forEach((probe, i) => {
      const { targetLogProbability, alternativeLogProbability, targetIsArgmax, targetIsGreedy } =
        answers[i]!;
      const target = scored(probe, probe.target!);
      if (target === null)
        return expect([targetLogProbability, targetIsArgmax, targetIsGreedy]).toEqual([
          null,
          null,
          null,
        ]);
      expect(Math.abs(targetLogProbability! - target.mean)).toBeLessThan(LOG_PROBABILITY_TOLERANCE);
      expect(targetIsArgmax).toBe(target.argmax);
      const said = greedily(tiny.model, tokensOf(probe), target.answer.length, tokenizer.endTokens);
      expect(targetIsGreedy).toBe(target.answer.every((token, t) => said[t] === token));
      if (probe.alternative !== undefined)
        expect(
          Math.abs(alternativeLogProbability! - scored(probe, probe.alternative)!.mean),
        ).toBeLessThan(LOG_PROBABILITY_TOLERANCE);
      else expect(alternativeLogProbability).toBeNull();
      seen.argmax.add(targetIsArgmax);
      seen.greedy.add(targetIsGreedy);
      seen.longest = Math.max(seen.longest, target.answer.length);
    });
    // Otherwise the comparison would prove little.
    for (const values of [seen.argmax, seen.greedy])
      expect(values.has(true) && values.has(false)).toBe(true);
    expect(seen.longest).toBeGreaterThan(1);
  },
);

it.each(TINY_MODELS)(
  'a tiny %s answers many probes in passes as it answers each alone',
  async (name) => {
    const { probes, ask } = probed.get(name)!;
    const many = Array.from({ length: MANY }, (_, i) => probes[i % probes.length]!);
    let between = 0;
    const together = await ask(many, async () => void between++);
    expect(between).toBeGreaterThan(1);
    const alone: ProbeAnswer[] = [];
    for (const probe of probes) alone.push((await ask([probe]))[0]!);
    together.forEach((answer, i) => expectSame(answer, alone[i % probes.length]!));
  },
);

it.each(TINY_MODELS)(
  'a tiny %s gives no score without an answer, or for an empty one',
  async (name) => {
    const { answers, ask } = probed.get(name)!;
    const prompt = PROMPTS[0]!;
    const [bare, empty] = await ask([
      { prompt, greedyTokensMax: 0 },
      { prompt, target: ' ', alternative: '', greedyTokensMax: 0 },
    ]);
    for (const answer of [bare!, empty!]) {
      expect(answer).toMatchObject({
        answer: '',
        targetLogProbability: null,
        alternativeLogProbability: null,
        targetIsArgmax: null,
        targetIsGreedy: null,
        opened: false,
      });
      expect(answer.nextToken).toBe(answers[0]!.nextToken);
    }
    expect(await ask([])).toEqual([]);
  },
);

it.each(TINY_MODELS)('a tiny %s leaks no tensor, even if the caller throws', async (name) => {
  const { probes, ask } = probed.get(name)!;
  await ask(probes);
  const before = [raw.liveCount(), tf.memory().numTensors];
  await ask(probes);
  await expect(ask(probes, () => Promise.reject(new Error('no more')))).rejects.toThrow('no more');
  expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
});

function expectSame(one: ProbeAnswer, other: ProbeAnswer): void {
  const { targetLogProbability: p, alternativeLogProbability: q, ...rest } = one;
  const { targetLogProbability, alternativeLogProbability, ...otherRest } = other;
  expect(rest).toEqual(otherRest);
  for (const [a, b] of [
    [p, targetLogProbability],
    [q, alternativeLogProbability],
  ] as const) {
    if (a === null || b === null) expect(a).toBe(b);
    else expect(Math.abs(a - b)).toBeLessThan(LOG_PROBABILITY_TOLERANCE);
  }
}
