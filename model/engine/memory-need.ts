/**
 * What memory a model will take, worked out from its shape alone, before anything of it is loaded.
 * In bytes.
 *
 * Letters: L blocks, D residual width, F MLP width, A = heads * head width, K = key-value heads *
 * head width, V vocabulary, E edited blocks, N corrections, R = N * views keys. Tensors are float32
 * (4 bytes) but where float64 is said. A tensor that is made and freed again counts in the phase
 * that makes it; a process needs what it holds and the largest phase. Counted are tensors; the
 * factors at the end of the file make them a process, measured on SmolLM2-135M.
 */
import type { HyperParameters } from '../../schemas/editing.ts';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';
import { HOOKS_HELD_MAX } from './engine.ts';
import { sampledTogether, SEQUENCE_TOKENS_MAX } from '../statistics/ordinary-text.ts';
import { formsPerPrompt } from '../editing/search-forms.ts';

export interface MemoryNeed {
  parameterCount: number;
  parts: {
    /** Node, TensorFlow, tokeniser and code, before any tensor. */
    runtimeBytes: number;
    weightsBytes: number;
    /** Of one edited block: P0 (float32), its factor and C0 (float64), all [F, F]. */
    priorOfBlockBytes: number;
    /** One hook of so many corrections, all edited blocks. */
    hookBytes: { corrections: number; bytes: number }[];
    /** Keys and values of one sequence of `keyValueTokens` tokens. */
    keyValueBytes: number;
    keyValueTokens: number;
  };
  /** Made and freed again. */
  phases: {
    /** Once per model: its own samples as text for the key statistics. */
    samplingBytes: number;
    /** C0 and its inverse of one block, read or made. */
    invertingBytes: number;
    /** The search for the targets of one batch. */
    targetsBytes: number;
    /** Writing the batch on top of the corrections before. */
    updateBytes: number;
    probesBytes: number;
  };
  /** Held for good, and with the largest phase on top; with what allocators take besides. */
  processes: { name: 'edit-worker' | 'serve'; heldBytes: number; peakBytes: number }[];
  /** The assumptions that the numbers stand on. */
  batchEdits: number;
  corrections: number;
}

/**
 * Of the embedded broker and server, `errata up`, `ingest` and `workflow-worker` together, as seen
 * on Linux.
 */
export const OTHER_PROCESSES_BYTES = 1.2e9;

/** Corrections for which a hook's size is told. */
export const HOOK_SIZES = [0, 300, 2_000] as const;

/** `corrections` are those in force, `batchEdits` those of one batch. */
export function memoryNeed(
  config: ModelConfig,
  parameters: HyperParameters,
  corrections: number = 300,
  batchEdits: number = 30,
): MemoryNeed {
  const E = parameters.layers.length;
  const parts: MemoryNeed['parts'] = {
    runtimeBytes: RUNTIME_BYTES + config.vocabulary * TOKENISER_BYTES_PER_TOKEN,
    weightsBytes: FLOAT32 * parameterCount(config),
    priorOfBlockBytes: (2 * FLOAT64 + FLOAT32) * config.mlpWidth ** 2,
    hookBytes: HOOK_SIZES.map((count) => ({
      corrections: count,
      bytes: hookBytes(config, parameters, count),
    })),
    keyValueTokens: Math.min(config.contextMax, ANSWER_TOKENS),
    keyValueBytes: keyValueBytes(config, Math.min(config.contextMax, ANSWER_TOKENS)),
  };
  const phases: MemoryNeed['phases'] = {
    samplingBytes: samplingBytes(config),
    invertingBytes: INVERTING_MATRICES * FLOAT64 * config.mlpWidth ** 2,
    targetsBytes: targetsBytes(config, parameters, batchEdits),
    updateBytes: updateBytes(config, parameters, corrections + batchEdits),
    probesBytes: probesBytes(config),
  };
  const held =
    parts.runtimeBytes +
    parts.weightsBytes +
    E * parts.priorOfBlockBytes +
    HOOKS_HELD_MAX * hookBytes(config, parameters, corrections) +
    sharedHookBytes(config, parameters, corrections);
  const loading = Math.max(phases.samplingBytes, phases.invertingBytes);
  return {
    parameterCount: parameterCount(config),
    parts,
    phases,
    processes: [
      process(
        'edit-worker',
        held,
        Math.max(loading, phases.targetsBytes, phases.updateBytes, phases.probesBytes),
      ),
      process('serve', held, Math.max(loading, 2 * parts.keyValueBytes)),
    ],
    batchEdits,
    corrections,
  };
}

