/**
 * Turns targets into pairs: the closed-form update of one batch, one edited block at a time, lowest
 * first (i of m). Keys K_i are taken at the subject's last token, h is the current hidden state at
 * block L, and the residual is R = (Z - H) / (m - i). Joint least squares over all corrections
 * gives the hook that maps each key to its wanted change u = (W_h - W0) k + r. A correction is
 * stored as its (k, u) per block: F + D numbers per view. hook.ts turns any set of them into W_h.
 *
 * A correction has two views, the bare prompt and the mean over the prefixed ones. A key averaged
 * over both, as in the papers, matches neither well enough for a gate to tell a correction's own
 * prompts from near ones. The paper's `sequence` gate uses that one averaged key.
 *
 * While a batch is written, the hooks are open at the subjects' last tokens and shut elsewhere, as
 * the gates of the finished version will be. Sources: arXiv 2403.05330 section 3; MEMIT (arXiv
 * 2210.07229) for the spreading over blocks.
 */
import type { Sequences } from '../network/token-rows.ts';
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../../schemas/hyper-parameters.ts';
import type { PairSet } from '../engine-types.ts';
import type { HookCache } from '../hook/hook-cache.ts';
import type { Hook } from '../hook/hook.ts';
import { buildLayer, changeOf, disposeLayers, type LayerHook } from '../hook/layer-hook.ts';
import { repeatEach, takeReaches, withReaches } from '../hook/pair-rows.ts';
import type { EditSequence } from '../network/sequences.ts';
import type { Transformer } from '../network/transformer.ts';
import type { Prior } from '../statistics/prior.ts';
import { reachesOf } from './reach.ts';
import { SubjectReader } from './subject-reader.ts';

interface UpdateContext {
  model: Transformer;
  priors: ReadonlyMap<number, Prior>;
  /** The hook before the batch, and its pairs; null for the base model. */
  hook: Hook | null;
  pairs: PairSet | null;
  front: readonly number[];
  contexts: Sequences;
  gate: GateParameters;
  cache?: HookCache | undefined;
  between?: () => Promise<void>;
}

/** Derives the pairs of these edits, with rows in the same order. `targets` is Z [n, D]. */
export async function derivePairs(
  edits: readonly EditSequence[],
  targets: Float32Array,
  context: UpdateContext,
): Promise<{ pairs: PairSet; seconds: { keys: number; solve: number } }> {
  const { model, priors, gate } = context;
  const layers = [...priors.keys()].sort((a, b) => a - b);
  const views = gate.kind === 'sequence' || context.contexts.length === 0 ? 1 : 2;
  const made: PairSet = {
    layers,
    count: edits.length,
    subjects: edits.map(({ subject }) => subject),
    spellings: edits.map(({ spellings }) => spellings),
    keyWidth: views * model.config.mlpWidth,
    valueWidth: views * model.config.residualWidth,
    keys: [],
    changes: [],
  };
  const seconds = { keys: 0, solve: 0 };
  const reader = new SubjectReader(edits, layers, context);
  const blocks: LayerHook[] = [];
  try {
    for (const [i, layer] of layers.entries()) {
      const began = performance.now();
      reader.advance(layer);
      const keys = reader.keysAt(layer, views);
      const changes = wantedChanges(made.subjects, {
        keys,
        targets,
        current: reader.hiddenAtLast(),
        block: reader.blocks.get(layer),
        blocksLeft: layers.length - i,
        views,
      });
      made.keys.push(keys);
      made.changes.push(changes);
      const solving = performance.now();
      seconds.keys += (solving - began) / 1000;
      const block = buildWithEarlier(priors.get(layer)!, made, context);
      blocks.push(block);
      reader.blocks.set(layer, block);
      seconds.solve += (performance.now() - solving) / 1000;
      await context.between?.();
    }
    if (gate.kind !== 'sequence') return { pairs: made, seconds };
    const reaches = reachesOf(model, edits, reader.blocks, context.front);
    const changes = made.changes.map((rows, i) => withReaches(rows, reaches[i]!));
    return { pairs: { ...made, changes, valueWidth: made.valueWidth + 1 }, seconds };
  } finally {
    reader.dispose();
    disposeLayers(blocks);
  }
}

interface Wanted {
  /** [n * views, F] */
  keys: Float32Array;
  /** Z [n, D] */
  targets: Float32Array;
  /** H [n, D] */
  current: Float32Array;
  /** The hook that the keys have passed through. */
  block: LayerHook | undefined;
  /** m - i */
  blocksLeft: number;
  views: number;
}

/** u = (W_h - W0) k + (Z - H) / (m - i) of each view, [n * views, D]. */
function wantedChanges(
  subjects: readonly string[],
  { keys, targets, current, block, blocksLeft, views }: Wanted,
): Float32Array {
  const rows = subjects.length * views;
  const D = targets.length / subjects.length;
  const keys_RF = tf.tensor2d(keys, [rows, keys.length / rows]);
  const before = block === undefined ? null : changeOf(block, keys_RF, repeatEach(subjects, views));
  const had = before?.dataSync();
  keys_RF.dispose();
  before?.dispose();
  return Float32Array.from({ length: rows * D }, (_, at) => {
    const wanted = Math.floor(at / (views * D)) * D + (at % D);
    return (had?.[at] ?? 0) + (targets[wanted]! - current[wanted]!) / blocksLeft;
  });
}

/** Builds the hook of the newest block in `made` from the earlier pairs and those made. */
function buildWithEarlier(
  prior: Prior,
  { keys, changes, subjects, keyWidth }: PairSet,
  { pairs: earlier, gate, cache }: UpdateContext,
): LayerHook {
  const at = earlier?.layers.indexOf(prior.layer) ?? -1;
  const before =
    at < 0
      ? { keys: new Float32Array(0), changes: new Float32Array(0), subjects: [] }
      : {
          keys: earlier!.keys[at]!,
          changes: takeReaches(earlier!.changes[at]!, earlier!.count, prior.residualWidth).changes,
          subjects: earlier!.subjects,
        };
  const all = {
    keys: joined(before.keys, keys.at(-1)!),
    changes: joined(before.changes, changes.at(-1)!),
    subjects:
      gate.map === 'joint'
        ? null
        : repeatEach([...before.subjects, ...subjects], keyWidth / prior.lower.rows),
  };
  return buildLayer(prior, all, cache);
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
