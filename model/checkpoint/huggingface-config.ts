/** A model's shape and layout from a config.json of the Hugging Face layout. */
import { z } from 'zod';
import { excerpt, faultsFound, firstFaults } from '../../schemas/encoding/excerpt.ts';
import { UnsupportedCheckpoint } from '../format/faults.ts';
import { gpt2Layout, gptjLayout, llamaLayout, type Layout } from './layouts.ts';
import type { ModelConfig, RotaryConfig } from './model-config.ts';

const count = z.number().int().positive();
const positive = z.number().positive();
const members = z.record(z.string(), z.unknown());
const llamaConfig = z.object({
  num_hidden_layers: count,
  hidden_size: count,
  intermediate_size: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  vocab_size: count,
  max_position_embeddings: count,
  rms_norm_eps: positive,
  rope_theta: positive.nullish(),
  rope_scaling: members.nullish(),
  rope_parameters: members.nullish(),
  hidden_act: z.literal('silu'),
  tie_word_embeddings: z.boolean().nullish(),
  sliding_window: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
});
const gptConfig = z.object({
  n_layer: count,
  n_embd: count,
  n_head: count,
  n_inner: count.nullish(),
  vocab_size: count,
  n_positions: count,
  layer_norm_epsilon: positive,
  activation_function: z.enum(['gelu_new', 'gelu_pytorch_tanh']),
  tie_word_embeddings: z.boolean().nullish(),
});
const gpt2Config = gptConfig.extend({
  scale_attn_weights: z.literal(true).nullish(),
  scale_attn_by_inverse_layer_idx: z.literal(false).nullish(),
  add_cross_attention: z.literal(false).nullish(),
});
const gptjConfig = gptConfig.extend({ rotary_dim: count.nullish() });
const llama3Scaling = z.object({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
  original_max_position_embeddings: count,
});

/**
 * Reads the content of the file at `path`. `prefix` begins the names of GPT's tensors. Throws
 * UnsupportedCheckpoint.
 */
export function readConfig(
  path: string,
  raw: Record<string, unknown>,
  prefix: string,
): { config: ModelConfig; layout: Layout } {
  const family = raw['model_type'];
  switch (family) {
    case 'llama':
    case 'qwen2':
    case 'mistral':
      return { config: llamaFamily(path, family, raw), layout: llamaLayout };
    case 'gpt2': {
      const config = gptFamily('gpt2', checked(path, gpt2Config, raw), null);
      return { config, layout: gpt2Layout(prefix) };
    }
    case 'gptj': {
      const read = checked(path, gptjConfig, raw);
      const width = read.rotary_dim ?? read.n_embd / read.n_head;
      const rotary = { theta: 10000, width, interleaved: true, scaling: null };
      return { config: gptFamily('gptj', read, rotary), layout: gptjLayout(prefix) };
    }
    default:
      throw new UnsupportedCheckpoint(
        path,
        `model_type ${excerpt(family)}`,
        'llama, qwen2, mistral, gpt2 and gptj are read',
      );
  }
}

function checked<T>(path: string, schema: z.ZodType<T>, raw: unknown): T {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  throw new UnsupportedCheckpoint(
    path,
    firstFaults(faultsFound(result.error)),
    'The configuration is damaged or needs what is not supported',
  );
}

function llamaFamily(path: string, family: string, raw: unknown): ModelConfig {
  const read = checked(path, llamaConfig, raw);
  const slides =
    family === 'qwen2'
      ? (read.use_sliding_window ?? false)
      : typeof read.sliding_window === 'number';
  if (slides && (read.sliding_window ?? 0) < read.max_position_embeddings)
    throw new UnsupportedCheckpoint(
      path,
      `attention through a sliding window of ${read.sliding_window ?? 0}`,
      'Only attention to the whole context is computed',
    );
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

/** Later versions of transformers combine theta and scaling in `rope_parameters`. */
function llamaRotary(path: string, width: number, read: z.infer<typeof llamaConfig>): RotaryConfig {
  const parameters: Record<string, unknown> = { ...read.rope_scaling, ...read.rope_parameters };
  const theta = positive.safeParse(parameters['rope_theta'] ?? read.rope_theta ?? 10000);
  const kind = parameters['rope_type'] ?? parameters['type'] ?? 'default';
  if (!theta.success || (kind !== 'default' && kind !== 'llama3'))
    throw new UnsupportedCheckpoint(
      path,
      `rotary embedding of kind ${excerpt(kind)}`,
      'No scaling and "llama3" are read',
    );
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
  read: z.infer<typeof gptConfig>,
  rotary: RotaryConfig | null,
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
    tiedEmbeddings: read.tie_word_embeddings ?? architecture === 'gpt2',
  };
}
