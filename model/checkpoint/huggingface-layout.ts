/**
 * A model in a folder of the Hugging Face layout: config.json, tokenizer.json, *.safetensors, and
 * for the tokeniser's special tokens tokenizer_config.json and generation_config.json where they
 * are.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { describedTokenizer } from '../tokenizer/description.ts';
import { createTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { firstFaults, excerpt, EXCERPT_ITEMS_MAX } from '../../schemas/encoding/excerpt.ts';
import { splitName, type Layout, type Recipe } from './canonical.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import type { ModelConfig, RotaryConfig } from './model-config.ts';
import { readJsonObject } from './positioned-read.ts';
import { openSafetensors, weightFiles } from './safetensors-files.ts';
import type { TensorSource } from './tensor-source.ts';

/**
 * Of a tokenizer.json, the largest of the JSON files; those of a quarter of a million tokens have
 * some 30 MiB.
 */
export const JSON_BYTES_MAX = 256 * 2 ** 20;
/** Tokens and merges, three values each, are most of a tokenizer.json. */
export const JSON_VALUES_MAX = 8_000_000;
export const JSON_DEPTH_MAX = 64;

export interface HuggingFaceModel {
  source: TensorSource;
  config: ModelConfig;
  layout: Layout;
  tokenizer: Tokenizer;
  weightFiles: string[];
}

