/** The loss of one step of the search for targets, and its gradient by delta. */
import * as tf from '@tensorflow/tfjs-core';
import { gatherPast, disposePast } from '../network/attention-past.ts';
import { crossEntropy } from '../network/cross-entropy.ts';
import type { TokenRows } from '../network/token-rows.ts';
import { backThrough, disposeRecord, gatherRows, type RunRecord } from '../network/transformer.ts';
import { layOutAfter, type Search } from './search-runs.ts';

interface Step {
  chosen: readonly number[];
  /** Unfinished groups; a group's slot is its index here. */
  live: readonly number[];
  /** [groups, D] */
  delta: Float32Array;
}

/** The rows of one step and their losses. */
interface Layout {
  rows: TokenRows;
  hiddenRows: number[];
  /** Slot of the delta added to each row; one past the last slot means none. */
  deltaRow: Int32Array;
  /** Rows that predict target tokens, then rows of essence runs. */
  read: number[];
  targetTokens: number[];
  essenceEdits: number[];
  /** Slot and weight of each read row's loss. */
  slots: number[];
  weights: number[];
}

/** Returns the loss per live group, and its gradient [live, D]. */
export function lossAndGradient(
  search: Search,
  step: Step,
): { loss: Float32Array; gradient: Float32Array } {
  const { parameters } = search.context;
  const layout = layOutStep(search, step);
  const { losses, gradient } = measured(search, step, layout);
  const loss = new Float32Array(step.live.length);
  layout.slots.forEach((s, i) => (loss[s]! += layout.weights[i]! * losses[i]!));
  const D = gradient.length / step.live.length;
  step.live.forEach((g, s) => {
    const delta = step.delta.subarray(g * D, (g + 1) * D);
    const size = Math.hypot(...delta) + 1e-12;
    const decay = parameters.weightDecay / (search.norms[g]! * search.norms[g]!);
    loss[s]! += decay * size;
    for (let d = 0; d < D; d++) gradient[s * D + d]! += (decay * delta[d]!) / size;
  });
  return { loss, gradient };
}

function layOutStep({ runs, groups, firstRow, context }: Search, { chosen, live }: Step): Layout {
  const picked = chosen.map((index) => runs[index]!);
  const rows = layOutAfter(picked);
  const formsOfEdit = new Map<number, number>();
  for (const { kind, edit } of picked)
    if (kind === 'target') formsOfEdit.set(edit, (formsOfEdit.get(edit) ?? 0) + 1);
  const editsInGroup = new Map<number, number>();
  for (const edit of formsOfEdit.keys()) {
    const g = groups.of[edit]!;
    editsInGroup.set(g, (editsInGroup.get(g) ?? 0) + 1);
  }
  const slotOf = new Map(live.map((g, slot) => [g, slot]));
  const deltaRow = new Int32Array(rows.count).fill(live.length);
  const targets: { row: number; token: number; slot: number; weight: number }[] = [];
  const essences: { row: number; edit: number; slot: number; weight: number }[] = [];
  picked.forEach(({ edit, kind, target, predictsFrom }, b) => {
    const begin = rows.starts[b]!;
    const g = groups.of[edit]!;
    const slot = slotOf.get(g)!;
    deltaRow[begin] = slot;
    if (kind === 'essence') {
      const weight = context.parameters.klFactor / editsInGroup.get(g)!;
      essences.push({ row: begin, edit, slot, weight });
      return;
    }
    const weight = 1 / (target.length * formsOfEdit.get(edit)! * editsInGroup.get(g)!);
    target.forEach((token, j) =>
      targets.push({ row: begin + predictsFrom + j, token, slot, weight }),
    );
  });
  const read = [...targets, ...essences];
  return {
    rows,
    hiddenRows: chosen.flatMap((index) => runs[index]!.after.map((_, t) => firstRow[index]! + t)),
    deltaRow,
    read: read.map(({ row }) => row),
    targetTokens: targets.map(({ token }) => token),
    essenceEdits: essences.map(({ edit }) => edit),
    slots: read.map(({ slot }) => slot),
    weights: read.map(({ weight }) => weight),
  };
}

