/**
 * The memory-friendly hook of one version: at each edited block a second weight W_h beside the
 * untouched W0, and a gate that chooses per token between W_h k and W0 k. W_h is a pure function of
 * the corrections' pairs, keys K [N, F] and wanted changes U [N, D]: the joint map of all of them
 * (joint-map.ts), or one map per subject (subject-map.ts). Nothing drifts, because every version is
 * computed from its pairs, and no W_h is ever formed. Where the gate is shut the value is the W0 k
 * that the block computed, bit for bit.
 *
 * Sources: COMEBA-HK (arXiv 2403.05330) for hooks and gates; recursive least squares for the set
 * form.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../../schemas/hyper-parameters.ts';
import type { HookReport, PairSet } from '../engine-types.ts';
import { layOutRows, type TokenRows, type Sequences } from '../network/token-rows.ts';
import type { DownHook, DownProjection } from '../network/transformer.ts';
import type { Prior } from '../statistics/prior.ts';
import { sequenceScores, whitenedCosines } from './gate.ts';
import { withCache, type HookCache } from './hook-cache.ts';
import {
  buildLayer,
  changeOf,
  disposeLayers,
  nearestPairs,
  openedRows,
  openRows,
  type LayerHook,
} from './layer-hook.ts';
import { repeatEach, takeReaches } from './pair-rows.ts';
import { rowsBySubject } from './subject-map.ts';
import { SubjectNames } from './subject-names.ts';

/** Called with every row on which a gate opens. `nearest` returns the pair nearest to each row. */
type OpenObserver = (
  layer: number,
  opened: Uint8Array,
  scores: Float32Array,
  nearest: () => Int32Array,
) => void;

/** Called with rows that end a corrected subject's name while the gate stays shut. */
type ShutObserver = (
  layer: number,
  shut: readonly { row: number; score: number; nearest: number }[],
) => void;

/** Tokens that a gate decides about. */
type Tokens = Pick<DownProjection, 'keys_RF' | 'rows' | 'past'>;

interface Scores {
  scores: Float32Array;
  /** The nearest pair of the row's subject; null if the gate does not distinguish subjects. */
  nearest: Int32Array | null;
}

interface Decision extends Scores {
  rows: TokenRows;
  opened: Uint8Array;
}

export class Hook implements DownHook {
  readonly layers: ReadonlySet<number>;
  readonly report: HookReport;
  openObserver: OpenObserver | null = null;
  /** For the subject gate only. */
  shutObserver: ShutObserver | null = null;
  /** The lowest block's decision on the tokens of the current pass. */
  #decided: Decision | null = null;
  readonly #names: SubjectNames;
  readonly #rowsOf: ReadonlyMap<string, readonly number[]>;

  private constructor(
    readonly blocks: ReadonlyMap<number, LayerHook>,
    readonly thresholds: ReadonlyMap<number, number>,
    readonly gate: GateParameters,
    pairs: PairSet,
  ) {
    this.layers = new Set(blocks.keys());
    this.report = {
      corrections: pairs.count,
      layers: [...blocks].map(([layer, { editNorm }]) => ({
        layer,
        editNorm,
        threshold: thresholds.get(layer)!,
      })),
    };
    this.#names = new SubjectNames(pairs.subjects, pairs.spellings);
    const views = pairs.keyWidth / this.#lowest().prior.lower.rows;
    this.#rowsOf = rowsBySubject(repeatEach(pairs.subjects, views));
  }

  /**
   * Computes the hook of one or more pairs. The caller owns it. With a cache it costs only the
   * set's new pairs. Throws NotPositiveDefinite on pairs that are not finite.
   */
  static build(
    pairs: PairSet,
    priors: ReadonlyMap<number, Prior>,
    gate: GateParameters,
    cache?: HookCache,
  ): Hook {
    const blocks = new Map<number, LayerHook>();
    const thresholds = new Map<number, number>();
    try {
      withCache(cache, (given) =>
        pairs.layers.forEach((layer, i) => {
          const prior = priors.get(layer);
          if (prior === undefined)
            throw new Error(`the hook edits block ${layer}, which these parameters do not edit`);
          const D = prior.residualWidth;
          const { changes, smallest } = takeReaches(pairs.changes[i]!, pairs.count, D);
          const keys = pairs.keys[i]!;
          const views = pairs.keyWidth / prior.lower.rows;
          const subjects = gate.map === 'joint' ? null : repeatEach(pairs.subjects, views);
          blocks.set(layer, buildLayer(prior, { keys, changes, subjects }, given));
          thresholds.set(
            layer,
            gate.kind === 'sequence' ? Math.min(gate.floor, smallest) : gate.floor,
          );
        }),
      );
    } catch (error) {
      disposeLayers(blocks.values());
      throw error;
    }
    return new Hook(blocks, thresholds, gate, pairs);
  }