/** Opens the folder, whose files are `names`; the caller closes `source`. */
export async function openHuggingFaceFolder(
  folder: string,
  names: string[],
): Promise<HuggingFaceModel> {
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (!names.includes(needed))
      throw new UnreadableCheckpoint(
        `${folder} has no ${needed}`,
        { folder, missing: needed },
        'Fetch the whole model',
      );
  }
  const raw = await readJson(join(folder, 'config.json'));
  const tokenizer = await openTokenizer(folder, names, raw);
  const paths = await weightFiles(folder, names);
  const source = await openSafetensors(paths);
  try {
    const prefix = source.shape('transformer.wte.weight') ? 'transformer.' : '';
    const { config, layout } = readConfig(join(folder, 'config.json'), raw, prefix);
    return { source, config, layout, tokenizer, weightFiles: paths };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The shape that the folder's config.json describes; nothing else is read. */
export async function readHuggingFaceConfig(folder: string): Promise<ModelConfig> {
  const path = join(folder, 'config.json');
  return readConfig(path, await readJson(path), '').config;
}

function readJson(path: string): Promise<Record<string, unknown>> {
  return readJsonObject(path, JSON_BYTES_MAX, {
    valuesMax: JSON_VALUES_MAX,
    depthMax: JSON_DEPTH_MAX,
  });
}

const whole = z.number().int().positive();
const llamaConfig = z.object({
  num_hidden_layers: whole,
  hidden_size: whole,
  intermediate_size: whole,
  num_attention_heads: whole,
  num_key_value_heads: whole.nullish(),
  head_dim: whole.nullish(),
  vocab_size: whole,
  max_position_embeddings: whole,
  rms_norm_eps: z.number().positive(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  hidden_act: z.literal('silu'),
  tie_word_embeddings: z.boolean().nullish(),
  sliding_window: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
});
const gptFields = {
  n_layer: whole,
  n_embd: whole,
  n_head: whole,
  n_inner: whole.nullish(),
  vocab_size: whole,
  n_positions: whole,
  layer_norm_epsilon: z.number().positive(),
};
const gpt2Config = z.object({
  ...gptFields,
  activation_function: z.enum(['gelu_new', 'gelu_pytorch_tanh']),
  scale_attn_weights: z.literal(true).nullish(),
  scale_attn_by_inverse_layer_idx: z.literal(false).nullish(),
  add_cross_attention: z.literal(false).nullish(),
  tie_word_embeddings: z.boolean().nullish(),
});
const gptjConfig = z.object({
  ...gptFields,
  activation_function: z.enum(['gelu_new', 'gelu_pytorch_tanh']),
  rotary_dim: whole.nullish(),
  tie_word_embeddings: z.boolean().nullish(),
});

function readConfig(
  path: string,
  raw: Record<string, unknown>,
  prefix: string,
): { config: ModelConfig; layout: Layout } {
  const family = raw['model_type'];
  switch (family) {
    case 'llama':
    case 'qwen2':
    case 'mistral':
      return {
        config: llamaFamily(path, family, checked(path, llamaConfig, raw)),
        layout: llamaLayout,
      };
    case 'gpt2': {
      const read = checked(path, gpt2Config, raw);
      const config = gptFamily('gpt2', read, null, read.tie_word_embeddings ?? true);
      return { config, layout: gpt2Layout(prefix) };
    }
    case 'gptj': {
      const read = checked(path, gptjConfig, raw);
      const rotary = {
        theta: 10000,
        width: read.rotary_dim ?? read.n_embd / read.n_head,
        interleaved: true,
        scaling: null,
      };
      return {
        config: gptFamily('gptj', read, rotary, read.tie_word_embeddings ?? false),
        layout: gptjLayout(prefix),
      };
    }
    default:
      throw new UnsupportedCheckpoint(
        `${path}: model_type ${excerpt(family)}`,
        { path, modelType: excerpt(family) },
        'llama, qwen2, mistral, gpt2 and gptj are read',
      );
  }
}

function checked<T>(path: string, schema: z.ZodType<T>, raw: unknown): T {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new UnsupportedCheckpoint(
    `${path}: ${firstFaults(faults)}`,
    { path, faults: faults.slice(0, EXCERPT_ITEMS_MAX) },
    'The configuration asks for what is not read, or is damaged',
  );
}

function llamaFamily(path: string, family: string, read: z.infer<typeof llamaConfig>): ModelConfig {
  const slides =
    family === 'qwen2'
      ? (read.use_sliding_window ?? false)
      : typeof read.sliding_window === 'number';
  if (slides && (read.sliding_window ?? 0) < read.max_position_embeddings) {
    throw new UnsupportedCheckpoint(
      `${path}: attention through a sliding window`,
      { path, window: read.sliding_window ?? 0 },
      'Only attention to the whole context is computed',
    );
  }
  const headWidth = read.head_dim ?? read.hidden_size / read.num_attention_heads;
  return {
    architecture: 'llama',
    layers: read.num_hidden_layers,
    residualWidth: read.hidden_size,
    mlpWidth: read.intermediate_size,
    heads: read.num_attention_heads,
    keyValueHeads: read.num_key_value_heads ?? read.num_attention_heads,
    headWidth,
    vocabulary: read.vocab_size,
    contextMax: read.max_position_embeddings,
    normEpsilon: read.rms_norm_eps,
    rotary: llamaRotary(path, headWidth, read),
    activation: 'silu',
    tiedEmbeddings: read.tie_word_embeddings ?? false,
  };
}

const llama3Scaling = z.object({
  factor: z.number().positive(),
  low_freq_factor: z.number().positive(),
  high_freq_factor: z.number().positive(),
  original_max_position_embeddings: whole,
});

/**
 * `rope_theta` and `rope_scaling`, or both in one `rope_parameters` as later versions of
 * transformers write them.
 */
function llamaRotary(path: string, width: number, read: z.infer<typeof llamaConfig>): RotaryConfig {
  const parameters: Record<string, unknown> = { ...read.rope_scaling, ...read.rope_parameters };
  const theta = z
    .number()
    .positive()
    .safeParse(parameters['rope_theta'] ?? read.rope_theta ?? 10000);
  const kind = parameters['rope_type'] ?? parameters['type'] ?? 'default';
  if (!theta.success || (kind !== 'default' && kind !== 'llama3')) {
    throw new UnsupportedCheckpoint(
      `${path}: rotary embedding of kind ${excerpt(kind)}`,
      { path, kind: excerpt(kind) },
      'No scaling and "llama3" are read',
    );
  }
  if (kind === 'default') return { theta: theta.data, width, scaling: null };
  const scaling = checked(path, llama3Scaling, parameters);
  return {
    theta: theta.data,
    width,
    scaling: {
      kind: 'llama3',
      factor: scaling.factor,
      lowFrequency: scaling.low_freq_factor,
      highFrequency: scaling.high_freq_factor,
      originalContext: scaling.original_max_position_embeddings,
    },
  };
}

function gptFamily(
  architecture: 'gpt2' | 'gptj',
  read: z.infer<typeof gpt2Config> | z.infer<typeof gptjConfig>,
  rotary: RotaryConfig | null,
  tiedEmbeddings: boolean,
): ModelConfig {
  return {
    architecture,
    layers: read.n_layer,
    residualWidth: read.n_embd,
    mlpWidth: read.n_inner ?? 4 * read.n_embd,
    heads: read.n_head,
    keyValueHeads: read.n_head,
    headWidth: read.n_embd / read.n_head,
    vocabulary: read.vocab_size,
    contextMax: read.n_positions,
    normEpsilon: read.layer_norm_epsilon,
    rotary,
    activation: 'gelu-tanh',
    tiedEmbeddings,
  };
}

const llamaLayout = layoutOf(
  { embedding: 'model.embed_tokens', finalNorm: 'model.norm', head: 'lm_head' },
  'model.layers',
  {
    norm1: 'input_layernorm',
    norm2: 'post_attention_layernorm',
    query: 'self_attn.q_proj',
    key: 'self_attn.k_proj',
    value: 'self_attn.v_proj',
    output: 'self_attn.o_proj',
    gate: 'mlp.gate_proj',
    up: 'mlp.up_proj',
    down: 'mlp.down_proj',
  },
);

function gptjLayout(prefix: string): Layout {
  return layoutOf(
    { embedding: `${prefix}wte`, finalNorm: `${prefix}ln_f`, head: 'lm_head' },
    `${prefix}h`,
    {
      norm1: 'ln_1',
      query: 'attn.q_proj',
      key: 'attn.k_proj',
      value: 'attn.v_proj',
      output: 'attn.out_proj',
      up: 'mlp.fc_in',
      down: 'mlp.fc_out',
    },
  );
}

/** GPT-2's linear layers are Conv1D, [in, out], with query, key and value in one. */
function gpt2Layout(prefix: string): Layout {
  const plain = layoutOf(
    {
      embedding: `${prefix}wte`,
      position: `${prefix}wpe`,
      finalNorm: `${prefix}ln_f`,
      head: 'lm_head',
    },
    `${prefix}h`,
    {
      norm1: 'ln_1',
      norm2: 'ln_2',
      query: 'attn.c_attn',
      key: 'attn.c_attn',
      value: 'attn.c_attn',
      output: 'attn.c_proj',
      up: 'mlp.c_fc',
      down: 'mlp.c_proj',
    },
  );
  return {
    recipe(canonical) {
      const { layer, part, kind } = splitName(canonical);
      const recipe: Recipe = plain.recipe(canonical);
      const index = ['query', 'key', 'value'].indexOf(part);
      if (index >= 0) recipe.part = { index, parts: 3 };
      if (layer !== null && kind === 'weight') recipe.transposed = true;
      return recipe;
    },
  };
}

function layoutOf(
  outer: Record<string, string>,
  blocks: string,
  inner: Record<string, string>,
): Layout {
  return {
    recipe(canonical) {
      const { layer, part, kind } = splitName(canonical);
      const suffix = kind === 'bias' ? 'bias' : 'weight';
      return {
        source: `${layer === null ? outer[part] : `${blocks}.${layer}.${inner[part]}`}.${suffix}`,
      };
    },
  };
}

async function openTokenizer(
  folder: string,
  names: string[],
  config: Record<string, unknown>,
): Promise<Tokenizer> {
  const optional = async (name: string): Promise<Record<string, unknown>> =>
    names.includes(name) ? readJson(join(folder, name)) : {};
  const file = join(folder, 'tokenizer.json');
  const description = describedTokenizer(file, await readJson(file));
  const settings = await optional('tokenizer_config.json');
  const generation = await optional('generation_config.json');
  const idOf = (token: unknown): number | undefined => {
    const content =
      typeof token === 'string'
        ? token
        : (token as { content?: unknown } | null | undefined)?.content;
    if (typeof content !== 'string') return undefined;
    const { vocab } = description.model;
    return (
      description.added_tokens?.find((added) => added.content === content)?.id ??
      (Object.hasOwn(vocab, content) ? vocab[content] : undefined)
    );
  };
  const ids = (value: unknown): number[] =>
    [value].flat().filter((id): id is number => Number.isInteger(id) && (id as number) >= 0);
  const beginToken = idOf(settings['bos_token']) ?? ids(config['bos_token_id'])[0] ?? null;
  const namedEnd = idOf(settings['eos_token']);
  const endTokens = new Set([
    ...ids(generation['eos_token_id']),
    ...ids(config['eos_token_id']),
    ...(namedEnd === undefined ? [] : [namedEnd]),
  ]);
  return createTokenizer(
    { ...description, normalizer: description.normalizer ?? null },
    { beginToken, endTokens: [...endTokens] },
  );
}