/** Returns the loss of each read row, and the gradient [live, D] of their weighted sum. */
function measured(
  search: Search,
  { chosen, live, delta }: Step,
  { rows, hiddenRows, deltaRow, read, targetTokens, essenceEdits, weights }: Layout,
): { losses: Float32Array; gradient: Float32Array } {
  const { model } = search.context;
  const D = model.config.residualWidth;
  const past = search.past === null ? null : gatherPast(search.past, chosen);
  const fixed_RD = gatherRows(search.hidden, hiddenRows);
  const rowsOfLive = live.flatMap((g) => Array.from(delta.subarray(g * D, (g + 1) * D)));
  const delta_LD = tf.tensor2d(Float32Array.from(rowsOfLive), [live.length, D]);
  // Made outside the tape, so that the forward pass's tensors are freed before the backward pass,
  // except those that the tape saved.
  const essence_NV =
    essenceEdits.length === 0 ? null : gatherRows(essenceDistribution(search), essenceEdits);
  const deltaRow_R = tf.tensor1d(deltaRow, 'int32');
  const hidden_RD = tf.tidy(() =>
    tf.add<tf.Tensor2D>(
      fixed_RD,
      tf.gather(tf.concat([delta_LD, tf.zeros([1, D])], 0), deltaRow_R),
    ),
  );
  const record: RunRecord = { geometry: null, blocks: [] };
  const out = model.run(hidden_RD, rows, upperBlocks(search), { past, record });
  let losses = new Float32Array(0);
  const { value, grad: final_RD } = tf.valueAndGrad((final: tf.Tensor) => {
    const each = crossEntropy(
      model.headWeight(),
      model.finalNorm(gatherRows(final as tf.Tensor2D, read)),
      model.headBias(),
      { tokens: targetTokens, distributions: essence_NV },
    );
    losses = each.dataSync().slice() as Float32Array<ArrayBuffer>;
    return tf.sum<tf.Scalar>(tf.mul(each, tf.tensor1d(weights)));
  })(out.hidden);
  const input_RD = backThrough(model, record, final_RD as tf.Tensor2D);
  const gradient = tf.tidy(() => {
    const sums = tf.unsortedSegmentSum(input_RD, deltaRow_R, live.length + 1);
    return tf.slice(sums, [0, 0], [live.length, D]).dataSync().slice() as Float32Array;
  });
  disposeRecord(record);
  tf.dispose([value, final_RD, input_RD, out.hidden, hidden_RD, deltaRow_R, fixed_RD, delta_LD]);
  essence_NV?.dispose();
  disposePast(past);
  return { losses, gradient };
}

function upperBlocks({ context: { model, parameters } }: Search): { from: number; to: number } {
  return { from: Math.max(...parameters.layers) + 1, to: model.config.layers };
}

/** p_base at every essence run's subject, one row per edit. Computed once, at delta = 0. */
function essenceDistribution(search: Search): tf.Tensor2D {
  if (search.essence_NV !== null) return search.essence_NV;
  const { model } = search.context;
  const { runs, firstRow } = search;
  const indices = [...runs.keys()].filter((i) => runs[i]!.kind === 'essence');
  const past = search.past === null ? null : gatherPast(search.past, indices);
  const rows = layOutAfter(indices.map((i) => runs[i]!));
  const hidden = gatherRows(
    search.hidden,
    indices.map((i) => firstRow[i]!),
  );
  const out = model.run(hidden, rows, upperBlocks(search), { past });
  disposePast(past);
  search.essence_NV = tf.tidy(() => tf.softmax(model.logits(out.hidden)));
  tf.dispose([hidden, out.hidden]);
  return search.essence_NV;
}
