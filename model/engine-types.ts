/**
 * The data that callers exchange with the engine. It is plain, so that it crosses a thread
 * boundary.
 */
import type { HyperParameters } from '../schemas/hyper-parameters.ts';
import type { Refusal } from '../schemas/editing.ts';
import type { Architecture } from './checkpoint/checkpoint.ts';

export interface EngineDescription {
  model: {
    name: string;
    sha256: string;
    architecture: Architecture;
    layers: number;
    residualWidth: number;
    mlpWidth: number;
    vocabulary: number;
    contextMax: number;
  };
  parameters: HyperParameters;
  keyStatistics: { sha256: string; tokens: number; source: string };
  software: { errata: string; tensorflow: string; node: string; device: string };
}

export interface EditRequest {
  id: string;
  subject: string;
  prompt: string;
  target: string;
  /** Other facts in force about the subject, which the target must preserve. */
  alongside?: { prompt: string; target: string }[];
}

/**
 * Pairs of several corrections, per edited layer, row-major float32: keys [count, keyWidth] and
 * wanted changes [count, valueWidth]. A row holds one key of F numbers per view of the correction's
 * prompt, side by side, and one change of D numbers per key.
 */
export interface PairSet {
  layers: number[];
  count: number;
  subjects: string[];
  /** The subject's name in tokens, in every spelling. */
  spellings: number[][][];
  keyWidth: number;
  valueWidth: number;
  keys: Float32Array[];
  changes: Float32Array[];
}

export interface Targets {
  ids: string[];
  /** [ids.length, D], row-major. */
  values: Float32Array;
}

export interface ComputedTargets {
  targets: Targets;
  accepted: { id: string; loss: number; steps: number }[];
  refused: Refusal[];
  seconds: Record<string, number>;
}

export interface TargetProgress {
  step: number;
  stepsMax: number;
  unfinished: number;
}

export interface DerivedUpdate {
  ids: string[];
  pairs: PairSet;
  refused: Refusal[];
  seconds: Record<string, number>;
}

export interface HookReport {
  corrections: number;
  layers: { layer: number; editNorm: number; threshold: number }[];
}

export interface Probe {
  prompt: string;
  /** Scored after the prompt if given. */
  target?: string;
  /** The answer before the correction; scored as well if given. */
  alternative?: string;
  /** Number of tokens to decode greedily, 0..64. */
  greedyTokensMax: number;
}

export interface ProbeAnswer {
  nextToken: number;
  answer: string;
  /** Mean log-probability per token. */
  targetLogProbability: number | null;
  alternativeLogProbability: number | null;
  /** True if every token of the target is the argmax, teacher-forced. */
  targetIsArgmax: boolean | null;
  /** True if greedy decoding with the cache begins with the target. */
  targetIsGreedy: boolean | null;
  /** True if a gate opened on the prompt. If false, the answer is the base model's, bit for bit. */
  opened: boolean;
}

export interface CanaryReading {
  perplexity: number;
  basePerplexity: number;
  ratio: number;
  tokens: number;
  openShare: number;
}

export interface GenerateOptions {
  tokensMax: number;
  /** 0 decodes greedily. */
  temperature: number;
  topP?: number;
  seed?: number;
  stop?: string[];
  /** Also reports gates that stayed shut, for the subject gate. */
  explain?: boolean;
  /**
   * Decodes the base model's own answer beside the hook's, in the same passes; greedy decoding
   * only. Rounding may differ from decoding either one alone.
   */
  besideBase?: boolean;
}

export interface GeneratedToken {
  id: number;
  text: string;
}

export interface Generation {
  text: string;
  tokens: number[];
  promptTokens: number;
  finish: 'length' | 'stop' | 'end';
  /**
   * Gates that opened: the token's position in prompt + answer, its layer, score and threshold, and
   * the correction with the nearest key.
   */
  opened: {
    position: number;
    token: string;
    layer: number;
    score: number;
    threshold: number;
    nearestRow: number;
  }[];
  base?: { text: string; finish: 'length' | 'stop' | 'end' };
  /** With `explain` only: tokens that end a corrected subject's name but did not open its gate. */
  shut?: Generation['opened'];
}
