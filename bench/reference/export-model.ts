/**
 * Writes a checkpoint as a folder that Python's transformers reads, so that two programs run the
 * same numbers whatever the checkpoint's form (a quantised GGUF file, say).
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Checkpoint, ModelConfig } from '../../model/checkpoint/checkpoint.ts';
import { encodeSafetensors, type StoredTensor } from '../../schemas/encoding/safetensors.ts';

/** The checkpoint has a structure that cannot be written; `hint` is the remedy. */
export class NotExportable extends Error {
  override readonly name = 'NotExportable';
  constructor(
    reason: string,
    readonly hint: string,
  ) {
    super(`${reason}. ${hint}`);
  }
}

/**
 * Fills `folder` with config.json and sharded safetensors. Throws NotExportable for structures
 * other than Llama's and Qwen2's.
 */
export async function exportModel(
  checkpoint: Checkpoint,
  folder: string,
  written: (share: number) => void,
): Promise<void> {
  const config = transformersConfig(checkpoint);
  await mkdir(folder, { recursive: true });
  const shards = shardsOf(checkpoint);
  const weightMap: Record<string, string> = {};
  for (const [i, names] of shards.entries()) {
    const number = (value: number) => String(value).padStart(5, '0');
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    const tensors = new Map<string, StoredTensor>();
    for (const name of names) {
      const theirs = transformersName(name);
      tensors.set(theirs, { type: 'F32', ...(await checkpoint.read(name)) });
      weightMap[theirs] = file;
    }
    await writeFile(path.join(folder, file), encodeSafetensors(tensors, { format: 'pt' }));
    written((i + 1) / shards.length);
  }
  await writeFile(
    path.join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
}

const FOLDER_HINT =
  'Name the model by its folder in the Hugging Face layout, which needs no conversion';

function transformersConfig(checkpoint: Checkpoint): Record<string, unknown> {
  const { config } = checkpoint;
  const { architecture, rotary } = config;
  if (architecture !== 'llama' || rotary === null || rotary.width !== config.headWidth)
    throw new NotExportable(
      `A ${architecture} checkpoint of this form cannot be written`,
      FOLDER_HINT,
    );
  const biases = ['query', 'key', 'value', 'output', 'gate', 'up', 'down']
    .filter((part) => checkpoint.has(`blocks.0.${part}.bias`))
    .join();
  const family = FAMILIES[biases];
  if (family === undefined)
    throw new NotExportable(`A Llama with biases at ${biases} cannot be written`, FOLDER_HINT);
  return {
    ...family,
    hidden_size: config.residualWidth,
    intermediate_size: config.mlpWidth,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headWidth,
    vocab_size: config.vocabulary,
    max_position_embeddings: config.contextMax,
    rms_norm_eps: config.normEpsilon,
    rope_theta: rotary.theta,
    rope_scaling: scalingOf(rotary),
    hidden_act: config.activation,
    tie_word_embeddings: config.tiedEmbeddings,
    torch_dtype: 'float32',
  };
}

/** Model families by the parts that have biases. */
const FAMILIES: Record<string, Record<string, unknown> | undefined> = {
  '': {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    attention_bias: false,
    mlp_bias: false,
  },
  'query,key,value': {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    use_sliding_window: false,
  },
};

function scalingOf({
  scaling,
}: NonNullable<ModelConfig['rotary']>): Record<string, unknown> | null {
  if (scaling === null) return null;
  return {
    rope_type: scaling.kind,
    factor: scaling.factor,
    low_freq_factor: scaling.lowFrequency,
    high_freq_factor: scaling.highFrequency,
    original_max_position_embeddings: scaling.originalContext,
  };
}

/** Canonical names by file: those outside the blocks, then block by block. */
function shardsOf(checkpoint: Checkpoint): string[][] {
  const outside = [
    'embedding',
    'finalNorm.gain',
    ...(checkpoint.config.tiedEmbeddings ? [] : ['head.weight']),
  ];
  const blocks = Array.from({ length: checkpoint.config.layers }, (_, layer) =>
    [...BLOCK_PARTS.keys()]
      .flatMap((part) =>
        ['weight', 'gain', 'bias'].map((kind) => `blocks.${layer}.${part}.${kind}`),
      )
      .filter((name) => checkpoint.has(name)),
  );
  return [outside, ...blocks];
}

const BLOCK_PARTS = new Map([
  ['norm1', 'input_layernorm'],
  ['norm2', 'post_attention_layernorm'],
  ['query', 'self_attn.q_proj'],
  ['key', 'self_attn.k_proj'],
  ['value', 'self_attn.v_proj'],
  ['output', 'self_attn.o_proj'],
  ['gate', 'mlp.gate_proj'],
  ['up', 'mlp.up_proj'],
  ['down', 'mlp.down_proj'],
]);

function transformersName(canonical: string): string {
  const outside: Record<string, string> = {
    embedding: 'model.embed_tokens.weight',
    'finalNorm.gain': 'model.norm.weight',
    'head.weight': 'lm_head.weight',
  };
  const [, layer = '', part = '', kind = ''] =
    /^blocks\.(\d+)\.(\w+)\.(weight|gain|bias)$/.exec(canonical) ?? [];
  return (
    outside[canonical] ??
    `model.layers.${layer}.${BLOCK_PARTS.get(part)!}.${kind === 'bias' ? 'bias' : 'weight'}`
  );
}
