import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../model/checkpoint/checkpoint.ts';
import {
  hookBytes,
  keyValueBytes,
  memoryNeed,
  parameterCount,
} from '../../../model/engine/memory-need.ts';
import { parametersFor } from '../../../model/engine/parameters.ts';
import { disposePast } from '../../../model/network/attention-past.ts';
import { prefill } from '../../../model/network/decode.ts';
import { ADDON, loadTiny, TINY_MODELS } from '../../harness/tiny-model.ts';
import { loadTensorFlow } from '../../../model/tensor/tensorflow.ts';

const SMOLLM2: ModelConfig = {
  architecture: 'llama',
  layers: 30,
  residualWidth: 576,
  mlpWidth: 1536,
  heads: 9,
  keyValueHeads: 3,
  headWidth: 64,
  vocabulary: 49_152,
  contextMax: 8192,
  normEpsilon: 1e-5,
  rotary: { theta: 1e5, width: 64, scaling: null },
  activation: 'silu',
  tiedEmbeddings: true,
};

describe('the memory need of a model', () => {
  it.each(TINY_MODELS)(
    'equals what TensorFlow holds, for a tiny %s’s weights, keys and values',
    async (name) => {
      loadTensorFlow(ADDON);
      const before = tf.memory().numBytes;
      const tiny = await loadTiny(name);
      const { model } = tiny;
      const weights = tf.memory().numBytes - before;
      // The rotary tables of a model are not weights.
      expect(weights / (4 * parameterCount(model.config))).toBeGreaterThanOrEqual(1);
      expect(weights - 4 * parameterCount(model.config)).toBeLessThanOrEqual(
        4 * (model.config.headWidth ** 2 + model.config.contextMax * model.config.headWidth * 2),
      );
      const loaded = tf.memory().numBytes;
      const { past, logits } = prefill(model, [[0, 5, 9, 11, 3, 7]], null);
      logits.dispose();
      expect(tf.memory().numBytes - loaded).toBe(keyValueBytes(model.config, 6));
      disposePast(past);
      await tiny.close();
    },
  );

  // Peaks of whole processes as measured by `npm run bench`.
  it.each([
    [30, 30, 2.37e9],
    [300, 30, 2.84e9],
    [2_000, 50, 4.41e9],
  ])(
    'for SmolLM2-135M with %i corrections in batches of %i is within 15 %% of the measured peak',
    (corrections, edits, measuredBytes) => {
      const worker = memoryNeed(SMOLLM2, parametersFor(SMOLLM2), corrections, edits).processes.find(
        ({ name }) => name === 'edit-worker',
      )!;
      expect(Math.abs(worker.peakBytes / measuredBytes - 1)).toBeLessThan(0.15);
    },
  );

  it('grows with the active corrections, the batch and the model', () => {
    const parameters = parametersFor(SMOLLM2);
    const peak = (config: ModelConfig, corrections: number, edits: number) =>
      memoryNeed(config, parametersFor(config), corrections, edits).processes[0]!.peakBytes;
    expect(hookBytes(SMOLLM2, parameters, 0)).toBe(0);
    expect(peak(SMOLLM2, 2000, 30)).toBeGreaterThan(peak(SMOLLM2, 300, 30));
    expect(peak(SMOLLM2, 300, 60)).toBeGreaterThan(peak(SMOLLM2, 300, 30));
    expect(peak({ ...SMOLLM2, mlpWidth: 14_336, residualWidth: 4096 }, 300, 30)).toBeGreaterThan(
      10 * peak(SMOLLM2, 300, 30),
    );
  });

  it('includes 20 F^2 bytes per block for a prior and its key moment', () => {
    expect(memoryNeed(SMOLLM2, parametersFor(SMOLLM2)).parts.priorOfBlockBytes).toBe(
      20 * 1536 ** 2,
    );
  });
});
