import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  disposePast,
  gatherPast,
  type AttentionPast,
} from '../../../model/network/attention-past.ts';
import { decode, readPast } from '../../../model/network/decode.ts';
import type { DownHook } from '../../../model/network/transformer.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { promptTokens } from '../../../model/network/sequences.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import { FILLER } from '../../../model/network/token-rows.ts';
import { argMax, greedily, logProbabilities } from '../full-sequence.ts';
import { loadTiny, TINY_MODELS, type TinyModel } from '../../harness/tiny-model.ts';

const TOKENS = 8;
const SEED = 20_261_123;

interface World {
  tiny: TinyModel;
  prompts: number[][];
  greedy: (prompts?: number[][]) => Promise<number[][]>;
}

const worlds = new Map<string, World>();
const TEXTS = [
  'tom',
  'the capital of the old country is',
  'his mother tongue is',
  'anna plays piano in the town on the river and',
];

beforeAll(async () => {
  for (const name of TINY_MODELS) {
    const tiny = await loadTiny(name);
    const prompts = TEXTS.map((text) => promptTokens(tiny.checkpoint.tokenizer, text));
    const greedy = (of = prompts) => decode(tiny.model, of, { tokensMax: TOKENS, temperature: 0 });
    worlds.set(name, { tiny, prompts, greedy });
  }
});
afterAll(() => Promise.all([...worlds.values()].map(({ tiny }) => tiny.close())));

test.each(TINY_MODELS)(
  'a tiny %s decodes greedily what a run of the whole sequence finds most probable',
  async (name) => {
    const { tiny, prompts, greedy } = worlds.get(name)!;
    const answers = await greedy();
    expect(answers).toEqual(prompts.map((prompt) => greedily(tiny.model, prompt, TOKENS)));
    // The prompts must have different answers for the comparison to prove anything.
    expect(new Set(answers.map(String)).size).toBeGreaterThan(1);
  },
);

test.each(TINY_MODELS)('a tiny %s answers several prompts together as each alone', async (name) => {
  const { prompts, greedy } = worlds.get(name)!;
  const alone = [];
  for (const prompt of prompts) alone.push((await greedy([prompt]))[0]!);
  expect(await greedy()).toEqual(alone);
});

test.each(TINY_MODELS)(
  'a tiny %s samples by inverse transform, reproducibly from a seed',
  async (name) => {
    const { tiny, prompts } = worlds.get(name)!;
    const draw = async (seed: number) => {
      const options = { tokensMax: TOKENS, temperature: 1.5, random: seededRandom(seed) };
      return (await decode(tiny.model, [prompts[1]!], options))[0]!;
    };
    const drawn = await draw(SEED);
    expect(await draw(SEED)).toEqual(drawn);
    const others = await Promise.all([1, 2, 3, 4].map((more) => draw(SEED + more)));
    expect(others).not.toEqual(others.map(() => drawn));
    const random = seededRandom(SEED);
    drawn.forEach((token, i) => {
      const nucleus = nucleusOf(tiny, [...prompts[1]!, ...drawn.slice(0, i)], 1.5, 1);
      const uniform = random();
      let mass = 0;
      const expected =
        nucleus.find(({ probability }) => (mass += probability) >= uniform) ?? nucleus.at(-1)!;
      expect(token, `seed ${SEED}, token ${i}`).toBe(expected.token);
    });
  },
);

test.each(TINY_MODELS)('a tiny %s samples only from the nucleus', async (name) => {
  const { tiny, prompts, greedy } = worlds.get(name)!;
  const sampled = (topP: number) => {
    const random = seededRandom(SEED);
    return decode(tiny.model, prompts, { tokensMax: TOKENS, temperature: 3, topP, random });
  };
  expect(await sampled(1e-6)).toEqual(await greedy());
  const drawn = await sampled(0.5);
  expect(drawn).not.toEqual(await greedy());
  drawn.forEach((tokens, b) =>
    tokens.forEach((token, i) => {
      const nucleus = nucleusOf(tiny, [...prompts[b]!, ...tokens.slice(0, i)], 3, 0.5);
      const where = `seed ${SEED}, prompt ${b}, token ${i}`;
      expect(
        nucleus.map(({ token: one }) => one),
        where,
      ).toContain(token);
    }),
  );
});

test.each(TINY_MODELS)(
  'a tiny %s ends a stopped sequence and continues the others',
  async (name) => {
    const { tiny, prompts, greedy } = worlds.get(name)!;
    const whole = await greedy();
    const lengths = [3, 1, TOKENS, 5];
    const stopped = await decode(tiny.model, prompts, {
      tokensMax: TOKENS,
      temperature: 0,
      stop: (sequence, soFar) => soFar.length === lengths[sequence],
    });
    expect(stopped).toEqual(whole.map((tokens, b) => tokens.slice(0, lengths[b])));
  },
);

