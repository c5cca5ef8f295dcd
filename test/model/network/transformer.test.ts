import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { openCheckpoint, type Checkpoint } from '../../../model/checkpoint/checkpoint.ts';
import { decode } from '../../../model/network/decode.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import { layOutRows } from '../../../model/network/token-rows.ts';
import { disposePast, Transformer, type DownHook } from '../../../model/network/transformer.ts';
import {
  goldenPath,
  largestDifference,
  readGoldenJson,
  readGoldenTensors,
} from '../../golden/read-golden.ts';

/** The bound that the project states for logits against PyTorch; both sides compute in float32. */
const LOGITS_TOLERANCE = 1e-3;
/** Hidden states of the tiny models are of the size of 1 to 30. */
const HIDDEN_TOLERANCE = 2e-4;

beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});

describe.each(['llama', 'llama3', 'qwen2', 'qwen2-tied', 'gpt2', 'gptj'])('a tiny %s', (name) => {
  const expected = readGoldenTensors('tiny', `${name}-expected.safetensors`);
  const numbers = (key: string) => expected.get(key)!.values as Float32Array;
  const sequences = [0, 1, 2].map((i) => [...(expected.get(`ids.${i}`)!.values as Int32Array)]);
  let checkpoint: Checkpoint;
  let model: Transformer;

  beforeAll(async () => {
    checkpoint = await openCheckpoint(goldenPath('tiny', name));
    model = await Transformer.load(checkpoint);
  });
  afterAll(async () => {
    model.dispose();
    await checkpoint.close();
  });

  const logitsOf = (batch: number[][]) =>
    tf.tidy(() => {
      const rows = layOutRows(batch);
      const { hidden } = model.run(model.embed(rows), rows, { from: 0, to: model.config.layers });
      return model.logits(hidden).dataSync();
    });

  it.each([0, 1, 2])('has the logits of PyTorch at every position of sequence %i', (i) => {
    expect(largestDifference(logitsOf([sequences[i]!]), numbers(`logits.${i}`))).toBeLessThan(
      LOGITS_TOLERANCE,
    );
  });

  it('has them in a batch of sequences of different lengths too', () => {
    const together = [0, 1, 2].flatMap((i) => [...numbers(`logits.${i}`)]);
    expect(largestDifference(logitsOf(sequences), together)).toBeLessThan(LOGITS_TOLERANCE);
  });

  it("shows a hook PyTorch's keys of every block, and gives PyTorch's hidden states", () => {
    const { layers } = model.config;
    const keys = new Map<number, Float32Array>();
    const hook: DownHook = {
      layers: new Set(Array.from({ length: layers }, (_, layer) => layer)),
      project(layer, keys_RF, base_RD) {
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

  it('says the same token by token behind a cache', () => {
    const ids = sequences[0]!;
    const found: number[] = [];
    let past = null;
    for (const [position, id] of ids.entries()) {
      const rows = layOutRows([[id]], [position]);
      const embedded = model.embed(rows);
      const { hidden, kept } = model.run(
        embedded,
        rows,
        { from: 0, to: model.config.layers },
        { past, keep: true },
      );
      const logits = model.logits(hidden);
      found.push(...logits.dataSync());
      tf.dispose([embedded, hidden, logits]);
      disposePast(past);
      past = kept;
    }
    disposePast(past);
    expect(largestDifference(found, numbers('logits.0'))).toBeLessThan(LOGITS_TOLERANCE);
  });

  it('leaves no tensor behind', () => {
    const before = [tf.memory().numTensors, raw.liveCount()];
    logitsOf(sequences);
    expect([tf.memory().numTensors, raw.liveCount()]).toEqual(before);
  });
});

describe('SmolLM2-135M-Instruct', () => {
  interface Golden {
    cases: {
      prompt: string;
      ids: number[];
      positions: { position: number; tokens: number[]; logits: number[]; logSumExp: number }[];
    }[];
    greedy: { prompt: string; ids: number[] };
  }
  const { cases, greedy } = readGoldenJson<Golden>('smollm2-logits.json');
  let checkpoint: Checkpoint;
  let model: Transformer;

  beforeAll(async () => {
    checkpoint = await openCheckpoint(homeFromEnvironment().model.folder);
    model = await Transformer.load(checkpoint);
  });
  afterAll(async () => {
    model.dispose();
    await checkpoint.close();
  });

  it('has the logits of PyTorch on the same dequantised weights', () => {
    for (const { prompt, ids, positions } of cases) {
      expect(checkpoint.tokenizer.encode(prompt)).toEqual(ids);
      const picked = positions.map(({ position }) => position);
      const all = tf.tidy(() => {
        const rows = layOutRows([ids]);
        const { hidden } = model.run(model.embed(rows), rows, { from: 0, to: model.config.layers });
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
        expect(Math.abs(highest + Math.log(sum) - logSumExp), prompt).toBeLessThan(
          LOGITS_TOLERANCE,
        );
      });
    }
  });

  it('continues greedily as PyTorch does', async () => {
    const prompt = checkpoint.tokenizer.encode(greedy.prompt);
    const [continued] = await decode(model, [prompt], {
      tokensMax: greedy.ids.length,
      temperature: 0,
    });
    expect(continued).toEqual(greedy.ids);
  });
});
