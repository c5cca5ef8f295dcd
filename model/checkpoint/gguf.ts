/** A model in one GGUF file: its tensors by ggml's names, its configuration and its layout. */
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from '../format/faults.ts';
import { openFile } from '../format/file-reading.ts';
import { readGgufHeader, type GgufValue } from '../format/gguf-header.ts';
import { tensorSource, type TensorSource } from '../format/tensor-source.ts';
import type { OpenModel } from './canonical.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { ggufLayout } from './layouts.ts';
import {
  HEAD_WIDTH_MAX,
  rotaryFrequency,
  type ModelConfig,
  type RotaryConfig,
} from './model-config.ts';

/**
 * Opens the file and reads its header. The caller closes `source`. Throws UnreadableCheckpoint,
 * UnsupportedCheckpoint.
 */
export async function openGguf(path: string): Promise<OpenModel> {
  const file = await openFile(path);
  try {
    const { metadata, tensors } = await readGgufHeader(file);
    const places = [...tensors].map(([name, tensor]) => [name, { ...tensor, file }] as const);
    const source = tensorSource([file], new Map(places));
    const facts = new Metadata(path, metadata);
    const config = ggufConfig(facts, source, await readRotaryFactors(path, source));
    return {
      source,
      config,
      layout: ggufLayout(facts.text('general.architecture'), config),
      createTokenizer: () => ggufTokenizer(path, metadata),
      weightFiles: [path],
    };
  } catch (error) {
    await file.handle.close();
    throw error;
  }
}

/** Reads one divisor per frequency of Llama 3.1's rotary embedding; null if the file has none. */
async function readRotaryFactors(path: string, source: TensorSource): Promise<Float32Array | null> {
  const shape = source.shape('rope_freqs.weight');
  if (shape === undefined) return null;
  const [count] = shape as [number];
  if (shape.length === 1 && count <= HEAD_WIDTH_MAX / 2)
    return source.readRows('rope_freqs.weight', 0, count);
  throw new UnreadableCheckpoint(
    path,
    `the rotary divisors are [${shape.join(', ')}]`,
    `At most ${HEAD_WIDTH_MAX / 2} are read`,
  );
}

/** Typed metadata. Throws UnreadableCheckpoint if a key is missing or has another type. */
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
    const found = value === undefined ? 'missing' : excerpt(value);
    return new UnreadableCheckpoint(
      this.path,
      `metadata "${key}" should be ${wanted} and is ${found}`,
      'It is damaged, or not a language model of this architecture',
    );
  }
}

function ggufConfig(
  facts: Metadata,
  source: TensorSource,
  rotaryFactors: Float32Array | null,
): ModelConfig {
  const family = facts.text('general.architecture');
  if (family !== 'llama' && family !== 'qwen2' && family !== 'gpt2')
    throw new UnsupportedCheckpoint(
      facts.path,
      `architecture ${excerpt(family)}`,
      'GGUF files are read for llama, qwen2 and gpt2; GPT-J in the Hugging Face layout',
    );
  const countsExperts = family === 'llama' && facts.values.has('llama.expert_count');
  if (countsExperts && facts.number('llama.expert_count') > 1)
    throw new UnsupportedCheckpoint(
      facts.path,
      'a mixture of experts',
      'Only dense models are read',
    );
  const isGpt2 = family === 'gpt2';
  const residualWidth = facts.whole(`${family}.embedding_length`);
  const heads = facts.whole(`${family}.attention.head_count`);
  const headWidth = facts.whole(`${family}.attention.key_length`, residualWidth / heads);
  const epsilonKey = isGpt2 ? 'layer_norm_epsilon' : 'layer_norm_rms_epsilon';
  return {
    architecture: isGpt2 ? 'gpt2' : 'llama',
    layers: facts.whole(`${family}.block_count`),
    residualWidth,
    mlpWidth: facts.whole(`${family}.feed_forward_length`),
    heads,
    keyValueHeads: facts.whole(`${family}.attention.head_count_kv`, heads),
    headWidth,
    vocabulary: source.shape('token_embd.weight')?.[0] ?? facts.whole(`${family}.vocab_size`),
    contextMax: facts.whole(`${family}.context_length`),
    normEpsilon: facts.number(`${family}.attention.${epsilonKey}`),
    rotary: isGpt2 ? null : ggufRotary(facts, family, headWidth, rotaryFactors),
    activation: isGpt2 ? 'gelu-tanh' : 'silu',
    tiedEmbeddings: source.shape('output.weight') === undefined,
  };
}

function ggufRotary(
  facts: Metadata,
  family: string,
  headWidth: number,
  factors: Float32Array | null,
): RotaryConfig {
  const scalingKind = facts.values.get(`${family}.rope.scaling.type`) ?? 'none';
  if (scalingKind !== 'none')
    throw new UnsupportedCheckpoint(
      facts.path,
      `rotary scaling ${excerpt(scalingKind)}`,
      'No scaling and that of Llama 3.1 are read',
    );
  const theta = facts.number(`${family}.rope.freq_base`, 10000);
  const width = facts.whole(`${family}.rope.dimension_count`, headWidth);
  const scaling = factors === null ? null : llama3Scaling(facts.path, { theta, width }, factors);
  return { theta, width, scaling };
}

/**
 * Recovers Llama 3.1's scaling from a GGUF, which has only the resulting divisor per frequency. The
 * published models differ only in `factor`, so it is derived and the whole is checked.
 */
function llama3Scaling(
  path: string,
  { theta, width }: { theta: number; width: number },
  divisors: Float32Array,
): NonNullable<RotaryConfig['scaling']> {
  if (divisors.length !== width / 2)
    throw new UnreadableCheckpoint(
      path,
      `${divisors.length} rotary divisors for ${width} channels`,
      'The file is damaged',
    );
  const scaling: RotaryConfig['scaling'] = {
    kind: 'llama3',
    factor: Math.max(...divisors),
    lowFrequency: 1,
    highFrequency: 4,
    originalContext: 8192,
  };
  for (let i = 0; i < width / 2; i++) {
    const plain = rotaryFrequency({ theta, width, scaling: null }, i);
    const divisor = plain / rotaryFrequency({ theta, width, scaling }, i);
    if (!(Math.abs(divisor / divisors[i]! - 1) <= 1e-3))
      throw new UnsupportedCheckpoint(
        path,
        `frequency ${i} is divided by ${divisors[i]} instead of Llama 3.1's ${divisor}`,
        'Other rotary scalings are not read',
      );
  }
  return scaling;
}
