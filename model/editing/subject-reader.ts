/**
 * Reads the prompts of a batch up to their subjects' last tokens, bare and behind each context,
 * block by block. Hooks are open at those tokens and shut elsewhere.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Hook } from '../hook/hook.ts';
import { changeOf, openRows, type LayerHook } from '../hook/layer-hook.ts';
import { repeatEach } from '../hook/pair-rows.ts';
import { disposePast, gatherPast, type AttentionPast } from '../network/attention-past.ts';
import { readPast } from '../network/decode.ts';
import type { EditSequence, LocatedPrompt } from '../network/sequences.ts';
import { lastRow, layOutRows, type TokenRows, type Sequences } from '../network/token-rows.ts';
import {
  gatherRows,
  rowValues,
  type DownHook,
  type DownProjection,
  type Transformer,
} from '../network/transformer.ts';

interface ReaderContext {
  model: Transformer;
  /** The hook before the batch; null for the base model. */
  hook: Hook | null;
  front: readonly number[];
  contexts: Sequences;
}

export class SubjectReader implements DownHook {
  readonly layers: ReadonlySet<number>;
  readonly blocks: Map<number, LayerHook>;
  readonly #model: Transformer;
  readonly #last: number;
  readonly #subjects: string[];
  /** Sequences per edit: the bare prompt, then the prompt behind each context. */
  readonly #width: number;
  readonly #rows: TokenRows;
  /** The text before each sequence, read once with the gates shut. */
  readonly #past: AttentionPast | null;
  /** The text before the bare prompts. */
  readonly #barePast: AttentionPast | null;
  /** Output of the blocks read so far. */
  #hidden: tf.Tensor2D;
  #reached = 0;
  #recording: { layer: number; keys: tf.Tensor2D | null } | null = null;

  constructor(
    edits: readonly EditSequence[],
    layers: readonly number[],
    { model, hook, front, contexts }: ReaderContext,
  ) {
    this.layers = new Set(layers);
    this.blocks = new Map([...(hook?.blocks ?? [])].filter(([layer]) => this.layers.has(layer)));
    this.#model = model;
    this.#last = layers.at(-1)!;
    this.#subjects = edits.map(({ subject }) => subject);
    this.#width = contexts.length + 1;
    const prefixes = [[...front], ...contexts.map((context) => [...front, ...context])];
    const sequences = edits.flatMap((edit) => [
      untilSubject(edit.bare),
      ...contexts.map(() => untilSubject(edit.behind)),
    ]);
    const prefixOf = sequences.map((_, b) => b % this.#width);
    const read = readPast(model, prefixes, { from: 0, to: this.#last + 1 });
    const pastOf = (of: number[]) => (read === null ? null : gatherPast(read, of));
    this.#past = pastOf(prefixOf);
    this.#barePast = pastOf(edits.map(() => 0));
    disposePast(read);
    this.#rows = layOutRows(
      sequences,
      prefixOf.map((prefix) => prefixes[prefix]!.length),
    );
    this.#hidden = model.embed(this.#rows);
  }

  /** Reads up to but excluding the block. */
  advance(layer: number): void {
    const ran = this.#run({ from: this.#reached, to: layer });
    this.#hidden.dispose();
    this.#hidden = ran;
    this.#reached = layer;
  }

  /**
   * Keys at the next block, [n * views, F]: the bare prompt's and the mean over the prefixed ones,
   * or with one view the mean of both.
   */
  keysAt(layer: number, views: number): Float32Array {
    this.#recording = { layer, keys: null };
    this.#run({ from: layer, to: layer + 1 }).dispose();
    const keys_RF = this.#recording.keys!;
    this.#recording = null;
    const width = this.#width;
    const rows = Array.from({ length: this.#rows.sequences }, (_, b) => lastRow(this.#rows, b));
    const values = rowValues(keys_RF, rows);
    keys_RF.dispose();
    if (width === 1) return values;
    const F = this.#model.config.mlpWidth;
    const viewed = new Float32Array(this.#subjects.length * views * F);
    rows.forEach((_, b) => {
      const [edit, isBare] = [Math.floor(b / width), b % width === 0];
      const row = views === 1 || isBare ? edit * views : edit * views + 1;
      const weight = (isBare ? 1 : 1 / (width - 1)) * (views === 1 ? 0.5 : 1);
      for (let f = 0; f < F; f++) viewed[row * F + f]! += weight * values[b * F + f]!;
    });
    return viewed;
  }

  /** Hidden states [n, D] after the last edited block, at each bare prompt's subject. */
  hiddenAtLast(): Float32Array {
    const { starts, tokens, positions } = this.#rows;
    const bare = this.#subjects.map((_, edit) => edit * this.#width);
    const picked = bare.flatMap((b) =>
      Array.from({ length: starts[b + 1]! - starts[b]! }, (_, t) => starts[b]! + t),
    );
    const rows = layOutRows(
      bare.map((b) => Array.from(tokens.subarray(starts[b], starts[b + 1]))),
      bare.map((b) => positions[starts[b]!]!),
    );
    const from = gatherRows(this.#hidden, picked);
    const range = { from: this.#reached, to: this.#last + 1 };
    const ran = this.#model.run(from, rows, range, { hook: this, past: this.#barePast });
    const last = bare.map((_, b) => lastRow(rows, b));
    const values = rowValues(ran.hidden, last);
    tf.dispose([from, ran.hidden]);
    return values;
  }

  project({ layer, keys_RF, base_RD, rows }: DownProjection): tf.Tensor2D {
    if (this.#recording?.layer === layer) this.#recording.keys = tf.keep(tf.clone(keys_RF));
    const block = this.blocks.get(layer);
    if (block === undefined) return base_RD;
    const opened = new Uint8Array(rows.count);
    for (let b = 0; b < rows.sequences; b++) opened[lastRow(rows, b)] = 1;
    const perEdit = rows.sequences / this.#subjects.length;
    const subjects = repeatEach(this.#subjects, perEdit);
    return openRows(base_RD, opened, (open) => changeOf(block, tf.gather(keys_RF, open), subjects));
  }

  dispose(): void {
    this.#hidden.dispose();
    disposePast(this.#past);
    disposePast(this.#barePast);
  }

  #run(range: { from: number; to: number }): tf.Tensor2D {
    const options = { hook: this, past: this.#past };
    return this.#model.run(this.#hidden, this.#rows, range, options).hidden;
  }
}

function untilSubject(prompt: LocatedPrompt): number[] {
  return prompt.tokens.slice(0, prompt.subjectLast + 1);
}
