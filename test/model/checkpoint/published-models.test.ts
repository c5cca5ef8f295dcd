import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import {
  openCheckpoint,
  readModelShape,
  UnreadableCheckpoint,
  type ModelConfig,
} from '../../../model/checkpoint/checkpoint.ts';
import { parameterCount } from '../../../model/engine/memory-need.ts';
import { parameterSetFor } from '../../../model/engine/parameter-sets.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../../schemas/encoding/safetensors.ts';
import { goldenPath } from '../../golden/read-golden.ts';
import { testFolder } from '../../harness/clean-up.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

/** The published config.json, without the fields that do not affect the forward pass. */
const llama3 = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  bos_token_id: 128_000,
  eos_token_id: 128_001,
  hidden_act: 'silu',
  hidden_size: 4096,
  intermediate_size: 14_336,
  max_position_embeddings: 8192,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 500_000,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  vocab_size: 128_256,
};
const ropeOf31 = {
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
  rope_type: 'llama3',
};
const scaling31 = {
  kind: 'llama3' as const,
  factor: 8,
  lowFrequency: 1,
  highFrequency: 4,
  originalContext: 8192,
};
const qwen = {
  architectures: ['Qwen2ForCausalLM'],
  attention_dropout: 0,
  bos_token_id: 151_643,
  eos_token_id: 151_643,
  hidden_act: 'silu',
  hidden_size: 3584,
  intermediate_size: 18_944,
  max_position_embeddings: 131_072,
  max_window_layers: 28,
  model_type: 'qwen2',
  num_attention_heads: 28,
  num_hidden_layers: 28,
  num_key_value_heads: 4,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  sliding_window: 131_072,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  use_mrope: false,
  use_sliding_window: false,
  vocab_size: 152_064,
};
const gpt2Xl = {
  activation_function: 'gelu_new',
  architectures: ['GPT2LMHeadModel'],
  attn_pdrop: 0.1,
  bos_token_id: 50_256,
  eos_token_id: 50_256,
  layer_norm_epsilon: 1e-5,
  model_type: 'gpt2',
  n_ctx: 1024,
  n_embd: 1600,
  n_head: 25,
  n_layer: 48,
  n_positions: 1024,
  output_past: true,
  summary_type: 'cls_index',
  vocab_size: 50_257,
};
const gptJ = {
  activation_function: 'gelu_new',
  architectures: ['GPTJForCausalLM'],
  attn_pdrop: 0,
  bos_token_id: 50_256,
  eos_token_id: 50_256,
  gradient_checkpointing: false,
  layer_norm_epsilon: 1e-5,
  model_type: 'gptj',
  n_embd: 4096,
  n_head: 16,
  n_inner: null,
  n_layer: 28,
  n_positions: 2048,
  rotary: true,
  rotary_dim: 64,
  scale_attn_weights: true,
  tie_word_embeddings: false,
  vocab_size: 50_400,
};

