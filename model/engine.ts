/**
 * The loaded model as its users see it: an asynchronous interface over plain data, so that the same
 * calls work in one thread (tests, benchmarks) and across a thread boundary (edit worker, serve),
 * where the model has a thread of its own and the process's event loop stays free.
 *
 * Hooks are held by name. A hook is a pure function of the base model and a set of pairs, so a name
 * stands for a set of pairs for good; the engine keeps the last few (`HOOKS_HELD_MAX`) and forgets
 * the oldest. `null` names the base model.
 */
import type { HyperParameters, Refusal } from '../schemas/editing.ts';
import type { Architecture } from './checkpoint/checkpoint.ts';
import type { ModelQueue } from './engine/model-queue.ts';

export const HOOKS_HELD_MAX = 4;

/** Shut gates that a generation tells of. */
export const SHUT_GATES_MAX = 64;

export interface Engine {
  /** Whoever shares the engine takes turns here; a call outside of any turn waits for one. */
  readonly queue: ModelQueue;
  describe(): Promise<EngineDescription>;
  /** Asking counts as a use. */
  holds(hookId: string): Promise<boolean>;
  /** Builds the hook of these pairs and keeps it under the name. */
  holdHook(hookId: string, pairs: PairSet): Promise<HookReport>;
  /** Targets z [n, D] at the last edited block, each correction by itself on top of the hook. */
  computeTargets(
    hookId: string | null,
    requests: EditRequest[],
    progress?: (progress: TargetProgress) => void,
  ): Promise<ComputedTargets>;
  /**
   * The pairs that make the hook answer with the targets; `targets.ids` names the rows of
   * `requests` used.
   */
  deriveUpdate(
    hookId: string | null,
    requests: EditRequest[],
    targets: Targets,
  ): Promise<DerivedUpdate>;
  probe(hookId: string | null, probes: Probe[]): Promise<ProbeAnswer[]>;
  /** Perplexity on the canary text, and how often the gates open there. */
  canary(hookId: string | null): Promise<CanaryReading>;
  generate(
    hookId: string | null,
    prompt: string,
    options: GenerateOptions,
    onToken?: (token: GeneratedToken) => void,
  ): Promise<Generation>;
  close(): Promise<void>;
}

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
  /**
   * Other facts about the subject that are in force: the target is searched such that they keep
   * being answered.
   */
  alongside?: { prompt: string; target: string }[];
}

/**
 * Rows of several corrections, per edited layer, row-major float32: keys [count, keyWidth] and
 * wanted changes [count, valueWidth]. A correction has one key of F numbers, or several side by
 * side in its row (a view of its prompt each), and as many changes of D numbers.
 */
export interface PairSet {
  layers: number[];
  count: number;
  /** Whom each row is about, and that name in tokens, in every spelling. */
  subjects: string[];
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
  /** Scored after the prompt where given. */
  target?: string;
  /** Scored too: what the model used to say. */
  alternative?: string;
  /** Tokens to decode greedily, 0..64. */
  greedyTokensMax: number;
}

export interface ProbeAnswer {
  nextToken: number;
  /** The greedy continuation. */
  answer: string;
  /** Mean log-probability per token. */
  targetLogProbability: number | null;
  alternativeLogProbability: number | null;
  /** Every token of the target is the argmax, teacher-forced. */
  targetIsArgmax: boolean | null;
  /** Greedy decoding with the cache begins with the target. */
  targetIsGreedy: boolean | null;
  /**
   * Whether any gate opened on the prompt; where none did the answer is the base model's, bit for
   * bit.
   */
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
  /** Tells of gates that stayed shut as well, where the gate can tell how near it was. */
  explain?: boolean;
  /**
   * Decodes the base model's own answer beside the hook's, in the same passes; greedy decoding
   * only. Rounding may differ from either alone.
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
   * the correction whose key lies nearest.
   */
  opened: {
    position: number;
    token: string;
    layer: number;
    score: number;
    threshold: number;
    nearestRow: number;
  }[];
  /** Asked for with `besideBase`. */
  base?: { text: string; finish: 'length' | 'stop' | 'end' };
  /**
   * Asked to explain: tokens that end a corrected subject's name and did not open its gate. Missing
   * where the engine cannot tell.
   */
  shut?: Generation['opened'];
}
