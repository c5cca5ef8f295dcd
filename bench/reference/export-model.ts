/**
 * Writes a checkpoint as a folder that Python's transformers can read. Both programs then use the
 * same numbers, whatever the checkpoint's format (such as a quantised GGUF file).
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canonicalTensors } from '../../model/checkpoint/canonical.ts';
import type { Checkpoint } from '../../model/checkpoint/checkpoint.ts';
import { llamaLayout } from '../../model/checkpoint/layouts.ts';
import { encodeSafetensors, type StoredTensor } from '../../schemas/encoding/safetensors.ts';

/** The checkpoint has a structure that cannot be exported. */
export class NotExportable extends Error {
  override readonly name = 'NotExportable';
  constructor(reason: string) {
    super(`${reason}. Name a folder in the Hugging Face layout, which needs no conversion`);
  }
}

/**
 * Writes config.json and sharded safetensors to `folder`. Throws NotExportable for structures other
 * than Llama's and Qwen2's.
 */
export async function exportModel(
  checkpoint: Checkpoint,
  folder: string,
  written: (share: number) => void,
): Promise<void> {
  const config = transformersConfig(checkpoint);
  await mkdir(folder, { recursive: true });
  // Tensors outside the blocks first, then block by block.
  const shards = new Map<string, string[]>();
  for (const { name } of canonicalTensors(checkpoint.config)) {
    const block = /^blocks\.\d+/.exec(name)?.[0] ?? '';
    if (checkpoint.has(name)) shards.set(block, [...(shards.get(block) ?? []), name]);
  }
  const weightMap: Record<string, string> = {};
  for (const [i, names] of [...shards.values()].entries()) {
    const number = (value: number) => String(value).padStart(5, '0');
    const file = `model-${number(i + 1)}-of-${number(shards.size)}.safetensors`;
    const tensors = new Map<string, StoredTensor>();
    for (const name of names) {
      const { source } = llamaLayout(name);
      tensors.set(source, { type: 'F32', ...(await checkpoint.read(name)) });
      weightMap[source] = file;
    }
    await writeFile(path.join(folder, file), encodeSafetensors(tensors, { format: 'pt' }));
    written((i + 1) / shards.size);
  }
  await writeFile(
    path.join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
}

function transformersConfig(checkpoint: Checkpoint): Record<string, unknown> {
  const { config } = checkpoint;
  const { architecture, rotary } = config;
  if (architecture !== 'llama' || rotary === null || rotary.width !== config.headWidth)
    throw new NotExportable(`A ${architecture} checkpoint of this form cannot be written`);
  const biases = ['query', 'key', 'value', 'output', 'gate', 'up', 'down']
    .filter((part) => checkpoint.has(`blocks.0.${part}.bias`))
    .join();
  const family = FAMILIES[biases];
  if (family === undefined)
    throw new NotExportable(`A Llama with biases at ${biases} cannot be written`);
  const { scaling } = rotary;
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
    rope_scaling: scaling && {
      rope_type: scaling.kind,
      factor: scaling.factor,
      low_freq_factor: scaling.lowFrequency,
      high_freq_factor: scaling.highFrequency,
      original_max_position_embeddings: scaling.originalContext,
    },
    hidden_act: config.activation,
    tie_word_embeddings: config.tiedEmbeddings,
    torch_dtype: 'float32',
  };
}

/** Model families, keyed by the parts that have biases. */
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
