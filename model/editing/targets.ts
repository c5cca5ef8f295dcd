/**
 * What each correction wants at the output of the last edited block L, at its subject's last token:
 * z = h + delta, with
 *   delta = argmin  mean over contexts of -log p(target | context + prompt)
 *                 + klFactor * KL(p_base || p_edited) on "<subject> is a" at the subject's last token
 *                 + weightDecay * |delta| / |h|^2,      |delta| <= clamp * |h|,
 * by Adam (arXiv 2403.05330, after MEMIT, arXiv 2210.07229). All corrections of a batch are found
 * at once, and nothing is computed twice: blocks up to L do not depend on delta and run once;
 * tokens before the subject's last one never change, so their keys and values are kept per block;
 * the shared prefixes are run once for all corrections; only positions that predict a target token
 * meet the vocabulary; finished corrections leave. Corrections of one subject share one delta:
 * their keys are (nearly) the same key, and two wishes for one key fight (MEMIT-Merge, arXiv
 * 2502.07322). So do those in force already, which a caller adds as edits of their own.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { HyperParameters } from '../../schemas/editing.ts';
import { crossEntropy } from '../network/cross-entropy.ts';
import { type AttentionPast, disposePast, gatherPast } from '../network/attention-past.ts';
import { readPast } from '../network/decode.ts';
import {
  backThrough,
  disposeRecord,
  type DownHook,
  gatherRows,
  type RunRecord,
  type Transformer,
} from '../network/transformer.ts';
import { seededRandom } from '../tensor/random.ts';
import type { EditSequence, LocatedPrompt } from '../network/sequences.ts';
import { locate } from '../network/sequences.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { layOutRows } from '../network/token-rows.ts';

export interface TargetSearch {
  /** [n, D], z of each edit in order. */
  values: Float32Array;
  /** Last loss and number of Adam steps, per edit. */
  losses: number[];
  steps: number[];
  seconds: { context: number; targets: number };
}

export interface SearchContext {
  model: Transformer;
  tokenizer: Tokenizer;
  hook: DownHook | null;
  parameters: HyperParameters;
  front: readonly number[];
  /** Prefixes, without front token. */
  contexts: readonly (readonly number[])[];
  progress?:
    | ((progress: { step: number; stepsMax: number; unfinished: number }) => Promise<void> | void)
    | undefined;
}

export async function findTargets(
  edits: readonly EditSequence[],
  search: SearchContext,
): Promise<TargetSearch> {
  const began = performance.now();
  const { model } = search;
  const D = model.config.residualWidth;
  const runs = layOutRuns(edits, search);
  const state = prepare(runs, search);
  const contextSeconds = (performance.now() - began) / 1000;
  try {
    const groups = groupBySubject(edits);
    const anchor = anchors(runs, state.hidden, edits.length, D);
    const optimised = await optimise(runs, state, groups, anchor, search);
    const values = new Float32Array(edits.length * D);
    edits.forEach((_, i) => {
      const delta = optimised.delta.subarray(groups.of[i]! * D, (groups.of[i]! + 1) * D);
      for (let d = 0; d < D; d++) values[i * D + d] = anchor.values[i * D + d]! + delta[d]!;
    });
    return {
      values,
      losses: edits.map((_, i) => optimised.losses[groups.of[i]!]!),
      steps: edits.map((_, i) => optimised.steps[groups.of[i]!]!),
      seconds: {
        context: contextSeconds,
        targets: (performance.now() - began) / 1000 - contextSeconds,
      },
    };
  } finally {
    tf.dispose(state.hidden);
    disposePast(state.past);
    state.baseKl?.dispose();
  }
}

/** One sequence the search looks at: an edit's prompt behind a context, or its "<subject> is a". */
interface Run {
  edit: number;
  /** 0 is the bare prompt. */
  context: number;
  kind: 'target' | 'essence';
  /** Tokens between the context and the subject's last token. */
  before: number[];
  /** From the subject's last token on; the target's last token is not read. */
  after: number[];
  /** Index in `after` of the first position that predicts a target token. */
  predictsFrom: number;
  target: number[];
  /** Position of after[0]. */
  position: number;
}

