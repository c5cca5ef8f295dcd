import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { openCheckpoint } from '../../../model/checkpoint/checkpoint.ts';
import { disposePast } from '../../../model/network/attention-past.ts';
import { decode } from '../../../model/network/decode.ts';
import { Transformer, type DownHook } from '../../../model/network/transformer.ts';
import type { Tokenizer } from '../../../model/tokenizer/tokenizer.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import { layOutRows } from '../../../model/network/token-rows.ts';
import {
  goldenPath,
  largestDifference,
  readGoldenJson,
  readGoldenTensors,
} from '../../golden/read-golden.ts';

/** The project's bound for logits against PyTorch; both sides compute in float32. */
const LOGITS_TOLERANCE = 1e-3;
/** Hidden states of the tiny models are 1 to 30 in size. */
const HIDDEN_TOLERANCE = 2e-4;

const TINY = ['llama', 'llama3', 'qwen2', 'qwen2-tied', 'gpt2', 'gptj'];
const models = new Map<string, Transformer>();
let tokenizer: Tokenizer;

beforeAll(async () => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
  for (const name of [...TINY, 'smollm2']) {
    const { folder } = homeFromEnvironment().model;
    const checkpoint = await openCheckpoint(name === 'smollm2' ? folder : goldenPath('tiny', name));
    models.set(name, await Transformer.load(checkpoint));
    tokenizer = checkpoint.tokenizer;
    await checkpoint.close();
  }
});
afterAll(() => models.forEach((model) => model.dispose()));

function tiny(name: string) {
  const expected = readGoldenTensors('tiny', `${name}-expected.safetensors`);
  const numbers = (key: string) => expected.get(key)!.values as Float32Array;
  const sequences = [0, 1, 2].map((i) => [...(expected.get(`ids.${i}`)!.values as Int32Array)]);
  return { model: models.get(name)!, numbers, sequences };
}

const whole = ({ config }: Transformer) => ({ from: 0, to: config.layers });
const logitsOf = (model: Transformer, batch: number[][]) =>
  tf.tidy(() => {
    const rows = layOutRows(batch);
    const { hidden } = model.run(model.embed(rows), rows, whole(model));
    return model.logits(hidden).dataSync();
  });

test.each(TINY)('a tiny %s has the logits of PyTorch, sequence by sequence', (name) => {
  const { model, numbers, sequences } = tiny(name);
  sequences.forEach((sequence, i) =>
    expect(largestDifference(logitsOf(model, [sequence]), numbers(`logits.${i}`))).toBeLessThan(
      LOGITS_TOLERANCE,
    ),
  );
});

test.each(TINY)('a tiny %s has the logits of PyTorch in a batch of several lengths', (name) => {
  const { model, numbers, sequences } = tiny(name);
  const together = [0, 1, 2].flatMap((i) => [...numbers(`logits.${i}`)]);
  expect(largestDifference(logitsOf(model, sequences), together)).toBeLessThan(LOGITS_TOLERANCE);
});

test.each(TINY)("a tiny %s has PyTorch's keys and hidden states in every block", (name) => {
  const { model, numbers, sequences } = tiny(name);
  const { layers } = model.config;
  const keys = new Map<number, Float32Array>();
  const hook: DownHook = {
    layers: new Set(Array.from({ length: layers }, (_, layer) => layer)),
    project({ layer, keys_RF, base_RD }) {
      keys.set(layer, keys_RF.dataSync() as Float32Array);
      return base_RD;
    },
  };
  tf.tidy(() => {
    const rows = layOutRows([sequences[0]!]);
    let hidden = model.embed(rows);
    for (let layer = 0; layer < layers; layer++) {
      hidden = model.run(hidden, rows, { from: layer, to: layer + 1 }, { hook }).hidden;
      expect(largestDifference(keys.get(layer)!, numbers(`keys.${layer}`))).toBeLessThan(
        HIDDEN_TOLERANCE,
      );
      expect(largestDifference(hidden.dataSync(), numbers(`blockOutput.${layer}`))).toBeLessThan(
        HIDDEN_TOLERANCE,
      );
    }
  });
});

test.each(TINY)('a tiny %s has the same logits token by token with a cache', (name) => {
  const { model, numbers, sequences } = tiny(name);
  const found: number[] = [];
  let past = null;
  for (const [position, id] of sequences[0]!.entries()) {
    const rows = layOutRows([[id]], [position]);
    const embedded = model.embed(rows);
    const { hidden, kept } = model.run(embedded, rows, whole(model), { past, keep: true });
    const logits = model.logits(hidden);
    found.push(...logits.dataSync());
    tf.dispose([embedded, hidden, logits]);
    disposePast(past);
    past = kept;
  }
  disposePast(past);
  expect(largestDifference(found, numbers('logits.0'))).toBeLessThan(LOGITS_TOLERANCE);
});

test.each(TINY)('a run of a tiny %s leaks no tensor', (name) => {
  const { model, sequences } = tiny(name);
  logitsOf(model, sequences);
  const before = [tf.memory().numTensors, raw.liveCount()];
  logitsOf(model, sequences);
  expect([tf.memory().numTensors, raw.liveCount()]).toEqual(before);
});

interface Golden {
  cases: {
    prompt: string;
    ids: number[];
    positions: { position: number; tokens: number[]; logits: number[]; logSumExp: number }[];
  }[];
  greedy: { prompt: string; ids: number[] };
}
const { cases, greedy } = readGoldenJson<Golden>('smollm2-logits.json');

test('SmolLM2-135M-Instruct has the logits of PyTorch on the same dequantised weights', () => {
  const model = models.get('smollm2')!;
  for (const { prompt, ids, positions } of cases) {
    expect(tokenizer.encode(prompt)).toEqual(ids);
    const picked = positions.map(({ position }) => position);
    const all = tf.tidy(() => {
      const rows = layOutRows([ids]);
      const { hidden } = model.run(model.embed(rows), rows, whole(model));
      return model.logits(hidden, picked).arraySync();
    });
    positions.forEach(({ tokens, logits, logSumExp }, i) => {
      const row = all[i]!;
      expect(
        largestDifference(
          tokens.map((token) => row[token]!),
          logits,
        ),
        prompt,
      ).toBeLessThan(LOGITS_TOLERANCE);
      const highest = row.reduce((a, b) => Math.max(a, b));
      const sum = row.reduce((total, logit) => total + Math.exp(logit - highest), 0);
      expect(Math.abs(highest + Math.log(sum) - logSumExp), prompt).toBeLessThan(LOGITS_TOLERANCE);
    });
  }
});

test('SmolLM2-135M-Instruct continues greedily as PyTorch does', async () => {
  const prompt = tokenizer.encode(greedy.prompt);
  const [continued] = await decode(models.get('smollm2')!, [prompt], {
    tokensMax: greedy.ids.length,
    temperature: 0,
  });
  expect(continued).toEqual(greedy.ids);
});
