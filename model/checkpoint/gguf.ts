/** A model in one GGUF file: its tensors by ggml's names, its configuration and its layout. */
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { MissingTensor, UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import { readGgufHeader, type GgufHeader, type GgufValue } from './gguf-header.ts';
import { HEAD_WIDTH_MAX, type ModelConfig, type RotaryConfig } from './model-config.ts';
import { openFile } from './positioned-read.ts';
import { readStoredRows } from './stored-rows.ts';
import { splitName, type Layout, type Recipe } from './canonical.ts';
import type { TensorSource } from './tensor-source.ts';

export interface GgufModel {
  source: TensorSource;
  config: ModelConfig;
  layout: Layout;
  metadata: ReadonlyMap<string, GgufValue>;
}

/**
 * Opens the file and reads its header; the caller closes `source`. Throws UnreadableCheckpoint,
 * UnsupportedCheckpoint.
 */
export async function openGguf(path: string): Promise<GgufModel> {
  const file = await openFile(path);
  try {
    const { metadata, tensors } = await readGgufHeader(file, path);
    const source: TensorSource = {
      shape: (name) => tensors.get(name)?.shape,
      readRows(name, from, to) {
        const place = tensors.get(name);
        if (place === undefined)
          throw new MissingTensor(
            `${path} has no tensor "${name}"`,
            { path, tensor: name },
            'It is another model',
          );
        return readStoredRows(file, path, place, from, to);
      },
      close: () => file.close(),
    };
    const facts = new Metadata(path, metadata);
    const rotaryFactors = await readRotaryFactors(path, source);
    const config = ggufConfig(facts, tensors, rotaryFactors);
    return {
      source,
      config,
      layout: ggufLayout(facts.text('general.architecture'), config),
      metadata,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * One divisor for each frequency of Llama 3.1's rotary embedding; undefined where the file has
 * none.
 */
async function readRotaryFactors(
  path: string,
  source: TensorSource,
): Promise<Float32Array | undefined> {
  const shape = source.shape('rope_freqs.weight');
  if (shape === undefined) return undefined;
  const [count] = shape;
  if (shape.length !== 1 || count! > HEAD_WIDTH_MAX / 2)
    throw new UnreadableCheckpoint(
      `${path}: the rotary divisors are [${shape.join(', ')}]`,
      { path },
      `At most ${HEAD_WIDTH_MAX / 2} are read`,
    );
  return source.readRows('rope_freqs.weight', 0, count!);
}

/**
 * Metadata with types asked for by key; throws UnreadableCheckpoint where a key is missing or of
 * another type.
 */
class Metadata {
  constructor(
    readonly path: string,
    readonly values: ReadonlyMap<string, GgufValue>,
  ) {}

  text(key: string): string {
    const value = this.values.get(key);
    if (typeof value !== 'string') throw this.#unfit(key, 'a text', value);
    return value;
  }

  number(key: string, fallback?: number): number {
    const value = this.values.get(key) ?? fallback;
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isFinite(number) || number <= 0)
      throw this.#unfit(key, 'a positive number', value);
    return number;
  }

  whole(key: string, fallback?: number): number {
    const number = this.number(key, fallback);
    if (!Number.isSafeInteger(number)) throw this.#unfit(key, 'a whole number', number);
    return number;
  }

  #unfit(key: string, wanted: string, value: GgufValue | undefined): UnreadableCheckpoint {
    return new UnreadableCheckpoint(
      `${this.path}: metadata "${key}" should be ${wanted} and is ${value === undefined ? 'missing' : excerpt(value)}`,
      { path: this.path, key },
      'It is no language model of this architecture, or damaged',
    );
  }
}

function ggufConfig(
  facts: Metadata,
  tensors: GgufHeader['tensors'],
  rotaryFactors: Float32Array | undefined,
): ModelConfig {
  const family = facts.text('general.architecture');
  if (family !== 'llama' && family !== 'qwen2' && family !== 'gpt2') {
    throw new UnsupportedCheckpoint(
      `${facts.path}: architecture ${excerpt(family)}`,
      { path: facts.path, architecture: excerpt(family) },
      'From GGUF files llama, qwen2 and gpt2 are read; GPT-J from a folder in the Hugging Face layout',
    );
  }
  if (
    family === 'llama' &&
    facts.values.has('llama.expert_count') &&
    facts.number('llama.expert_count', 1) > 1
  ) {
    throw new UnsupportedCheckpoint(
      `${facts.path}: a mixture of experts`,
      { path: facts.path },
      'Only dense models are read',
    );
  }
  const residualWidth = facts.whole(`${family}.embedding_length`);
  const heads = facts.whole(`${family}.attention.head_count`);
  const headWidth = facts.whole(`${family}.attention.key_length`, residualWidth / heads);
  const epsilonKey = family === 'gpt2' ? 'layer_norm_epsilon' : 'layer_norm_rms_epsilon';
  return {
    architecture: family === 'gpt2' ? 'gpt2' : 'llama',
    layers: facts.whole(`${family}.block_count`),
    residualWidth,
    mlpWidth: facts.whole(`${family}.feed_forward_length`),
    heads,
    keyValueHeads: facts.whole(`${family}.attention.head_count_kv`, heads),
    headWidth,
    vocabulary: tensors.get('token_embd.weight')?.shape[0] ?? facts.whole(`${family}.vocab_size`),
    contextMax: facts.whole(`${family}.context_length`),
    normEpsilon: facts.number(`${family}.attention.${epsilonKey}`),
    rotary: family === 'gpt2' ? null : ggufRotary(facts, family, headWidth, rotaryFactors),
    activation: family === 'gpt2' ? 'gelu-tanh' : 'silu',
    tiedEmbeddings: !tensors.has('output.weight'),
  };
}

function ggufRotary(
  facts: Metadata,
  family: string,
  headWidth: number,
  factors: Float32Array | undefined,
): RotaryConfig {
  const scalingKind = facts.values.get(`${family}.rope.scaling.type`) ?? 'none';
  if (scalingKind !== 'none') {
    throw new UnsupportedCheckpoint(
      `${facts.path}: rotary scaling ${excerpt(scalingKind)}`,
      { path: facts.path, scaling: excerpt(scalingKind) },
      'No scaling and that of Llama 3.1 are read',
    );
  }
  const rotary = {
    theta: facts.number(`${family}.rope.freq_base`, 10000),
    width: facts.whole(`${family}.rope.dimension_count`, headWidth),
  };
  return {
    ...rotary,
    scaling: factors === undefined ? null : llama3Scaling(facts.path, rotary, factors),
  };
}

/**
 * A GGUF keeps of Llama 3.1's scaling only its result, one divisor per frequency. The published
 * models differ in `factor` alone, so that is read off and the whole is checked against the file.
 */
function llama3Scaling(
  path: string,
  { theta, width }: RotaryConfig | { theta: number; width: number },
  divisors: Float32Array,
): NonNullable<RotaryConfig['scaling']> {
  if (divisors.length !== width / 2)
    throw new UnreadableCheckpoint(
      `${path}: ${divisors.length} rotary divisors for ${width} channels`,
      { path },
      'The file is damaged',
    );
  const scaling = {
    kind: 'llama3' as const,
    factor: Math.max(...divisors),
    lowFrequency: 1,
    highFrequency: 4,
    originalContext: 8192,
  };
  for (let i = 0; i < width / 2; i++) {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / width);
    const share =
      (scaling.originalContext / wavelength - scaling.lowFrequency) /
      (scaling.highFrequency - scaling.lowFrequency);
    const smooth = Math.min(1, Math.max(0, share));
    const divisor = 1 / ((1 - smooth) / scaling.factor + smooth);
    if (!(Math.abs(divisor / divisors[i]! - 1) <= 1e-3)) {
      throw new UnsupportedCheckpoint(
        `${path}: frequency ${i} is divided by ${divisors[i]}, Llama 3.1 would by ${divisor}`,
        { path, frequency: i },
        'Other rotary scalings are not read',
      );
    }
  }
  return scaling;
}

const outerNames: Record<string, string> = {
  embedding: 'token_embd',
  position: 'position_embd',
  finalNorm: 'output_norm',
  head: 'output',
};

const blockNames: Record<string, string> = {
  norm1: 'attn_norm',
  norm2: 'ffn_norm',
  query: 'attn_q',
  key: 'attn_k',
  value: 'attn_v',
  output: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
};

function ggufLayout(family: string, config: ModelConfig): Layout {
  const fused: Record<string, number> = family === 'gpt2' ? { query: 0, key: 1, value: 2 } : {};
  // llama.cpp's conversion interleaves the halves of each head of these, for Llama alone.
  const interleaved: Record<string, number> =
    family === 'llama' ? { query: config.heads, key: config.keyValueHeads } : {};
  return {
    recipe(canonical): Recipe {
      const { layer, part, kind } = splitName(canonical);
      const suffix = kind === 'bias' ? 'bias' : 'weight';
      if (layer === null) return { source: `${outerNames[part]}.${suffix}` };
      const index = fused[part];
      if (index !== undefined)
        return { source: `blk.${layer}.attn_qkv.${suffix}`, part: { index, parts: 3 } };
      const heads = interleaved[part];
      return {
        source: `blk.${layer}.${blockNames[part]}.${suffix}`,
        ...(heads === undefined ? {} : { interleavedHeads: heads }),
      };
    },
  };
}