function process(
  name: 'edit-worker' | 'serve',
  held: number,
  transient: number,
): MemoryNeed['processes'][number] {
  return {
    name,
    heldBytes: ALLOCATOR_FACTOR * held,
    peakBytes: ALLOCATOR_FACTOR * (held + transient),
  };
}

/**
 * Numbers in the weights. Biases of Qwen's attention are left out (below 0.1 %); a tied output
 * matrix counts once.
 */
export function parameterCount(config: ModelConfig): number {
  const {
    architecture,
    layers: L,
    residualWidth: D,
    mlpWidth: F,
    vocabulary: V,
    contextMax: C,
  } = config;
  const [A, K] = [config.heads * config.headWidth, config.keyValueHeads * config.headWidth];
  const attention = D * A * 2 + D * K * 2;
  const outer = V * D * (config.tiedEmbeddings ? 1 : 2);
  switch (architecture) {
    case 'llama':
      return outer + D + L * (attention + 3 * D * F + 2 * D);
    case 'gpt2':
      return outer + C * D + 2 * D + L * (attention + A + 2 * K + D + 2 * D * F + F + D + 4 * D);
    case 'gptj':
      return outer + V + 2 * D + L * (attention + 2 * D * F + F + D + 2 * D);
  }
}

/**
 * One hook: per edited block the pairs it was built from, R * (F + D), and its map. With maps by
 * subject that is B [R, D] (model/hook/subject-map.ts); with one map Q [M, F] and E [M, D], M = R
 * keys, or F where they outnumber half of F (model/hook/joint-map.ts).
 */
export function hookBytes(
  { mlpWidth: F, residualWidth: D }: ModelConfig,
  parameters: HyperParameters,
  corrections: number,
): number {
  const R = corrections * viewsOf(parameters);
  const map = isBySubject(parameters) ? R * D : keptRows(R, F) * (F + D);
  return FLOAT32 * parameters.layers.length * (R * (F + D) + map);
}

/**
 * What hooks share (model/hook/hook-cache.ts): K P0 [R, F]; with maps by subject B once more, in
 * the F x F form of one map the sums [F, F] and [F, D] in float64.
 */
function sharedHookBytes(
  { mlpWidth: F, residualWidth: D }: ModelConfig,
  parameters: HyperParameters,
  corrections: number,
): number {
  const R = corrections * viewsOf(parameters);
  const sums = keptRows(R, F) === R ? 0 : FLOAT64 * F * (F + D);
  return (
    parameters.layers.length *
    (FLOAT32 * R * F + (isBySubject(parameters) ? FLOAT32 * R * D : sums))
  );
}

function isBySubject({ gate }: HyperParameters): boolean {
  return gate.map === 'subject';
}

function keptRows(R: number, F: number): number {
  return R <= F / 2 ? R : F;
}

/** Keys and values of every block: 2 L K per token. */
export function keyValueBytes(config: ModelConfig, tokens: number): number {
  return FLOAT32 * 2 * config.layers * config.keyValueHeads * config.headWidth * tokens;
}

const FLOAT32 = 4;
const FLOAT64 = 8;
/** Of a process with the addon loaded and nothing else, measured on Linux with the CPU build. */
const RUNTIME_BYTES = 420e6;
/**
 * What a process takes over what its tensors need: measured 1.08 (loaded) to 1.2 (editing in
 * batches of 10) with SmolLM2-135M on the CPU build.
 */
