import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../model/checkpoint/checkpoint.ts';
import { parametersFor } from '../../../model/engine/parameters.ts';
import { parameterSetFor, parameterSets, shapeOf } from '../../../model/engine/parameter-sets.ts';
import {
  BadParameterSet,
  hyperParameterOverrides,
  readParameterSet,
} from '../../../schemas/hyper-parameters.ts';

const LLAMA: ModelConfig = {
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
const LLAMA_3_8B: ModelConfig = {
  ...LLAMA,
  layers: 32,
  residualWidth: 4096,
  mlpWidth: 14_336,
  vocabulary: 128_256,
  tiedEmbeddings: false,
};

it('hyper-parameters of SmolLM2-135M are the measured ones', () => {
  const parameters = parametersFor(LLAMA);
  expect(parameters).toMatchObject({
    layers: [4, 5, 6, 7, 8],
    lambda: 192,
    learningRate: 3,
    gate: { kind: 'subject', map: 'subject', floor: 0.5 },
  });
  // Every parameter is set and valid.
  expect(hyperParameterOverrides.required().safeParse(parameters).success).toBe(true);
});

it('parameters without a set edit 13 to 28 % of the depth, with lambda = F', () => {
  const unknown: ModelConfig = { ...LLAMA, layers: 40, mlpWidth: 1000 };
  expect(parameterSetFor(unknown)).toBeNull();
  expect(parametersFor(unknown)).toMatchObject({ layers: [5, 6, 7, 8, 9, 10, 11], lambda: 1000 });
  expect(parametersFor({ ...LLAMA, layers: 4 }).layers).toEqual([1]);
  expect(parametersFor({ ...LLAMA, layers: 1 }).layers).toEqual([0]);
});

it.each([
  ['Llama 3 8B', LLAMA_3_8B, [4, 5, 6, 7, 8]],
  [
    'Qwen2.5 7B',
    { ...LLAMA, layers: 28, residualWidth: 3584, mlpWidth: 18_944, vocabulary: 152_064 },
    [4, 5, 6, 7, 8],
  ],
  [
    'Qwen2.5 1.5B',
    { ...LLAMA, layers: 28, residualWidth: 1536, mlpWidth: 8960, vocabulary: 151_936 },
    [4, 5, 6, 7, 8],
  ],
  [
    'Qwen2.5 0.5B',
    { ...LLAMA, layers: 24, residualWidth: 896, mlpWidth: 4864, vocabulary: 151_936 },
    [3, 4, 5, 6, 7],
  ],
  [
    'GPT-2 XL',
    {
      ...LLAMA,
      architecture: 'gpt2',
      layers: 48,
      residualWidth: 1600,
      mlpWidth: 6400,
      vocabulary: 50_257,
    },
    [13, 14, 15, 16, 17],
  ],
  [
    'GPT-J 6B',
    {
      ...LLAMA,
      architecture: 'gptj',
      layers: 28,
      residualWidth: 4096,
      mlpWidth: 16_384,
      vocabulary: 50_400,
    },
    [3, 4, 5, 6, 7, 8],
  ],
] as [string, ModelConfig, number[]][])(
  'hyper-parameters of %s are found by its shape',
  (name, config, layers) => {
    expect(parameterSetFor(config)?.name).toBe(name);
    const { lambda, layers: edited } = parametersFor(config);
    expect(edited).toEqual(layers);
    // The written change scales with F / lambda.
    expect(lambda / config.mlpWidth).toBeGreaterThan(0.9);
    expect(lambda / config.mlpWidth).toBeLessThan(1.1);
  },
);

it('hyper-parameters tell families of one shape apart by their vocabulary', () => {
  expect(parameterSetFor({ ...LLAMA_3_8B, vocabulary: 32_000 })).toBeNull();
});

it('hyper-parameter files name a source and do not overlap', () => {
  expect(parameterSets().length).toBeGreaterThanOrEqual(7);
  const shapes = parameterSets().map(({ fits }) => JSON.stringify(fits));
  expect(new Set(shapes).size).toBe(shapes.length);
});

it('parameters take overrides over the set, and the floor for their kind of gate', () => {
  const { gate, lambda } = parametersFor(LLAMA_3_8B, { lambda: 5, gate: { kind: 'sequence' } });
  expect(lambda).toBe(5);
  expect(gate).toEqual({ kind: 'sequence', map: 'joint', floor: 2.2 });
});

it('parameters allow maps by subject only behind the subject gate', () => {
  expect(parametersFor(LLAMA).gate).toMatchObject({ kind: 'subject', map: 'subject' });
  expect(parametersFor(LLAMA, { gate: { map: 'joint' } }).gate).toMatchObject({
    kind: 'subject',
    map: 'joint',
  });
  for (const kind of ['sequence', 'always'] as const) {
    expect(parametersFor(LLAMA, { gate: { kind } }).gate.map).toBe('joint');
    expect(() => parametersFor(LLAMA, { gate: { kind, map: 'subject' } })).toThrow(RangeError);
    expect(() => parametersFor(LLAMA, { gate: { kind, map: 'subject' } })).toThrow(
      new RegExp(`the ${kind} gate`),
    );
  }
});

it('hyper-parameters of one model are refused for another, with the difference', () => {
  const overrides = { lambda: 5, fits: shapeOf(LLAMA) };
  expect(parametersFor(LLAMA, overrides)).not.toHaveProperty('fits');
  expect(() => parametersFor(LLAMA_3_8B, overrides)).toThrow(
    /layers 32 instead of 30.*mlpWidth 14336 instead of 1536/,
  );
});

it('hyper-parameters name blocks of the model', () => {
  expect(() => parametersFor(LLAMA, { layers: [29, 30] })).toThrow(RangeError);
  expect(() => parametersFor(LLAMA, { layers: [5, 4] })).toThrow(RangeError);
});

describe('a file with a parameter set', () => {
  it('is refused with every fault named', () => {
    const faulty = JSON.stringify({
      name: 'x',
      source: 'y',
      fits: { layers: -1 },
      parameters: { lamda: 3 },
    });
    expect(() => readParameterSet('x.json', faulty)).toThrow(BadParameterSet);
    expect(() => readParameterSet('x.json', faulty)).toThrow(/fits\.layers.*lamda/);
    expect(() => readParameterSet('x.json', '{')).toThrow(/x\.json is not a parameter set/);
  });
});