  dispose(): void {
    disposeLayers(this.blocks.values());
  }

  project({ layer, keys_RF, base_RD, rows, past }: DownProjection): tf.Tensor2D {
    const block = this.blocks.get(layer)!;
    const { opened, scores, nearest } = this.#decide(block, { keys_RF, rows, past });
    if (!opened.includes(1)) return base_RD;
    const open = openedRows(opened);
    const pairs = nearest === null ? null : open.map((row) => nearest[row]!);
    const nearestOf = () =>
      pairs ?? tf.tidy(() => nearestPairs(block, tf.gather(keys_RF, tf.tensor1d(open, 'int32'))));
    this.openObserver?.(layer, opened, scores, nearestOf);
    const { map } = block;
    const subjects = map.kind === 'joint' ? [] : Array.from(pairs!, (pair) => map.subjects[pair]!);
    return openRows(base_RD, opened, (indices) =>
      changeOf(block, tf.gather(keys_RF, indices), subjects),
    );
  }

  /** Returns the indices of the sequences on which a gate may open. */
  mayOpen(sequences: Sequences): number[] {
    const all = [...sequences.keys()];
    if (this.gate.kind !== 'subject') return all;
    const rows = layOutRows(sequences);
    const namings = this.#names.in(rows, null);
    return all.filter((b) =>
      namings.some(({ row }) => row >= rows.starts[b]! && row < rows.starts[b + 1]!),
    );
  }

  #lowest(): LayerHook {
    return this.blocks.values().next().value!;
  }

  #decide(block: LayerHook, tokens: Tokens): Decision {
    const { rows } = tokens;
    const { layer } = block.prior;
    if (this.gate.kind === 'subject' && block !== this.#lowest()) {
      if (this.#decided?.rows === rows) return this.#decided;
      throw new Error(
        `block ${layer} follows the gate of the lowest block, which has not seen these tokens`,
      );
    }
    const scored = this.#score(block, tokens);
    const threshold = this.thresholds.get(layer)!;
    const opened = new Uint8Array(rows.count);
    for (let row = 0; row < rows.count; row++) {
      // The first position is the attention sink, with the same key under every prompt: never in
      // scope.
      if (scored.scores[row]! >= threshold && rows.positions[row] !== 0) opened[row] = 1;
    }
    this.#decided = { rows, opened, ...scored };
    if (this.shutObserver !== null) this.#observeShut(layer, this.#decided);
    return this.#decided;
  }

  #score(block: LayerHook, tokens: Tokens): Scores {
    switch (this.gate.kind) {
      case 'subject':
        return this.#scoreNamings(block, tokens);
      case 'sequence':
        return { scores: sequenceScores(block, tokens.keys_RF, tokens.rows), nearest: null };
      case 'always':
        return { scores: new Float32Array(tokens.rows.count).fill(1), nearest: null };
    }
  }

  /** Rows that end no subject's name score -infinity. */
  #scoreNamings(block: LayerHook, { keys_RF, rows, past }: Tokens): Scores {
    const scores = new Float32Array(rows.count).fill(Number.NEGATIVE_INFINITY);
    const nearest = new Int32Array(rows.count);
    const couples = this.#names
      .in(rows, past)
      .flatMap(({ row, subjects }) =>
        subjects.flatMap((subject) => this.#rowsOf.get(subject)!.map((pair) => ({ row, pair }))),
      );
    if (couples.length === 0) return { scores, nearest };
    whitenedCosines(block, keys_RF, couples).forEach((cosine, c) => {
      const { row, pair } = couples[c]!;
      if (cosine <= scores[row]!) return;
      scores[row] = cosine;
      nearest[row] = pair;
    });
    return { scores, nearest };
  }

  #observeShut(layer: number, { rows, opened, scores, nearest }: Decision): void {
    if (nearest === null) return;
    const shut = Array.from(opened.keys())
      .filter((row) => opened[row] === 0 && rows.positions[row] !== 0 && scores[row]! > -Infinity)
      .map((row) => ({ row, score: scores[row]!, nearest: nearest[row]! }));
    if (shut.length > 0) this.shutObserver!(layer, shut);
  }
}
