/**
 * The sequences that a search for targets reads, with everything that does not depend on delta: the
 * hidden states at block L, and the keys and values of the tokens before a subject.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import type { TargetProgress } from '../engine-types.ts';
import { disposePast, gatherPast, type AttentionPast } from '../network/attention-past.ts';
import { readPast } from '../network/decode.ts';
import { locate, type EditSequence, type LocatedPrompt } from '../network/sequences.ts';
import { layOutRows, type Sequences, type TokenRows } from '../network/token-rows.ts';
import { rowValues, type DownHook, type Transformer } from '../network/transformer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { formsPerPrompt } from './search-forms.ts';

export interface SearchContext {
  model: Transformer;
  tokenizer: Tokenizer;
  hook: DownHook | null;
  parameters: HyperParameters;
  front: readonly number[];
  /** Prefixes, without the front token. */
  contexts: Sequences;
  progress?: ((progress: TargetProgress) => Promise<void> | void) | undefined;
}

/** One sequence: an edit's prompt behind a context, or its "<subject> is a". */
export interface Run {
  edit: number;
  /** 0 is the bare prompt. */
  context: number;
  kind: 'target' | 'essence';
  /** Tokens between the context and the subject's last token. */
  before: number[];
  /** Tokens from the subject's last one on, without the target's last token. */
  after: number[];
  /** Index in `after` of the first position that predicts a target token. */
  predictsFrom: number;
  target: number[];
  position: number;
}

/** Corrections of one subject share one delta. */
export interface Groups {
  of: number[];
  count: number;
}

export interface Search {
  context: SearchContext;
  runs: readonly Run[];
  groups: Groups;
  /** Output of block L for every `after` token of every run, [rows, D]. */
  hidden: tf.Tensor2D;
  firstRow: number[];
  /** Upper blocks' keys and values of all tokens in `before`, per run. */
  past: AttentionPast | null;
  /** h at the bare prompt's subject, per edit: [n, D]. */
  anchors: Float32Array;
  /** |h| of each group: the mean over its edits. */
  norms: number[];
  /** p_base at the essence runs' subject, [n, V]; set by the first step that reads it. */
  essence_NV: tf.Tensor2D | null;
}

export function prepareSearch(edits: readonly EditSequence[], context: SearchContext): Search {
  const runs = layOutRuns(edits, context);
  const groups = groupBySubject(edits);
  const past = readBefore(runs, context);
  const { model, hook, parameters } = context;
  const lastEdited = Math.max(...parameters.layers);
  const rows = layOutAfter(runs);
  const { hidden } = model.read(rows, { past, hook }, { from: 0, to: lastEdited + 1 });
  for (const [layer, { key, value }] of past?.blocks ?? []) {
    if (layer > lastEdited) continue;
    tf.dispose([key, value]);
    past!.blocks.delete(layer);
  }
  const firstRow = runs.map((_, b) => rows.starts[b]!);
  const bareRows = edits.map((_, edit) => firstRow[runs.findIndex((run) => run.edit === edit)]!);
  const anchors = rowValues(hidden, bareRows);
  const norms = groupNorms(groups, anchors);
  return { context, runs, groups, hidden, firstRow, past, anchors, norms, essence_NV: null };
}

/** Lays out the rows of every run's `after` tokens. */
export function layOutAfter(runs: readonly Run[]): TokenRows {
  return layOutRows(
    runs.map((run) => run.after),
    runs.map((run) => run.position),
  );
}

export function disposeSearch({ hidden, past, essence_NV }: Search): void {
  tf.dispose(hidden);
  disposePast(past);
  essence_NV?.dispose();
}

function searchedContexts({ parameters, contexts }: SearchContext): Sequences {
  return contexts.slice(0, formsPerPrompt(parameters).prepared - 1);
}

/** Each edit's bare run comes first, its essence run last. */
function layOutRuns(edits: readonly EditSequence[], search: SearchContext): Run[] {
  const front = search.front.length;
  return edits.flatMap((edit, i) => {
    const run = (context: number, prompt: LocatedPrompt, target: number[] | null): Run => {
      const s = prompt.subjectLast;
      const contextLong = context === 0 ? 0 : search.contexts[context - 1]!.length;
      return {
        edit: i,
        context,
        kind: target === null ? 'essence' : 'target',
        before: prompt.tokens.slice(0, s),
        after:
          target === null
            ? [prompt.tokens[s]!]
            : [...prompt.tokens.slice(s), ...target.slice(0, -1)],
        predictsFrom: prompt.tokens.length - 1 - s,
        target: target ?? [],
        position: front + contextLong + s,
      };
    };
    const essence = locate(search.tokenizer, `${edit.subject} is a`, 0, edit.subject.length);
    return [
      run(0, edit.bare, edit.target),
      ...searchedContexts(search).map((_, c) => run(c + 1, edit.behind, edit.target)),
      run(0, essence, null),
    ];
  });
}

/** Reads the tokens before each run's subject: the shared prefixes once, then each run's own. */
function readBefore(runs: readonly Run[], context: SearchContext): AttentionPast | null {
  const { model, hook, front } = context;
  const all = { from: 0, to: model.config.layers };
  const prefixes = [
    [...front],
    ...searchedContexts(context).map((prefix) => [...front, ...prefix]),
  ];
  const prefixPast = readPast(model, prefixes, all, { hook });
  const contextOf = runs.map((run) => run.context);
  const spread = prefixPast === null ? null : gatherPast(prefixPast, contextOf);
  disposePast(prefixPast);
  if (runs.every((run) => run.before.length === 0)) return spread;
  const startAt = contextOf.map((form) => prefixes[form]!.length);
  const before = runs.map((run) => run.before);
  const past = readPast(model, before, all, { past: spread, hook, startAt });
  disposePast(spread);
  return past;
}

function groupBySubject(edits: readonly EditSequence[]): Groups {
  const index = new Map<string, number>();
  const of = edits.map(({ subject }) => {
    if (!index.has(subject)) index.set(subject, index.size);
    return index.get(subject)!;
  });
  return { of, count: index.size };
}

function groupNorms({ of, count }: Groups, anchors: Float32Array): number[] {
  const D = anchors.length / of.length;
  const sums = new Array<number>(count).fill(0);
  const counts = new Array<number>(count).fill(0);
  of.forEach((g, i) => {
    sums[g]! += Math.hypot(...anchors.subarray(i * D, (i + 1) * D));
    counts[g]! += 1;
  });
  return sums.map((sum, g) => sum / counts[g]!);
}
