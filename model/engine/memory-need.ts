/**
 * Estimates a model's memory in bytes from its shape, before anything is loaded.
 *
 * Letters: L blocks, D residual width, F MLP width, H heads, d head width, V vocabulary, E edited
 * blocks, N corrections, R = N * views keys. Tensors are float32 unless float64 is stated. A tensor
 * that is made and freed again counts in the phase that makes it. A process needs what it holds
 * plus the largest phase. Only tensors are counted; the factors at the end of the file, measured on
 * SmolLM2-135M, give the size of a process.
 */
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import { canonicalTensors } from '../checkpoint/canonical.ts';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';
import { HOOKS_HELD_MAX } from './engine.ts';
import { sampledTogether, SEQUENCE_TOKENS_MAX } from '../statistics/ordinary-text.ts';
import { formsPerPrompt } from '../editing/search-forms.ts';

export type MemoryNeed = ReturnType<typeof memoryNeed>;

/** `corrections` counts those in force, `batchEdits` those of one batch. */
export function memoryNeed(
  config: ModelConfig,
  parameters: HyperParameters,
  corrections = 300,
  batchEdits = 30,
) {
  const square = config.mlpWidth ** 2;
  const keyValueTokens = Math.min(config.contextMax, ANSWER_TOKENS);
  const numbers = parameterCount(config);
  const parts = {
    /** Node, TensorFlow, tokeniser and code, before any tensor. */
    runtimeBytes: RUNTIME_BYTES + config.vocabulary * TOKENISER_BYTES_PER_TOKEN,
    weightsBytes: FLOAT32 * numbers,
    /** P0 (float32), its factor and C0 (float64) of one edited block, all [F, F]. */
    priorOfBlockBytes: (2 * FLOAT64 + FLOAT32) * square,
    /** One hook with that many corrections, over all edited blocks. */
    hookBytes: HOOK_SIZES.map((count) => ({
      corrections: count,
      bytes: hookBytes(config, parameters, count),
    })),
    keyValueTokens,
    /** Keys and values of one sequence of `keyValueTokens` tokens. */
    keyValueBytes: keyValueBytes(config, keyValueTokens),
  };
  const phases = {
    /** Sampling the model's own text for the key statistics, once per model. */
    samplingBytes: samplingBytes(config),
    /** Reading or making C0 and its inverse for one block. */
    invertingBytes: INVERTING_MATRICES * FLOAT64 * square,
    targetsBytes: targetsBytes(config, parameters, batchEdits),
    /** Writing the batch on top of the earlier corrections. */
    updateBytes: updateBytes(config, parameters, corrections + batchEdits),
    probesBytes: probesBytes(config),
  };
  const held =
    parts.runtimeBytes +
    parts.weightsBytes +
    parameters.layers.length * parts.priorOfBlockBytes +
    HOOKS_HELD_MAX * hookBytes(config, parameters, corrections) +
    sharedHookBytes(config, parameters, corrections);
  const { samplingBytes: sampling, invertingBytes: inverting, ...editing } = phases;
  const process = (name: 'edit-worker' | 'serve', ...own: number[]) => ({
    name,
    heldBytes: ALLOCATOR_FACTOR * held,
    peakBytes: ALLOCATOR_FACTOR * (held + Math.max(sampling, inverting, ...own)),
  });
  return {
    parameterCount: numbers,
    parts,
    /** Made and freed again. */
    phases,
    /** The memory at rest and with the largest phase, including the allocators' overhead. */
    processes: [
      process('edit-worker', ...Object.values(editing)),
      process('serve', 2 * parts.keyValueBytes),
    ],
    batchEdits,
    corrections,
  };
}

/** Number of weights, without the biases of Qwen's attention (below 0.1 %). */
export function parameterCount(config: ModelConfig): number {
  return canonicalTensors(config)
    .filter(({ optional }) => !optional)
    .reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
}

/**
 * One hook: per edited block the pairs it was built from, R * (F + D), and its map. Maps by subject
 * take B [R, D] (model/hook/subject-map.ts). A joint map takes Q [M, F] and E [M, D], where M is R
 * keys, or F if R exceeds F / 2 (model/hook/joint-map.ts).
 */
export function hookBytes(
  config: ModelConfig,
  parameters: HyperParameters,
  corrections: number,
): number {
  const { F, D, E, R, keptRows, isBySubject } = hookSizes(config, parameters, corrections);
  const map = isBySubject ? R * D : keptRows * (F + D);
  return FLOAT32 * E * (R * (F + D) + map);
}

/**
 * The part that hooks share (model/hook/hook-cache.ts): K P0 [R, F]. Maps by subject add B once
 * more. The F x F form of a joint map adds the sums [F, F] and [F, D] in float64.
 */