const PUBLISHED: [
  name: string,
  config: Record<string, unknown>,
  shape: Partial<ModelConfig>,
  counted: { parameters: number; set: string | null },
][] = [
  [
    'Llama 3 8B',
    llama3,
    {
      architecture: 'llama',
      keyValueHeads: 8,
      headWidth: 128,
      tiedEmbeddings: false,
      contextMax: 8192,
      rotary: { theta: 500_000, width: 128, scaling: null },
    },
    { parameters: 8_030_261_248, set: 'Llama 3 8B' },
  ],
  [
    'Llama 3.1 8B',
    { ...llama3, max_position_embeddings: 131_072, mlp_bias: false, rope_scaling: ropeOf31 },
    { rotary: { theta: 500_000, width: 128, scaling: scaling31 } },
    { parameters: 8_030_261_248, set: 'Llama 3 8B' },
  ],
  [
    'Llama 3.2 1B',
    {
      ...llama3,
      head_dim: 64,
      hidden_size: 2048,
      intermediate_size: 8192,
      num_hidden_layers: 16,
      tie_word_embeddings: true,
      max_position_embeddings: 131_072,
      rope_scaling: { ...ropeOf31, factor: 32 },
    },
    { tiedEmbeddings: true, headWidth: 64 },
    { parameters: 1_235_814_400, set: null },
  ],
  [
    'Qwen2.5 7B',
    qwen,
    {
      architecture: 'llama',
      keyValueHeads: 4,
      headWidth: 128,
      tiedEmbeddings: false,
      rotary: { theta: 1_000_000, width: 128, scaling: null },
    },
    { parameters: 7_615_616_512, set: 'Qwen2.5 7B' },
  ],
  [
    'Qwen2.5 1.5B',
    {
      ...qwen,
      hidden_size: 1536,
      intermediate_size: 8960,
      num_attention_heads: 12,
      num_key_value_heads: 2,
      tie_word_embeddings: true,
      vocab_size: 151_936,
    },
    { tiedEmbeddings: true },
    { parameters: 1_543_714_304, set: 'Qwen2.5 1.5B' },
  ],
  [
    'Qwen2.5 0.5B',
    {
      ...qwen,
      hidden_size: 896,
      intermediate_size: 4864,
      max_position_embeddings: 32_768,
      max_window_layers: 24,
      num_attention_heads: 14,
      num_hidden_layers: 24,
      num_key_value_heads: 2,
      sliding_window: 32_768,
      tie_word_embeddings: true,
      vocab_size: 151_936,
    },
    { heads: 14, keyValueHeads: 2, headWidth: 64 },
    { parameters: 494_032_768, set: 'Qwen2.5 0.5B' },
  ],
  [
    'GPT-2 XL',
    gpt2Xl,
    {
      architecture: 'gpt2',
      mlpWidth: 6400,
      headWidth: 64,
      tiedEmbeddings: true,
      rotary: null,
      contextMax: 1024,
    },
    { parameters: 1_557_611_200, set: 'GPT-2 XL' },
  ],
  [
    'GPT-J 6B',
    gptJ,
    {
      architecture: 'gptj',
      mlpWidth: 16_384,
      headWidth: 256,
      tiedEmbeddings: false,
      rotary: { theta: 10_000, width: 64, interleaved: true, scaling: null },
    },
    { parameters: 6_050_882_784, set: 'GPT-J 6B' },
  ],
];

test.each(PUBLISHED)(
  'the shape of %s is read from its config.json alone',
  async (name, config, shape, { parameters, set }) => {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    const read = await readModelShape(folder);
    expect(read.config).toMatchObject(shape);
    // The count leaves out the biases of Qwen's attention.
    const tolerance = name.startsWith('Qwen') ? 1e-3 : 1e-12;
    expect(Math.abs(parameterCount(read.config) / parameters - 1)).toBeLessThan(tolerance);
    expect(parameterSetFor(read.config)?.name ?? null).toBe(set);
  },
);

test('a shape is the same with and without the weights', async () => {
  const folders = ['llama', 'llama3', 'qwen2', 'gpt2', 'gptj'];
  for (const name of [...folders, 'llama.gguf', 'qwen2.gguf', 'gpt2.gguf']) {
    const path = goldenPath('tiny', name);
    const opened = await openCheckpoint(path);
    expect((await readModelShape(path)).config, name).toEqual(opened.config);
    await opened.close();
  }
});

test('a path without a model has no shape', async () => {
  await expect(readModelShape(join(folder, 'absent'))).rejects.toThrow(UnreadableCheckpoint);
  await expect(readModelShape(folder)).rejects.toThrow(/neither config\.json nor a \.gguf file/);
});

/** A tiny model with other names and additional tensors in its file. */
function republished(name: string, prefix: string, masked: string): string {
  const copy = join(folder, name);
  cpSync(goldenPath('tiny', name), copy, { recursive: true });
  const file = join(copy, 'model.safetensors');
  const { tensors, metadata } = decodeSafetensors(readFileSync(file));
  const renamed = [...tensors].map(
    ([tensor, stored]) => [tensor.replace(/^transformer\./, prefix), stored] as const,
  );
  const all = new Map([...renamed, [masked, MASK]]);
  writeFileSync(file, encodeSafetensors(all, metadata));
  return copy;
}
const MASK: StoredTensor = { type: 'U8', shape: [1, 1, 2, 2], values: Uint8Array.of(1, 0, 1, 1) };
const SOME = ['embedding', 'blocks.0.query.weight', 'blocks.3.down.weight', 'finalNorm.gain'];

test.each([
  ['GPT-2 without a prefix and with causal masks', 'gpt2', '', 'h.0.attn.bias'],
  ['GPT-J with causal masks', 'gptj', 'transformer.', 'transformer.h.0.attn.bias'],
])('%s has the same numbers', async (_, name, prefix, masked) => {
  const plain = await openCheckpoint(goldenPath('tiny', name));
  const published = await openCheckpoint(republished(name, prefix, masked));
  expect(published.config).toEqual(plain.config);
  for (const tensor of SOME)
    expect(await published.read(tensor), tensor).toEqual(await plain.read(tensor));
  await Promise.all([plain.close(), published.close()]);
});