interface Prepared {
  /** Output of block L for every `after` token of every run, [rows, D]. */
  hidden: tf.Tensor2D;
  /** First row of each run in `hidden`. */
  firstRow: number[];
  /** Upper blocks' keys and values of everything before, per run. */
  past: AttentionPast | null;
  /** p_base at the essence runs' subject, set at the first step: [n, V]. */
  baseKl: tf.Tensor2D | null;
}

interface Groups {
  /** Edit -> group. */
  of: number[];
  count: number;
}

function layOutRuns(edits: readonly EditSequence[], search: SearchContext): Run[] {
  const front = search.front.length;
  return edits.flatMap((edit, i) => {
    const run = (
      context: number,
      prompt: LocatedPrompt,
      kind: Run['kind'],
      target: number[],
    ): Run => {
      const s = prompt.subjectLast;
      const contextLong = context === 0 ? 0 : search.contexts[context - 1]!.length;
      return {
        edit: i,
        context,
        kind,
        before: prompt.tokens.slice(0, s),
        after:
          kind === 'essence'
            ? [prompt.tokens[s]!]
            : [...prompt.tokens.slice(s), ...target.slice(0, -1)],
        predictsFrom: prompt.tokens.length - 1 - s,
        target,
        position: front + contextLong + s,
      };
    };
    const essence = locate(search.tokenizer, `${edit.subject} is a`, 0, edit.subject.length);
    return [
      run(0, edit.bare, 'target', edit.target),
      ...searchedContexts(search).map((_, c) => run(c + 1, edit.behind, 'target', edit.target)),
      run(0, essence, 'essence', []),
    ];
  });
}

/** Runs everything that does not depend on delta. */
function prepare(runs: readonly Run[], search: SearchContext): Prepared {
  const { model, hook } = search;
  const all = { from: 0, to: model.config.layers };
  const lastEdited = Math.max(...search.parameters.layers);
  const prefixes = [
    search.front,
    ...searchedContexts(search).map((context) => [...search.front, ...context]),
  ].map((tokens) => [...tokens]);
  const prefixPast = readPast(model, prefixes, all, { hook });
  const startAt = runs.map((run) => prefixes[run.context]!.length);
  const spread =
    prefixPast === null
      ? null
      : gatherPast(
          prefixPast,
          runs.map((run) => run.context),
        );
  disposePast(prefixPast);
  const beforePast = runs.some((run) => run.before.length > 0)
    ? readPast(
        model,
        runs.map((run) => run.before),
        all,
        { past: spread, hook, startAt },
      )
    : spread;
  if (beforePast !== spread) disposePast(spread);

  const rows = layOutRows(
    runs.map((run) => run.after),
    runs.map((run) => run.position),
  );
  const embedded = model.embed(rows);
  const { hidden } = model.run(
    embedded,
    rows,
    { from: 0, to: lastEdited + 1 },
    { past: beforePast, hook },
  );
  embedded.dispose();
  if (beforePast !== null) {
    for (const [layer, { key, value }] of beforePast.blocks) {
      if (layer > lastEdited) continue;
      tf.dispose([key, value]);
      beforePast.blocks.delete(layer);
    }
  }
  return { hidden, firstRow: runs.map((_, b) => rows.starts[b]!), past: beforePast, baseKl: null };
}

/** h at the bare prompt's subject, per edit: [n, D], and its norm. */
function anchors(
  runs: readonly Run[],
  hidden: tf.Tensor2D,
  edits: number,
  D: number,
): { values: Float32Array; norms: Float64Array } {
  const rows = new Int32Array(edits);
  let row = 0;
  for (const run of runs) {
    if (run.kind === 'target' && run.context === 0) rows[run.edit] = row;
    row += run.after.length;
  }
  const picked = gatherRows(hidden, rows);
  const values = picked.dataSync().slice() as Float32Array;
  picked.dispose();
  const norms = Float64Array.from({ length: edits }, (_, i) =>
    Math.hypot(...values.subarray(i * D, (i + 1) * D)),
  );
  return { values, norms };
}

function groupBySubject(edits: readonly EditSequence[]): Groups {
  const index = new Map<string, number>();
  const of = edits.map((edit) => {
    const known = index.get(edit.subject);
    if (known !== undefined) return known;
    index.set(edit.subject, index.size);
    return index.size - 1;
  });
  return { of, count: index.size };
}

