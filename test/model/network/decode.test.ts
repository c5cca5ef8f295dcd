import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decode, gatherPast, readPast } from '../../../model/network/decode.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { promptTokens } from '../../../model/network/sequences.ts';
import { raw } from '../../../model/tensor/tensorflow.ts';
import { FILLER } from '../../../model/network/token-rows.ts';
import {
  disposePast,
  type AttentionPast,
  type DownHook,
} from '../../../model/network/transformer.ts';
import { argMax, greedily, logProbabilities } from '../full-sequence.ts';
import { loadTiny, TINY_MODELS, type TinyModel } from '../tiny-model.ts';

const TOKENS = 8;
const SEED = 20_261_123;

describe.each(TINY_MODELS)('a tiny %s', (name) => {
  let tiny: TinyModel;
  let prompts: number[][];
  beforeAll(async () => {
    tiny = await loadTiny(name);
    const texts = [
      'tom',
      'the capital of the old country is',
      'his mother tongue is',
      'anna plays piano in the town on the river and',
    ];
    prompts = texts.map((text) => promptTokens(tiny.checkpoint.tokenizer, text));
  });
  afterAll(() => tiny.close());

  const greedy = (of: number[][] = prompts) =>
    decode(tiny.model, of, { tokensMax: TOKENS, temperature: 0 });

  it('decodes greedily what the whole sequence run anew finds most probable', async () => {
    const said = await greedy();
    expect(said).toEqual(prompts.map((prompt) => greedily(tiny.model, prompt, TOKENS)));
    // The prompts are told apart, or the comparison would say little.
    expect(new Set(said.map(String)).size).toBeGreaterThan(1);
  });

  it('says to several prompts side by side what it says to each alone', async () => {
    const alone = [];
    for (const prompt of prompts) alone.push((await greedy([prompt]))[0]!);
    expect(await greedy()).toEqual(alone);
  });

  it('draws from the whole distribution by inverse transform, and from a seed the same again', async () => {
    const draw = async (seed: number) =>
      (
        await decode(tiny.model, [prompts[1]!], {
          tokensMax: TOKENS,
          temperature: 1.5,
          random: seededRandom(seed),
        })
      )[0]!;
    const drawn = await draw(SEED);
    expect(await draw(SEED)).toEqual(drawn);
    expect(await Promise.all([1, 2, 3, 4].map((more) => draw(SEED + more)))).not.toEqual([
      drawn,
      drawn,
      drawn,
      drawn,
    ]);
    const random = seededRandom(SEED);
    drawn.forEach((token, i) => {
      const nucleus = nucleusOf(tiny, [...prompts[1]!, ...drawn.slice(0, i)], 1.5, 1);
      const uniform = random();
      let mass = 0;
      const expected =
        nucleus.find(({ probability }) => (mass += probability) >= uniform) ?? nucleus.at(-1)!;
      expect(token, `seed ${SEED}, token ${i}`).toBe(expected.token);
    });
  });

  it('draws from the nucleus alone: of one token it is greedy, of half the mass never outside', async () => {
    const sampled = (topP: number) =>
      decode(tiny.model, prompts, {
        tokensMax: TOKENS,
        temperature: 3,
        topP,
        random: seededRandom(SEED),
      });
    expect(await sampled(1e-6)).toEqual(await greedy());
    const drawn = await sampled(0.5);
    expect(drawn).not.toEqual(await greedy());
    drawn.forEach((tokens, b) =>
      tokens.forEach((token, i) => {
        const nucleus = nucleusOf(tiny, [...prompts[b]!, ...tokens.slice(0, i)], 3, 0.5);
        expect(
          nucleus.map((one) => one.token),
          `seed ${SEED}, prompt ${b}, token ${i}`,
        ).toContain(token);
      }),
    );
  });

  it('ends a sequence with the token that stops it, and goes on with the others', async () => {
    const whole = await greedy();
    const lengths = [3, 1, TOKENS, 5];
    const stopped = await decode(tiny.model, prompts, {
      tokensMax: TOKENS,
      temperature: 0,
      stop: (sequence, soFar) => soFar.length === lengths[sequence],
    });
    expect(stopped).toEqual(whole.map((tokens, b) => tokens.slice(0, lengths[b])));
  });

  it('asks about each token once, in order, and lets others run between steps', async () => {
    const asked: string[] = [];
    let between = 0;
    await decode(tiny.model, prompts.slice(0, 2), {
      tokensMax: 3,
      temperature: 0,
      stop: (sequence, soFar) => {
        asked.push(`${sequence}:${soFar.length}`);
        return sequence === 0 && soFar.length === 2;
      },
      between: async () => void between++,
    });
    expect(asked).toEqual(['0:1', '1:1', '0:2', '1:2', '1:3']);
    expect(between).toBe(2);
  });

  it('says nothing where nothing is asked', async () => {
    expect(await decode(tiny.model, prompts, { tokensMax: 0, temperature: 0 })).toEqual(
      prompts.map(() => []),
    );
    expect(await decode(tiny.model, [], { tokensMax: 3, temperature: 0 })).toEqual([]);
  });

  it('keeps of what went before the tokens, fillers where a sequence had none, and tells a hook of them', () => {
    const range = { from: 0, to: 2 };
    const held = ({ tokens, valid, length }: AttentionPast) => {
      expect([...tokens].map((token) => token !== FILLER)).toEqual(
        [...valid].map((one) => one === 1),
      );
      return Array.from({ length: tokens.length / length }, (_, b) =>
        [...tokens.subarray(b * length, (b + 1) * length)].filter((token) => token !== FILLER),
      );
    };
    const heads = prompts.map((prompt, b) => prompt.slice(0, 2 + b));
    const tails = prompts.map((prompt, b) => prompt.slice(2 + b));
    const first = readPast(tiny.model, heads, range)!;
    expect(held(first)).toEqual(heads);
    const told: string[][] = [];
    const hook: DownHook = {
      layers: new Set([0, 1]),
      project: (_, __, base_RD, ___, past) => (told.push(held(past!).map(String)), base_RD),
    };
    const both = readPast(tiny.model, tails, range, {
      past: first,
      hook,
      startAt: heads.map((head) => head.length),
    })!;
    expect(held(both)).toEqual(prompts);
    expect(told).toEqual([heads.map(String), heads.map(String)]);
    const gathered = gatherPast(both, [2, 0, 2]);
    expect(held(gathered)).toEqual([prompts[2], prompts[0], prompts[2]]);
    for (const past of [first, both, gathered]) disposePast(past);
  });

  it('leaves no tensor behind, even where the caller throws', async () => {
    await greedy();
    const before = [raw.liveCount(), tf.memory().numTensors];
    await greedy();
    const failing = {
      stop: () => {
        throw new Error('no more');
      },
      between: () => Promise.reject(new Error('no more')),
      random: () => {
        throw new Error('no more');
      },
    };
    for (const fault of [
      { stop: failing.stop },
      { between: failing.between },
      { temperature: 1, random: failing.random },
    ]) {
      await expect(
        decode(tiny.model, prompts, { tokensMax: TOKENS, temperature: 0, ...fault }),
      ).rejects.toThrow('no more');
    }
    expect([raw.liveCount(), tf.memory().numTensors]).toEqual(before);
  });
});

/** The most probable tokens, descending, that together reach the mass, with their share of it. */
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

/** Sums of float32 probabilities on one side, of float64 on the other. */
const ROUNDING = 1e-6;
