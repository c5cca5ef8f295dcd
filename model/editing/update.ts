/**
 * From targets to pairs: the closed-form update of one batch, edited block by edited block, lowest
 * first (i of m): keys K_i at the subject's last token (one of the bare prompt and the mean of the
 * prefixed ones: a key averaged over both, as in the papers, explains neither well enough for a
 * gate to tell own prompts from near ones), current hidden state h at block L, residual R = (Z - H)
 * / (m - i), and in joint least squares over all corrections the hook that takes each key to its
 * wanted change u = (W_h - W0) k + r. What is kept of a correction is its (k, u) per block: F + D
 * numbers each (hook.ts turns any set of them into W_h).
 *
 * While a batch is written the hooks stand open at the subjects' last tokens and shut elsewhere, as
 * the gates of the finished version will have them. Source: arXiv 2403.05330 section 3; MEMIT
 * (arXiv 2210.07229) for the spreading over blocks.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../../schemas/editing.ts';
import { type AttentionPast, disposePast, gatherPast } from '../network/attention-past.ts';
import { readPast } from '../network/decode.ts';
import {
  type DownHook,
  type DownProjection,
  gatherRows,
  type Transformer,
} from '../network/transformer.ts';
import type { PairSet } from '../engine-types.ts';
import type { Hook } from '../hook/hook.ts';
import type { HookCache } from '../hook/hook-cache.ts';
import {
  buildLayer,
  changeOf,
  disposeLayers,
  openRows,
  type LayerHook,
} from '../hook/layer-hook.ts';
import type { Prior } from '../statistics/prior.ts';
import { repeatEach, takeReaches, withReaches } from '../hook/pair-rows.ts';
import { reachesOf } from './reach.ts';
import type { EditSequence, LocatedPrompt } from '../network/sequences.ts';
import type { TokenRows } from '../network/token-rows.ts';
import { lastRow, layOutRows } from '../network/token-rows.ts';

export interface UpdateContext {
  model: Transformer;
  priors: ReadonlyMap<number, Prior>;
  /** The hook that the batch is written on top of, and its pairs; null for none. */
  hook: Hook | null;
  pairs: PairSet | null;
  front: readonly number[];
  contexts: readonly (readonly number[])[];
  gate: GateParameters;
  /** What earlier hooks left behind; without it all is computed anew. */
  cache?: HookCache | undefined;
  /** Called between blocks. */
  between?: () => Promise<void>;
}