const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

async function optimise(
  runs: readonly Run[],
  state: Prepared,
  groups: Groups,
  anchor: { values: Float32Array; norms: Float64Array },
  search: SearchContext,
): Promise<{ delta: Float32Array; losses: number[]; steps: number[] }> {
  const { model, parameters } = search;
  const D = model.config.residualWidth;
  const random = seededRandom(parameters.seed);
  const delta = new Float32Array(groups.count * D);
  const [first, second] = [new Float32Array(delta.length), new Float32Array(delta.length)];
  const losses = new Array<number>(groups.count).fill(Number.POSITIVE_INFINITY);
  const steps = new Array<number>(groups.count).fill(0);
  const norms = groupNorms(groups, anchor.norms);
  let live = Array.from({ length: groups.count }, (_, g) => g);

  // Where the forms of a prompt take turns, a step's loss is half of what is asked about: the step
  // before has the other half.
  const formsAsked = takesTurns(parameters) ? 2 : 1;
  const before = new Array<number>(groups.count).fill(Number.POSITIVE_INFINITY);
  for (let step = 1; step <= parameters.stepsMax && live.length > 0; step++) {
    const unanswered = new Set(live);
    const forms = formsOf(runs, groups, unanswered, parameters, step, random);
    const chosen = runs
      .map((_, index) => index)
      .filter(
        (index) => forms.has(runs[index]!.context) && unanswered.has(groups.of[runs[index]!.edit]!),
      );
    const { loss, gradient } = lossAndGradient(
      runs,
      chosen,
      state,
      groups,
      live,
      delta,
      norms,
      search,
    );
    const still: number[] = [];
    live.forEach((g, slot) => {
      const asked = forms.size >= formsAsked ? loss[slot]! : (loss[slot]! + before[g]!) / 2;
      before[g] = loss[slot]!;
      losses[g] = Number.isFinite(asked) ? asked : loss[slot]!;
      if (!Number.isFinite(loss[slot]!) || asked < parameters.lossTarget) return;
      still.push(g);
      steps[g] = step;
      for (let d = 0; d < D; d++) {
        const at = g * D + d;
        const slope = gradient[slot * D + d]!;
        first[at] = ADAM.beta1 * first[at]! + (1 - ADAM.beta1) * slope;
        second[at] = ADAM.beta2 * second[at]! + (1 - ADAM.beta2) * slope * slope;
        const [mean, variance] = [
          first[at] / (1 - ADAM.beta1 ** step),
          second[at] / (1 - ADAM.beta2 ** step),
        ];
        delta[at]! -= (parameters.learningRate * mean) / (Math.sqrt(variance) + ADAM.epsilon);
      }
      clampNorm(delta.subarray(g * D, (g + 1) * D), parameters.clamp * norms[g]!);
    });
    live = still;
    await search.progress?.({ step, stepsMax: parameters.stepsMax, unfinished: live.length });
  }
  return { delta, losses, steps };
}

/** Contexts that the turns go round: each costs a pass over every prompt before the first step. */
const TURN_CONTEXTS_MAX = 2;
/** Rows up to which a step costs its kernels more than its rows: both forms are read at once. */
const BOTH_FORMS_ROWS_MAX = 64;

function searchedContexts({ parameters, contexts }: SearchContext): readonly (readonly number[])[] {
  return contexts.slice(0, formsPerPrompt(parameters).prepared - 1);
}

/**
 * The forms of a prompt (0 bare, else behind that context) read in a step: the bare prompt and a
 * few contexts drawn anew, fewer tokens for the same expectation; or the two in turns. "<subject>
 * is a" goes along with the bare prompt.
 */
function formsOf(
  runs: readonly Run[],
  groups: Groups,
  live: ReadonlySet<number>,
  parameters: HyperParameters,
  step: number,
  random: () => number,
): Set<number> {
  const contexts = formsPerPrompt(parameters).prepared - 1;
  const rows = runs.reduce(
    (sum, run) =>
      sum + (run.context === 0 && live.has(groups.of[run.edit]!) ? run.after.length : 0),
    0,
  );
  const isTurn = takesTurns(parameters) && rows > BOTH_FORMS_ROWS_MAX;
  const forms = new Set<number>(isTurn && step % 2 === 0 ? [] : [0]);
  const wanted = isTurn ? 1 : formsPerPrompt(parameters).read;
  while (forms.size < wanted) forms.add(1 + Math.floor(random() * contexts));
  return forms;
}

