/**
 * A checkpoint as the rest of the model sees it: its shape, and its tensors by canonical name.
 *
 * Letters of the shapes: V vocabulary, D residual width, F MLP width, C longest context, H heads,
 * K key-value heads, d head width. Every linear weight is [out, in], as in torch.nn.Linear,
 * whatever the file's own layout.
 *
 *   embedding [V, D]                        position [C, D] (gpt2)
 *   blocks.<i>.norm1.gain|bias [D]
 *   blocks.<i>.norm2.gain|bias [D]          (not gptj: attention and MLP read one norm)
 *   blocks.<i>.query.weight [H d, D]        blocks.<i>.key|value.weight [K d, D]
 *   blocks.<i>.output.weight [D, H d]       each linear with .bias [out] if the model has one
 *   blocks.<i>.gate.weight [F, D] (llama)   blocks.<i>.up.weight [F, D]
 *   blocks.<i>.down.weight [D, F]
 *   finalNorm.gain|bias [D]                 head.weight [V, D] (if untied), head.bias [V] (gptj)
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** The supported architectures. Qwen2 is a llama with attention biases. */
export type Architecture = 'llama' | 'gpt2' | 'gptj';

/** Most channels of one head. The rotary table has the square of this size. */
export const HEAD_WIDTH_MAX = 1_024;

export interface RotaryConfig {
  /** Base of the rotation's wavelengths. */
  theta: number;
  /** Number of leading channels of each head that are rotated; even, at most the head width. */
  width: number;
  /** True if channels (2i, 2i + 1) rotate together (GPT-J), instead of (i, i + width / 2). */
  interleaved?: boolean;
  scaling: null | {
    kind: 'llama3';
    factor: number;
    lowFrequency: number;
    highFrequency: number;
    originalContext: number;
  };
}

/** theta^(-2 i / width), stretched for long contexts as Llama 3's configuration describes. */
export function rotaryFrequency(config: RotaryConfig, pair: number): number {
  const plain = config.theta ** ((-2 * pair) / config.width);
  const { scaling } = config;
  if (scaling === null) return plain;
  const wavelength = (2 * Math.PI) / plain;
  const longest = scaling.originalContext / scaling.lowFrequency;
  const shortest = scaling.originalContext / scaling.highFrequency;
  if (wavelength < shortest) return plain;
  if (wavelength > longest) return plain / scaling.factor;
  const blend =
    (scaling.originalContext / wavelength - scaling.lowFrequency) /
    (scaling.highFrequency - scaling.lowFrequency);
  return ((1 - blend) * plain) / scaling.factor + blend * plain;
}

export interface ModelConfig {
  architecture: Architecture;
  layers: number;
  /** D */
  residualWidth: number;
  /** F */
  mlpWidth: number;
  heads: number;
  keyValueHeads: number;
  headWidth: number;
  /** V: rows of the embedding. */
  vocabulary: number;
  /** Longest sequence that the model was trained for, in tokens. */
  contextMax: number;
  normEpsilon: number;
  rotary: null | RotaryConfig;
  activation: 'silu' | 'gelu-tanh';
  tiedEmbeddings: boolean;
}

export interface WeightTensor {
  shape: number[];
  values: Float32Array;
}

export interface Checkpoint {
  name: string;
  config: ModelConfig;
  tokenizer: Tokenizer;
  /** SHA-256 identity of the weight files' bytes, in lower-case hex. */
  sha256: string;
  has(name: string): boolean;
  /** Reads one tensor as float32. Throws MissingTensor if there is no tensor of that name. */
  read(name: string): Promise<WeightTensor>;
  close(): Promise<void>;
}