test.each(TINY_MODELS)(
  'a tiny %s calls stop once for each token, and between after each step',
  async (name) => {
    const { tiny, prompts } = worlds.get(name)!;
    const calls: string[] = [];
    let between = 0;
    await decode(tiny.model, prompts.slice(0, 2), {
      tokensMax: 3,
      temperature: 0,
      stop: (sequence, soFar) => {
        calls.push(`${sequence}:${soFar.length}`);
        return sequence === 0 && soFar.length === 2;
      },
      between: async () => void between++,
    });
    expect(calls).toEqual(['0:1', '1:1', '0:2', '1:2', '1:3']);
    expect(between).toBe(2);
  },
);

test.each(TINY_MODELS)('a tiny %s returns no answer without prompts or tokens', async (name) => {
  const { tiny, prompts } = worlds.get(name)!;
  const nothing = await decode(tiny.model, prompts, { tokensMax: 0, temperature: 0 });
  expect(nothing).toEqual(prompts.map(() => []));
  expect(await decode(tiny.model, [], { tokensMax: 3, temperature: 0 })).toEqual([]);
});

test.each(TINY_MODELS)(
  'a tiny %s keeps the tokens of the past and shows them to a hook',
  async (name) => {
    const { tiny, prompts } = worlds.get(name)!;
    const range = { from: 0, to: 2 };
    const held = ({ tokens, valid, length }: AttentionPast) => {
      const isValid = [...valid].map((one) => one === 1);
      expect([...tokens].map((token) => token !== FILLER)).toEqual(isValid);
      return Array.from({ length: tokens.length / length }, (_, b) =>
        [...tokens.subarray(b * length, (b + 1) * length)].filter((token) => token !== FILLER),
      );
    };
    const heads = prompts.map((prompt, b) => prompt.slice(0, 2 + b));
    const tails = prompts.map((prompt, b) => prompt.slice(2 + b));
    const first = readPast(tiny.model, heads, range)!;
    expect(held(first)).toEqual(heads);
    const seen: string[][] = [];
    const hook: DownHook = {
      layers: new Set([0, 1]),
      project: ({ base_RD, past }) => (seen.push(held(past!).map(String)), base_RD),
    };
    const startAt = heads.map((head) => head.length);
    const both = readPast(tiny.model, tails, range, { past: first, hook, startAt })!;
    expect(held(both)).toEqual(prompts);
    expect(seen).toEqual([heads.map(String), heads.map(String)]);
    const gathered = gatherPast(both, [2, 0, 2]);
    expect(held(gathered)).toEqual([prompts[2], prompts[0], prompts[2]]);
    for (const past of [first, both, gathered]) disposePast(past);
  },
);

test.each(TINY_MODELS)('a tiny %s leaks no tensor, even if the caller throws', async (name) => {
  const { tiny, prompts, greedy } = worlds.get(name)!;
  await greedy();
  const before = [raw.liveCount(), tf.memory().numTensors];
  await greedy();
  const fail = () => {
    throw new Error('no more');
  };
  const between = () => Promise.reject(new Error('no more'));
  for (const fault of [{ stop: fail }, { between }, { temperature: 1, random: fail }]) {
    const options = { tokensMax: TOKENS, temperature: 0, ...fault };
    await expect(decode(tiny.model, prompts, options)).rejects.toThrow('no more');
  }
  expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
});

/** The most probable tokens, descending, that together reach the mass, with their shares of it. */
function nucleusOf(
  { model }: TinyModel,
  tokens: readonly number[],
  temperature: number,
  mass: number,
): { token: number; probability: number }[] {
  const last = logProbabilities(model, tokens).at(-1)!;
  const top = last[argMax(last)]!;
  const weights = [...last]
    .map((value, token) => ({ token, weight: Math.exp((value - top) / temperature) }))
    .sort((a, b) => b.weight - a.weight);
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  let reached = 0;
  const count = weights.findIndex(({ weight }) => (reached += weight / total) >= mass + ROUNDING);
  const kept = count < 0 ? weights : weights.slice(0, count + 1);
  const within = kept.reduce((sum, { weight }) => sum + weight, 0);
  return kept.map(({ token, weight }) => ({ token, probability: weight / within }));
}

/** Sums of float32 probabilities against sums in float64. */
const ROUNDING = 1e-6;
