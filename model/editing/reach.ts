/**
 * The paper's alpha rule, for the `sequence` gate alone: after each batch alpha becomes min(alpha,
 * the smallest over the batch's prompts of the largest z-score in the prompt) (arXiv 2403.05330).
 * The largest z-score of a prompt is its reach; it is stored beside the correction's change as one
 * more number of its row, so that alpha, too, is a function of the set of corrections and not of
 * the order in which they came.
 *
 * As in the reference, reaches are taken on the activations of the unedited model, though the gate
 * then stands behind edited lower blocks: what an edit below does to the sequence is not in them.
 */
import * as tf from '@tensorflow/tfjs-core';
import { scoreKeys } from '../hook/gate.ts';
import type { LayerHook } from '../hook/hook.ts';
import type { EditSequence } from '../network/sequences.ts';
import { layOutRows } from '../network/token-rows.ts';
import type { DownHook, Transformer } from '../network/transformer.ts';

/**
 * The prompt that sets alpha must still reach it when its float32 sums are taken among other
 * prompts, in another order.
 */
const REACH_SHARE = 1 - 1e-5;
/**
 * Of a prompt whose tokens do not differ or that is one token long: it lowers no alpha (in the
 * reference, not a number).
 */
const REACH_OF_NONE = 1e6;

/**
 * Largest z-score over each edit's bare prompt, per edited block in ascending order: [blocks][n].
 */
export function reachesOf(
  model: Transformer,
  edits: readonly EditSequence[],
  blocks: ReadonlyMap<number, LayerHook>,
  front: readonly number[],
): Float32Array[] {
  const layers = [...blocks.keys()].sort((a, b) => a - b);
  const rows = layOutRows(edits.map((edit) => [...front, ...edit.bare.tokens]));
  const reaches: Float32Array[] = [];
  const hook: DownHook = {
    layers: new Set(layers),
    project({ layer, keys_RF, base_RD }) {
      const block = blocks.get(layer)!;
      const scores = scoreKeys(
        { kind: 'sequence', map: 'joint', floor: 0, referenceQuantile: 1, nearKey: 1 },
        block,
        keys_RF,
        rows,
      );
      const largest = edits.map((_, b) =>
        scores
          .subarray(rows.starts[b], rows.starts[b + 1])
          .reduce((most, score) => Math.max(most, score), 0),
      );
      reaches.push(
        Float32Array.from(largest, (score) => (score > 0 ? REACH_SHARE * score : REACH_OF_NONE)),
      );
      return base_RD;
    },
  };
  const embedded = model.embed(rows);
  const { hidden } = model.run(embedded, rows, { from: 0, to: layers.at(-1)! + 1 }, { hook });
  tf.dispose([embedded, hidden]);
  return reaches;
}
