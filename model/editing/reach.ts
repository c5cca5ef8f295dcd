/**
 * The paper's alpha rule, for the `sequence` gate only. After each batch, alpha becomes min(alpha,
 * the smallest over the batch's prompts of the largest z-score in the prompt) (arXiv 2403.05330).
 * The largest z-score of a prompt is its reach. It is stored as one more number in the row of the
 * correction's change, so that alpha also depends only on the set of corrections, not on their
 * order.
 *
 * As in the reference, reaches come from the activations of the unedited model, although edited
 * lower blocks change the sequence that the gate sees.
 */
import { sequenceScores } from '../hook/gate.ts';
import type { LayerHook } from '../hook/layer-hook.ts';
import type { EditSequence } from '../network/sequences.ts';
import { layOutRows } from '../network/token-rows.ts';
import { readKeys, type Transformer } from '../network/transformer.ts';

/** Keeps the prompt that sets alpha above it when its float32 sums are taken in another order. */
const REACH_SHARE = 1 - 1e-5;
/** Reach of a prompt with equal or single scores (NaN in the reference), which lowers no alpha. */
const REACH_OF_NONE = 1e6;

/**
 * Computes the reach of each edit's bare prompt, per edited block in ascending order: [blocks][n].
 */
export function reachesOf(
  model: Transformer,
  edits: readonly EditSequence[],
  blocks: ReadonlyMap<number, LayerHook>,
  front: readonly number[],
): Float32Array[] {
  const rows = layOutRows(edits.map((edit) => [...front, ...edit.bare.tokens]));
  const reaches: Float32Array[] = [];
  readKeys(model, rows, blocks.keys(), (layer, keys_RF) => {
    const scores = sequenceScores(blocks.get(layer)!, keys_RF, rows);
    const largest = edits.map((_, b) =>
      scores
        .subarray(rows.starts[b], rows.starts[b + 1])
        .reduce((most, score) => Math.max(most, score), 0),
    );
    reaches.push(
      Float32Array.from(largest, (score) => (score > 0 ? REACH_SHARE * score : REACH_OF_NONE)),
    );
  });
  return reaches;
}