/**
 * Forms of each prompt that are made ready, and that one step reads at most: the bare prompt, and
 * the prompt behind contexts.
 */
export function formsPerPrompt({
  contexts,
  contextsPerStep,
}: Pick<HyperParameters, 'contexts' | 'contextsPerStep'>): { prepared: number; read: number } {
  const inTurns = takesTurns({ contexts, contextsPerStep });
  return {
    prepared: 1 + (inTurns ? Math.min(contexts, TURN_CONTEXTS_MAX) : contexts),
    read: 1 + Math.min(Math.max(1, contextsPerStep), contexts),
  };
}

function takesTurns({
  contexts,
  contextsPerStep,
}: Pick<HyperParameters, 'contexts' | 'contextsPerStep'>): boolean {
  return contextsPerStep === 0 && contexts > 0;
}

/** Loss per live group, and its gradient [live, D]. */
function lossAndGradient(
  runs: readonly Run[],
  chosen: readonly number[],
  state: Prepared,
  groups: Groups,
  live: readonly number[],
  delta: Float32Array,
  norms: readonly number[],
  search: SearchContext,
): { loss: Float32Array; gradient: Float32Array } {
  const { model, parameters } = search;
  const { residualWidth: D, layers } = model.config;
  const upper = { from: Math.max(...parameters.layers) + 1, to: layers };
  const slotOf = new Map(live.map((g, slot) => [g, slot]));
  const picked = chosen.map((index) => runs[index]!);
  const rows = layOutRows(
    picked.map((run) => run.after),
    picked.map((run) => run.position),
  );

  const hiddenRows: number[] = [];
  const deltaRow = new Int32Array(rows.count).fill(live.length);
  const predicting: number[] = [];
  const wanted: number[] = [];
  const weight: number[] = [];
  const slot: number[] = [];
  const essenceRows: number[] = [];
  const essenceSlots: number[] = [];
  const contextsUsed = new Map<number, number>();
  for (const run of picked)
    if (run.kind === 'target') contextsUsed.set(run.edit, (contextsUsed.get(run.edit) ?? 0) + 1);
  const editsInGroup = new Map<number, number>();
  for (const edit of contextsUsed.keys())
    editsInGroup.set(groups.of[edit]!, (editsInGroup.get(groups.of[edit]!) ?? 0) + 1);

  picked.forEach((run, b) => {
    const begin = rows.starts[b]!;
    const g = groups.of[run.edit]!;
    const first = state.firstRow[chosen[b]!]!;
    run.after.forEach((_, t) => hiddenRows.push(first + t));
    deltaRow[begin] = slotOf.get(g)!;
    if (run.kind === 'essence') {
      essenceRows.push(begin);
      essenceSlots.push(slotOf.get(g)!);
      return;
    }
    run.target.forEach((token, j) => {
      predicting.push(begin + run.predictsFrom + j);
      wanted.push(token);
      weight.push(1 / (run.target.length * contextsUsed.get(run.edit)! * editsInGroup.get(g)!));
      slot.push(slotOf.get(g)!);
    });
  });

  const past = state.past === null ? null : gatherPast(state.past, chosen);
  const fixed_RD = gatherRows(state.hidden, hiddenRows);
  const delta_LD = tf.tensor2d(
    Float32Array.from(live.flatMap((g) => Array.from(delta.subarray(g * D, (g + 1) * D)))),
    [live.length, D],
  );
  const essenceBase = essenceDistribution(model, runs, state, upper, essenceRows.length > 0);
  // Made out here: what the forward pass makes is freed before the backward pass, but for what the
  // tape saved.
  const essence_NV =
    essenceBase === null
      ? null
      : gatherRows(
          essenceBase,
          chosen.filter((i) => runs[i]!.kind === 'essence').map((i) => runs[i]!.edit),
        );
  const deltaRow_R = tf.tensor1d(deltaRow, 'int32');
  const hidden_RD = tf.tidy(() =>
    tf.add<tf.Tensor2D>(
      fixed_RD,
      tf.gather(tf.concat([delta_LD, tf.zeros([1, D])], 0), deltaRow_R),
    ),
  );
  const record: RunRecord = { geometry: null, blocks: [] };
  const out = model.run(hidden_RD, rows, upper, { past, record });
  const slots = [...slot, ...essenceSlots];
  const weights = [
    ...weight,
    ...essenceSlots.map((s) => parameters.klFactor / editsInGroup.get(live[s]!)!),
  ];
  const read = [...predicting, ...essenceRows];
  const lossOf = (final: tf.Tensor): tf.Tensor1D =>
    crossEntropy(
      model.headWeight(),
      model.finalNorm(gatherRows(final as tf.Tensor2D, read)),
      model.headBias(),
      { tokens: wanted, distributions: essence_NV },
    );
  let each: Float32Array | null = null;
  const { value, grad: final_RD } = tf.valueAndGrad((final: tf.Tensor) => {
    const losses = lossOf(final);
    each = losses.dataSync().slice() as Float32Array;
    return tf.sum<tf.Scalar>(tf.mul(losses, tf.tensor1d(weights)));
  })(out.hidden);
  const input_RD = backThrough(model, record, final_RD as tf.Tensor2D);
  const gradient = tf.tidy(
    () =>
      tf
        .slice(
          tf.unsortedSegmentSum(input_RD, deltaRow_R, live.length + 1),
          [0, 0],
          [live.length, D],
        )
        .dataSync()
        .slice() as Float32Array,
  );
  disposeRecord(record);
  tf.dispose([
    value,
    final_RD,
    input_RD,
    out.hidden,
    hidden_RD,
    deltaRow_R,
    fixed_RD,
    delta_LD,
    ...(essence_NV === null ? [] : [essence_NV]),
  ]);
  disposePast(past);

  const loss = new Float32Array(live.length);
  slots.forEach((s, i) => (loss[s]! += weights[i]! * each![i]!));
  live.forEach((g, s) => {
    const size = Math.hypot(...delta.subarray(g * D, (g + 1) * D)) + 1e-12;
    const decay = parameters.weightDecay / (norms[g]! * norms[g]!);
    loss[s]! += decay * size;
    for (let d = 0; d < D; d++) gradient[s * D + d]! += (decay * delta[g * D + d]!) / size;
  });
  return { loss, gradient };
}