function sharedHookBytes(config: ModelConfig, parameters: HyperParameters, corrections: number) {
  const { F, D, E, R, keptRows, isBySubject } = hookSizes(config, parameters, corrections);
  const sums = keptRows === R ? 0 : FLOAT64 * F * (F + D);
  return E * (FLOAT32 * R * F + (isBySubject ? FLOAT32 * R * D : sums));
}

/**
 * Writing one block. Maps by subject take K P0 [R, F] once more while it is read. A joint map takes
 * in float64 six matrices [R, F], two [R, D] and three [R, R] in the kernel form, or four [F, F]
 * and two [F, D] if there are many keys. New hooks of all blocks are added.
 */
function updateBytes(config: ModelConfig, parameters: HyperParameters, corrections: number) {
  const { F, D, R, keptRows, isBySubject } = hookSizes(config, parameters, corrections);
  const block = keptRows === R ? 6 * R * F + 2 * R * D + 3 * R * R : 4 * F * F + 2 * F * D;
  const written = isBySubject ? FLOAT32 * R * F : FLOAT64 * block;
  return written + hookBytes(config, parameters, corrections);
}

function hookSizes(
  { mlpWidth: F, residualWidth: D }: ModelConfig,
  { gate, contexts, layers }: HyperParameters,
  corrections: number,
) {
  const R = corrections * (gate.kind !== 'sequence' && contexts > 0 ? 2 : 1);
  const keptRows = R <= F / 2 ? R : F;
  return { F, D, E: layers.length, R, keptRows, isBySubject: gate.map === 'subject' };
}

/** Keys and values of every block: 2 L K d per token, with K key-value heads. */
export function keyValueBytes(config: ModelConfig, tokens: number): number {
  return FLOAT32 * 2 * config.layers * config.keyValueHeads * config.headWidth * tokens;
}

/** Keys, values and logits of the sequences that are sampled side by side. */
function samplingBytes(config: ModelConfig) {
  const tokens = Math.min(SEQUENCE_TOKENS_MAX, config.contextMax - 1) + 1;
  const sequence = keyValueBytes(config, tokens) + 2 * FLOAT32 * config.vocabulary;
  return sampledTogether(config) * sequence;
}

/**
 * Finding targets. One step records for the backward pass, per row and block above the last edited
 * one, 2 D (the block's input and middle), 2 F (gate and up), H d (queries) and the attention
 * weights, and per sequence keys and values. It takes [N, V] five times where tokens are predicted,
 * and the base distribution twice. In addition there are the keys and values of the tokens before
 * the subject for every form of every prompt, and again for those in the step.
 */
function targetsBytes(config: ModelConfig, parameters: HyperParameters, edits: number) {
  const { residualWidth: D, mlpWidth: F, heads: H, headWidth: d, vocabulary: V } = config;
  const { before, after, target } = CORRECTION_TOKENS;
  const upper = config.layers - 1 - Math.max(...parameters.layers);
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
 * A pass of 64 prompts: keys and values twice (before and after a step), logits and their softmax,
 * one block's MLP.
 */
function probesBytes(config: ModelConfig) {
  const tokens = PROBES_TOGETHER * PROBE_TOKENS;
  const computed = 3 * PROBES_TOGETHER * config.vocabulary + 5 * tokens * config.mlpWidth;
  return 2 * keyValueBytes(config, tokens) + FLOAT32 * computed;
}

/**
 * The embedded broker and server, `errata up`, `ingest` and `workflow-worker` together, measured on
 * Linux.
 */
export const OTHER_PROCESSES_BYTES = 1.2e9;
/** Numbers of corrections for which a hook's size is reported. */
const HOOK_SIZES = [0, 300, 2_000];
const FLOAT32 = 4;
const FLOAT64 = 8;
/** A process with only the addon loaded, measured on Linux with the CPU build. */
const RUNTIME_BYTES = 420e6;
/**
 * Ratio of a process's memory to its tensors: measured 1.08 (loaded) to 1.2 (editing in batches of
 * 10) with SmolLM2-135M on the CPU build.
 */
const ALLOCATOR_FACTOR = 1.15;
/** Strings and maps of the vocabulary and its merges. */
const TOKENISER_BYTES_PER_TOKEN = 800;
/** Number of [F, F] float64 matrices besides C0 while a block's factor and inverse are made. */
const INVERTING_MATRICES = 5;
/** One question and its answer. */
const ANSWER_TOKENS = 2_048;
/** A typical correction: up to the subject's last token, from there to the end, the target. */
const CORRECTION_TOKENS = { before: 20, after: 8, target: 2 };
const PROBES_TOGETHER = 64;
const PROBE_TOKENS = 24;