/** The pairs of these edits, rows in their order; `targets` is Z [n, D]. */
export async function derivePairs(
  edits: readonly EditSequence[],
  targets: Float32Array,
  context: UpdateContext,
): Promise<{ pairs: PairSet; seconds: { keys: number; solve: number } }> {
  const { model, priors, hook } = context;
  const { residualWidth: D, mlpWidth: F } = model.config;
  const layers = [...priors.keys()].sort((a, b) => a - b);
  const last = layers.at(-1)!;
  const n = edits.length;
  const sight = laySight(edits, last, context);
  const seconds = { keys: 0, solve: 0 };
  const views = context.gate.kind === 'sequence' || sight.contexts === 0 ? 1 : 2;
  const result: PairSet = {
    layers,
    count: n,
    subjects: edits.map(({ subject }) => subject),
    spellings: edits.map(({ spellings }) => spellings),
    keyWidth: views * F,
    valueWidth: views * D,
    keys: [],
    changes: [],
  };
  const open = new OpenAtSubjects(
    new Set(layers),
    new Map(
      layers.flatMap((layer) =>
        hook?.blocks.has(layer) ? [[layer, hook.blocks.get(layer)!]] : [],
      ),
    ),
    sight,
  );

  let hidden = model.embed(sight.rows);
  let reached = 0;
  const advance = (to: number) => {
    const ran = model.run(
      hidden,
      sight.rows,
      { from: reached, to },
      { hook: open, past: sight.past },
    );
    hidden.dispose();
    hidden = ran.hidden;
    reached = to;
  };
  const made: LayerHook[] = [];
  try {
    for (const [i, layer] of layers.entries()) {
      const began = performance.now();
      advance(layer);
      const keysAll = open.recordKeys(layer, () =>
        model
          .run(hidden, sight.rows, { from: layer, to: layer + 1 }, { hook: open, past: sight.past })
          .hidden.dispose(),
      );
      const keys_NF = viewKeys(keysAll, sight, n, F, views);
      const now = hiddenAt(model, hidden, sight, { from: layer, to: last + 1 }, open);
      const keysTensor = tf.tensor2d(keys_NF, [n * views, F]);
      const current = open.blocks.get(layer);
      const before =
        current === undefined
          ? null
          : changeOf(current, keysTensor, repeatEach(result.subjects, views));
      const changes = new Float32Array(n * views * D);
      const had = before?.dataSync();
      for (let edit = 0; edit < n; edit++) {
        for (let view = 0; view < views; view++) {
          for (let d = 0; d < D; d++) {
            const at = (edit * views + view) * D + d;
            changes[at] =
              (had?.[at] ?? 0) +
              (targets[edit * D + d]! - now[edit * D + d]!) / (layers.length - i);
          }
        }
      }
      tf.dispose([keysTensor, ...(before === null ? [] : [before])]);
      result.keys.push(keys_NF);
      result.changes.push(changes);
      const solving = performance.now();
      seconds.keys += (solving - began) / 1000;

      const earlier = context.pairs;
      const at = earlier?.layers.indexOf(layer) ?? -1;
      const allKeys = at < 0 ? keys_NF : joined(earlier!.keys[at]!, keys_NF);
      const allChanges =
        at < 0
          ? changes
          : joined(takeReaches(earlier!.changes[at]!, earlier!.count, D).changes, changes);
      const subjects =
        context.gate.map === 'joint'
          ? null
          : repeatEach(
              at < 0 ? result.subjects : [...earlier!.subjects, ...result.subjects],
              views,
            );
      const block = buildLayer(
        priors.get(layer)!,
        { keys: allKeys, changes: allChanges, subjects },
        context.cache,
      );
      made.push(block);
      open.blocks.set(layer, block);
      seconds.solve += (performance.now() - solving) / 1000;
      await context.between?.();
    }
    if (context.gate.kind === 'sequence') {
      const reaches = reachesOf(model, edits, open.blocks, context.front);
      result.changes = result.changes.map((changes, i) => withReaches(changes, reaches[i]!));
      result.valueWidth += 1;
    }
    return { pairs: result, seconds };
  } finally {
    hidden.dispose();
    disposePast(sight.past);
    disposePast(sight.barePast);
    disposeLayers(made);
  }
}

/**
 * The prompts as they are looked at: up to the subject's last token, bare and behind each context.
 */
interface Sight {
  rows: TokenRows;
  /** What stands before each sequence, read once for all: gates are shut on it. */
  past: AttentionPast | null;
  /** The same before the bare prompts alone. */
  barePast: AttentionPast | null;
  /** Sequence of each (edit, context); context 0 is bare. */
  sequence: (edit: number, context: number) => number;
  contexts: number;
  subjectRows: Uint8Array;
  /** Whose the subject rows are, in their order; and those of the bare prompts alone. */
  subjectsOfRows: string[];
  subjectsOfEdits: string[];
}

function laySight(
  edits: readonly EditSequence[],
  last: number,
  { model, front, contexts }: UpdateContext,
): Sight {
  const until = (prompt: LocatedPrompt) => prompt.tokens.slice(0, prompt.subjectLast + 1);
  const sequences = edits.flatMap((edit) => [
    until(edit.bare),
    ...contexts.map(() => until(edit.behind)),
  ]);
  const width = contexts.length + 1;
  const prefixes = [[...front], ...contexts.map((context) => [...front, ...context])];
  const prefixOf = sequences.map((_, b) => b % width);
  const read = readPast(model, prefixes, { from: 0, to: last + 1 });
  const past = read === null ? null : gatherPast(read, prefixOf);
  const barePast =
    read === null
      ? null
      : gatherPast(
          read,
          edits.map(() => 0),
        );
  disposePast(read);
  const rows = layOutRows(
    sequences,
    prefixOf.map((prefix) => prefixes[prefix]!.length),
  );
  const subjectRows = new Uint8Array(rows.count);
  sequences.forEach((_, b) => (subjectRows[lastRow(rows, b)] = 1));
  return {
    rows,
    past,
    barePast,
    sequence: (edit, c) => edit * width + c,
    contexts: contexts.length,
    subjectRows,
    subjectsOfRows: edits.flatMap(({ subject }) => new Array<string>(width).fill(subject)),
    subjectsOfEdits: edits.map(({ subject }) => subject),
  };
}