/** p_base at every essence run's subject, one row per edit; taken once, at delta = 0. */
function essenceDistribution(
  model: Transformer,
  runs: readonly Run[],
  state: Prepared,
  upper: { from: number; to: number },
  needed: boolean,
): tf.Tensor2D | null {
  if (!needed) return null;
  if (state.baseKl !== null) return state.baseKl;
  const indices = runs.map((_, i) => i).filter((i) => runs[i]!.kind === 'essence');
  const past = state.past === null ? null : gatherPast(state.past, indices);
  const rows = layOutRows(
    indices.map((i) => runs[i]!.after),
    indices.map((i) => runs[i]!.position),
  );
  const hidden = gatherRows(
    state.hidden,
    indices.map((i) => state.firstRow[i]!),
  );
  const out = model.run(hidden, rows, upper, { past });
  disposePast(past);
  state.baseKl = tf.tidy(() => tf.softmax(model.logits(out.hidden)));
  tf.dispose([hidden, out.hidden]);
  return state.baseKl;
}

/** |h| of a group: the mean over its edits. */
function groupNorms(groups: Groups, norms: Float64Array): number[] {
  const sums = new Array<number>(groups.count).fill(0);
  const counts = new Array<number>(groups.count).fill(0);
  groups.of.forEach((g, i) => {
    sums[g]! += norms[i]!;
    counts[g]! += 1;
  });
  return sums.map((sum, g) => sum / counts[g]!);
}

function clampNorm(vector: Float32Array, most: number): void {
  const norm = Math.hypot(...vector);
  if (norm > most) for (let i = 0; i < vector.length; i++) vector[i]! *= most / norm;
}
