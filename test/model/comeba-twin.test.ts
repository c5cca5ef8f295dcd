import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/home.ts';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint.ts';
import type { PairSet } from '../../model/engine.ts';
import { widen64 } from '../../model/float64.ts';
import { changeOf, Hook } from '../../model/hook.ts';
import { keysOf, type KeyStatistics } from '../../model/key-statistics.ts';
import { parametersFor } from '../../model/parameters.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/prior.ts';
import type { EditSequence } from '../../model/sequences.ts';
import { findTargets } from '../../model/targets.ts';
import { loadTensorFlow } from '../../model/tensorflow.ts';
import { Transformer } from '../../model/transformer.ts';
import { derivePairs } from '../../model/update.ts';
import type { HyperParameters } from '../../schemas/editing.ts';
import { goldenPath, largestDifference, readGoldenJson, readGoldenTensors } from '../golden/read-golden.ts';

interface Located {
  tokens: number[];
  subjectLast: number;
}

interface TwinInput {
  parameters: {
    layers: number[];
    lambda: number;
    updatesMax: number;
    learningRate: number;
    klFactor: number;
    weightDecay: number;
    clamp: number;
    lossTarget: number;
  };
  front: number[];
  contexts: number[][];
  batches: { subject: string; prompt: string; targetTokens: number[]; bare: Located; behind: Located }[][];
}

/** Twenty Adam steps in float32 against float64, on z of the size of 1 to 10. */
const TARGET_TOLERANCE = 2e-3;
/** Keys and changes of the size of 1 to 10, behind float32 blocks. */
const PAIR_TOLERANCE = 2e-3;
/** The change as a share of its largest entry; float32 again, after a float64 solve. */
const CHANGE_TOLERANCE = 1e-3;

const input = readGoldenJson<TwinInput>('comeba', 'input.json');
const { front, contexts } = input;
const batches = input.batches.map((batch): EditSequence[] =>
  batch.map(({ subject, prompt, bare, behind, targetTokens }) => ({
    id: prompt,
    subject,
    bare,
    behind,
    target: targetTokens,
  })),
);

beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});

describe.each(['llama', 'gpt2', 'gptj'])('editing a tiny %s as the PyTorch twin does', (name) => {
  const twin = readGoldenTensors('comeba', `${name}-subjects.safetensors`);
  const numbers = (key: string) => twin.get(key)!.values as Float32Array;
  let checkpoint: Checkpoint;
  let model: Transformer;
  let parameters: HyperParameters;
  let priors: Map<number, Prior>;

  beforeAll(async () => {
    checkpoint = await openCheckpoint(goldenPath('tiny', name));
    model = await Transformer.load(checkpoint);
    const { updatesMax, ...given } = input.parameters;
    const many = contexts.length;
    parameters = parametersFor(model.config, {
      ...given,
      stepsMax: updatesMax,
      contexts: many,
      contextsPerStep: many,
    });
    const F = model.config.mlpWidth;
    const moments = new Map(
      parameters.layers.map((layer) => {
        const moment = tf.tensor2d(numbers(`moment0.${layer}`), [F, F]);
        const wide = widen64(moment);
        moment.dispose();
        return [layer, wide];
      }),
    );
    const text = [checkpoint.tokenizer.encode('the town on the river is old')];
    priors = buildPriors(
      model,
      {
        moments,
        referenceKeys: keysOf(model, text, parameters.layers),
        canaryKeys: keysOf(model, text, parameters.layers),
      } as unknown as KeyStatistics,
      parameters,
    );
  });
  afterAll(async () => {
    disposePriors(priors);
    model.dispose();
    await checkpoint.close();
  });

  it('finds the same targets for a first batch, all at once', async () => {
    const { tokenizer } = checkpoint;
    const found = await findTargets(batches[0]!, {
      model,
      tokenizer,
      hook: null,
      parameters,
      front,
      contexts,
    });
    expect(found.steps).toEqual([...numbers('batch.0.updates')]);
    expect(largestDifference(found.values, numbers('batch.0.z'))).toBeLessThan(TARGET_TOLERANCE);
  });

  it('writes the same hooks over three consecutive batches', async () => {
    const { residualWidth: D, mlpWidth: F } = model.config;
    const gate = { ...parameters.gate, kind: 'always' as const };
    const sums = new Map(parameters.layers.map((layer) => [layer, new Float32Array(D * F)]));
    let pairs: PairSet | null = null;
    let hook: Hook | null = null;
    for (const [b, batch] of batches.entries()) {
      const targets = numbers(`batch.${b}.z`);
      const derived = await derivePairs(batch, targets, { model, priors, hook, pairs, front, contexts, keyViews: 'averaged', gate: 'leverage' });
      hook?.dispose();
      pairs = pairs === null ? derived.pairs : joinPairs(pairs, derived.pairs);
      hook = Hook.build(pairs, priors, gate);
      for (const [i, layer] of parameters.layers.entries()) {
        const at = `batch ${b}, block ${layer}`;
        const keys = numbers(`batch.${b}.layer.${layer}.keys`);
        expect(largestDifference(derived.pairs.keys[i]!, keys), at).toBeLessThan(PAIR_TOLERANCE);
        const sum = sums.get(layer)!;
        const wanted = wantedChanges(sum, keys, numbers(`batch.${b}.layer.${layer}.residual`), D, F);
        expect(largestDifference(derived.pairs.changes[i]!, wanted), at).toBeLessThan(PAIR_TOLERANCE);
        numbers(`batch.${b}.layer.${layer}.delta`).forEach((step, j) => (sum[j]! += step));
        const block = hook.blocks.get(layer)!;
        const change = tf.tidy(() => tf.transpose(changeOf(block, tf.eye(F))).dataSync());
        const largest = sum.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        expect(largestDifference(change, sum) / largest, at).toBeLessThan(CHANGE_TOLERANCE);
      }
    }
    hook?.dispose();
  });
});

/** u = (W_h - W0) k + r for each row; the change is [D, F]. */
function wantedChanges(
  change: Float32Array,
  keys: Float32Array,
  residual: Float32Array,
  D: number,
  F: number,
): Float64Array {
  return Float64Array.from(residual, (r, at) => {
    const [row, d] = [Math.floor(at / D), at % D];
    let sum = r;
    for (let f = 0; f < F; f++) sum += change[d * F + f]! * keys[row * F + f]!;
    return sum;
  });
}

function joinPairs(a: PairSet, b: PairSet): PairSet {
  const join = (left: Float32Array[], right: Float32Array[]) =>
    left.map((rows, i) => Float32Array.of(...rows, ...right[i]!));
  return { ...a, count: a.count + b.count, keys: join(a.keys, b.keys), changes: join(a.changes, b.changes) };
}