class OpenAtSubjects implements DownHook {
  readonly layers: ReadonlySet<number>;
  private recording: { layer: number; keys: tf.Tensor2D | null } | null = null;

  constructor(
    edited: ReadonlySet<number>,
    readonly blocks: Map<number, LayerHook>,
    private readonly sight: Sight,
  ) {
    this.layers = edited;
  }

  recordKeys(layer: number, run: () => void): tf.Tensor2D {
    this.recording = { layer, keys: null };
    run();
    const { keys } = this.recording;
    this.recording = null;
    return keys!;
  }

  project({ layer, keys_RF, base_RD, rows }: DownProjection): tf.Tensor2D {
    if (this.recording?.layer === layer) this.recording.keys = tf.keep(tf.clone(keys_RF));
    const block = this.blocks.get(layer);
    if (block === undefined) return base_RD;
    const opened = rows === this.sight.rows ? this.sight.subjectRows : lastRows(rows);
    const subjects =
      rows === this.sight.rows ? this.sight.subjectsOfRows : this.sight.subjectsOfEdits;
    return openRows(base_RD, opened, (open) => changeOf(block, tf.gather(keys_RF, open), subjects));
  }
}

function lastRows(rows: TokenRows): Uint8Array {
  const opened = new Uint8Array(rows.count);
  for (let b = 0; b < rows.sequences; b++) opened[lastRow(rows, b)] = 1;
  return opened;
}

/**
 * Keys of each edit's views, [n * views, F]: the bare prompt's and the mean over the prefixed ones;
 * or their mean alone.
 */
function viewKeys(
  keys_RF: tf.Tensor2D,
  sight: Sight,
  edits: number,
  F: number,
  views: 1 | 2,
): Float32Array {
  const width = sight.contexts + 1;
  const rows: number[] = [];
  for (let edit = 0; edit < edits; edit++)
    for (let c = 0; c < width; c++) rows.push(lastRow(sight.rows, sight.sequence(edit, c)));
  const values = tf.tidy(() => gatherRows(keys_RF, rows).dataSync() as Float32Array);
  keys_RF.dispose();
  if (sight.contexts === 0) return values.slice();
  const viewed = new Float32Array(edits * views * F);
  for (let edit = 0; edit < edits; edit++) {
    for (let c = 0; c < width; c++) {
      const bare = c === 0;
      const row = views === 1 || bare ? edit * views : edit * views + 1;
      const weight = (bare ? 1 : 1 / sight.contexts) * (views === 1 ? 0.5 : 1);
      for (let f = 0; f < F; f++)
        viewed[row * F + f]! += weight * values[(edit * width + c) * F + f]!;
    }
  }
  return viewed;
}

/** Hidden states [n, D] at the end of the range, at each bare prompt's subject. */
function hiddenAt(
  model: Transformer,
  hidden: tf.Tensor2D,
  sight: Sight,
  range: { from: number; to: number },
  hook: DownHook,
): Float32Array {
  const bare: number[][] = [];
  const picked: number[] = [];
  const { rows } = sight;
  for (let b = 0; b < rows.sequences; b += sight.contexts + 1) {
    bare.push(Array.from(rows.tokens.subarray(rows.starts[b], rows.starts[b + 1])));
    for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++) picked.push(row);
  }
  const bareRows = layOutRows(
    bare,
    bare.map((_, b) => rows.positions[rows.starts[sight.sequence(b, 0)]!]!),
  );
  const from = gatherRows(hidden, picked);
  const ran = model.run(from, bareRows, range, { hook, past: sight.barePast });
  const values = tf.tidy(
    () =>
      gatherRows(
        ran.hidden,
        bare.map((_, b) => lastRow(bareRows, b)),
      )
        .dataSync()
        .slice() as Float32Array,
  );
  tf.dispose([from, ran.hidden]);
  return values;
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