const ALLOCATOR_FACTOR = 1.15;
/** Strings and maps of the vocabulary and its merges. */
const TOKENISER_BYTES_PER_TOKEN = 800;
/**
 * [F, F] float64 that exist at once beside C0 while one block's factor and inverse are made or
 * read.
 */
const INVERTING_MATRICES = 5;
/** One question and its answer. */
const ANSWER_TOKENS = 2_048;
/**
 * A usual correction in tokens: context and prompt up to the subject's last token, from there to
 * the end, the target.
 */
const CORRECTION_TOKENS = { before: 20, after: 8, target: 2 } as const;

function viewsOf({ gate, contexts }: HyperParameters): number {
  return gate.kind !== 'sequence' && contexts > 0 ? 2 : 1;
}

/** Keys and values of the sequences that are sampled side by side. */
function samplingBytes(config: ModelConfig): number {
  const tokens = Math.min(SEQUENCE_TOKENS_MAX, config.contextMax - 1) + 1;
  return (
    sampledTogether(config) * (keyValueBytes(config, tokens) + 2 * FLOAT32 * config.vocabulary)
  );
}

/**
 * Finding targets: what one step records for the way back (model/network/), per row and
 * block above the last edited one 2 D (the block's input and middle), 2 F (gate and up), H d
 * (queries) and the attention weights, per sequence keys and values; [N, V] five times where tokens
 * are predicted, and the base's distribution twice. Beside it the keys and values of everything
 * before the subject, of every form of every prompt, and once more of those in the step.
 */
function targetsBytes(config: ModelConfig, parameters: HyperParameters, edits: number): number {
  const {
    layers: L,
    residualWidth: D,
    mlpWidth: F,
    heads: H,
    headWidth: d,
    vocabulary: V,
  } = config;
  const { before, after, target } = CORRECTION_TOKENS;
  const upper = L - 1 - Math.max(...parameters.layers);
  const { prepared, read } = formsPerPrompt(parameters);
  const rows = edits * (read * after + 1);
  const S = before + after;
  const perRow = 2 * D + 2 * F + H * d + H * S;
  const perSequence = 2 * config.keyValueHeads * d * S;
  const recorded = upper * (rows * perRow + edits * (read + 1) * perSequence);
  const predicted = edits * (read * target + 1);
  const vocabulary = 5 * predicted * V + 2 * edits * V;
  return (
    FLOAT32 * (recorded + vocabulary + edits * (prepared + 1) * after * D) +
    edits * (prepared + read + 2) * keyValueBytes(config, before)
  );
}

/**
 * One block: with maps by subject K P0 [R, F] once more while it is read; with one map in float64
 * six matrices [R, F], two [R, D] and three [R, R] in the kernel form, or four [F, F] and two [F,
 * D] where keys are many. And new hooks of all blocks.
 */
function updateBytes(
  config: ModelConfig,
  parameters: HyperParameters,
  corrections: number,
): number {
  const R = corrections * viewsOf(parameters);
  const { mlpWidth: F, residualWidth: D } = config;
  const block = keptRows(R, F) === R ? 6 * R * F + 2 * R * D + 3 * R * R : 4 * F * F + 2 * F * D;
  return (
    (isBySubject(parameters) ? FLOAT32 * R * F : FLOAT64 * block) +
    hookBytes(config, parameters, corrections)
  );
}

/**
 * A pass of 64 prompts: keys and values twice (before and after a step), logits and their soft
 * forms, one block's MLP.
 */
function probesBytes(config: ModelConfig): number {
  const tokens = PROBES_TOGETHER * PROBE_TOKENS;
  return (
    2 * keyValueBytes(config, tokens) +
    FLOAT32 * (3 * PROBES_TOGETHER * config.vocabulary + 5 * tokens * config.mlpWidth)
  );
}

const PROBES_TOGETHER = 64;
const PROBE_TOKENS = 24;
