/**
 * What a checkpoint on disk is to the rest of the model: its shape, and its tensors by canonical
 * name.
 *
 * Letters of the shapes: V vocabulary, D residual width, F MLP width, C longest context.
 * Every linear weight is [out, in], as torch.nn.Linear has it, whatever the file's own layout.
 *
 *   embedding [V, D]                      position [C, D] (gpt2)
 *   blocks.<i>.norm1.gain|bias [D]        blocks.<i>.norm2.gain|bias [D] (absent in gptj: attention and MLP read one norm)
 *   blocks.<i>.query.weight [heads * headWidth, D]    blocks.<i>.key|value.weight [keyValueHeads * headWidth, D]
 *   blocks.<i>.output.weight [D, heads * headWidth]   each with .bias [out] where the model has one
 *   blocks.<i>.gate.weight [F, D] (llama) blocks.<i>.up.weight [F, D], .bias      blocks.<i>.down.weight [D, F], .bias
 *   finalNorm.gain|bias [D]               head.weight [V, D] (only if untied), head.bias [V] (gptj)
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** The structures this project can run. Qwen2 loads as llama with attention biases. */
export type Architecture = 'llama' | 'gpt2' | 'gptj';

/**
 * Channels of one head; what is larger is no model, and the rotary table is as large as its square.
 */
export const HEAD_WIDTH_MAX = 1_024;

export interface RotaryConfig {
  /** Base of the rotation's wavelengths. */
  theta: number;
  /** Leading channels of each head that are rotated; even, at most the head width. */
  width: number;
  /**
   * true: channels (2i, 2i + 1) rotate together (GPT-J). Absent or false: (i, i + width / 2), the
   * half-split form.
   */
  interleaved?: boolean;
  scaling: null | {
    kind: 'llama3';
    factor: number;
    lowFrequency: number;
    highFrequency: number;
    originalContext: number;
  };
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
  /** Longest sequence, in tokens, the model was trained for. */
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
  /** Identity of the weights: lower-case hex over the bytes of the weight files. */
  sha256: string;
  has(name: string): boolean;
  /** Reads one tensor as float32; throws MissingTensor for a name the checkpoint has not. */
  read(name: string): Promise<WeightTensor>;
  close(): Promise<void>;
}
