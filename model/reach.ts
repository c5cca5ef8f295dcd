/**
 * The paper's alpha rule, for the `sequence` gate alone: after each batch alpha becomes min(alpha, the smallest over the
 * batch's prompts of the largest z-score in the prompt) (arXiv 2403.05330). The largest z-score of a prompt is its
 * reach; it is stored beside the correction's change as one more number of its row, so that alpha, too, is a function
 * of the set of corrections and not of the order in which they came.
 *
 * The reference takes reaches on unedited activations and then gates behind edited ones; here they are taken behind the
 * edited lower blocks.
 */
import * as tf from '@tensorflow/tfjs-core';
import { scoreKeys } from './gate.ts';
import type { LayerHook } from './hook.ts';
import { changeOf, openRows } from './hook.ts';
import type { EditSequence } from './sequences.ts';
import { layOutRows } from './token-rows.ts';
import type { DownHook, Transformer } from './transformer.ts';

/** Largest z-score over each edit's bare prompt, per edited block in ascending order: [blocks][n]. */
export function reachesOf(model: Transformer, edits: readonly EditSequence[], blocks: ReadonlyMap<number, LayerHook>, front: readonly number[]): Float32Array[] {
  const layers = [...blocks.keys()].sort((a, b) => a - b);
  const rows = layOutRows(edits.map((edit) => [...front, ...edit.bare.tokens]));
  const subjects = new Uint8Array(rows.count);
  edits.forEach((edit, b) => (subjects[rows.starts[b]! + front.length + edit.bare.subjectLast] = 1));
  const reaches: Float32Array[] = [];
  const hook: DownHook = {
    layers: new Set(layers),
    project(layer, keys_RF, base_RD) {
      const block = blocks.get(layer)!;
      const response = tf.matMul<tf.Tensor2D>(keys_RF, block.whitened_NF, false, true);
      const scores = scoreKeys({ kind: 'sequence', floor: 0, referenceQuantile: 1, nearKey: 1 }, block, keys_RF, response, rows);
      reaches.push(Float32Array.from(edits, (_, b) => scores.subarray(rows.starts[b], rows.starts[b + 1]).reduce((most, score) => Math.max(most, score), 0)));
      return openRows(base_RD, changeOf(block, keys_RF), subjects);
    },
  };
  const embedded = model.embed(rows);
  const { hidden } = model.run(embedded, rows, { from: 0, to: layers.at(-1)! + 1 }, { hook });
  tf.dispose([embedded, hidden]);
  return reaches;
}
