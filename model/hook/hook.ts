/**
 * The memory-friendly hook of one version: at each edited block a second weight W_h beside the
 * untouched W0, and a gate that chooses per token between W_h k and W0 k. W_h is a pure function of
 * the corrections' pairs, keys K [N, F] and wanted changes U [N, D]: one map for all of them
 * (joint-map.ts), or one for every subject (subject-map.ts). Nothing drifts: every version is
 * computed from its pairs, and no W_h is ever formed. Off the gate the value is the W0 k that the
 * block computed, bit for bit.
 *
 * Sources: COMEBA-HK (arXiv 2403.05330) for hooks and gates; recursive least squares for the set
 * form.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GateParameters } from '../../schemas/editing.ts';
import type { HookReport, PairSet } from '../engine.ts';
import { NotPositiveDefinite } from '../tensor/float64.ts';
import { scaledAffinity, scoreKeys, thresholdOf, whitenedCosines } from './gate.ts';
import { HookMemory, type LayerMemory } from './hook-memory.ts';
import { jointChange, jointMap, type JointMap } from './joint-map.ts';
import { disposeBlocks, type PairBlock, type PairRows } from './pair-blocks.ts';
import type { Prior } from '../statistics/prior.ts';
import { takeReaches } from './pair-rows.ts';
import { rowsBySubject, subjectChange, type SubjectMap } from './subject-map.ts';
import { SubjectNames } from './subject-names.ts';
import { layOutRows, type TokenRows } from '../network/token-rows.ts';
import type { AttentionPast } from '../network/attention-past.ts';
import type { DownHook, DownProjection } from '../network/transformer.ts';

/** One edited block's share of a hook. The tensors are the hook's. */
export interface LayerHook {
  readonly prior: Prior;
  readonly map: JointMap | SubjectMap;
  /** The pairs, for the nearest correction. */
  readonly pairBlocks: readonly PairBlock[];
  /** |W_h - W0|_F / |W0|_F; with maps by subject the largest. */
  readonly editNorm: number;
  threshold: number;
}

/** A token on which a gate opened. */
export interface GateOpening {
  row: number;
  layer: number;
  score: number;
  threshold: number;
  nearestRow: number;
}

export class Hook implements DownHook {
  readonly layers: ReadonlySet<number>;
  readonly report: HookReport;
  /** Told of every row on which a gate opens; `nearest` tells the pair nearest to each of them. */
  observer:
    | ((layer: number, opened: Uint8Array, scores: Float32Array, nearest: () => Int32Array) => void)
    | null = null;
  /**
   * Told of rows that end a corrected subject's name and whose gate stayed shut, by the gate that
   * asks for names: how near it was.
   */
  shutObserver:
    | ((layer: number, shut: readonly { row: number; score: number; nearest: number }[]) => void)
    | null = null;
  /** What the lowest block said of the tokens in hand. */
  private decided: Decision | null = null;

  /** Where subjects are named, and the rows of each one's pairs. */
  private readonly names: SubjectNames;
  private readonly rowsOf: ReadonlyMap<string, readonly number[]>;

  private constructor(
    readonly blocks: ReadonlyMap<number, LayerHook>,
    readonly gate: GateParameters,
    pairs: PairSet,
  ) {
    this.layers = new Set(blocks.keys());
    this.report = {
      corrections: pairs.count,
      layers: [...blocks.values()].map(({ prior, editNorm, threshold }) => ({
        layer: prior.layer,
        editNorm,
        threshold,
      })),
    };
    const views = pairs.keyWidth / this.deciding()[0]!.prior.lower.rows;
    this.names = new SubjectNames(pairs.subjects, pairs.spellings);
    this.rowsOf = rowsBySubject(
      pairs.subjects.flatMap((subject) => new Array<string>(views).fill(subject)),
    );
  }

  /**
   * Computes the hook of a set of one or more pairs; the caller owns it. With a memory it costs
   * what is new in the set. Throws NotPositiveDefinite on pairs that are not finite.
   */
  static build(
    pairs: PairSet,
    priors: ReadonlyMap<number, Prior>,
    gate: GateParameters,
    memory?: HookMemory,
  ): Hook {
    const own = memory ?? new HookMemory();
    const blocks = new Map<number, LayerHook>();
    try {
      pairs.layers.forEach((layer, i) => {
        const prior = priors.get(layer);
        if (prior === undefined)
          throw new Error(`the hook edits block ${layer}, which these parameters do not edit`);
        const { changes, smallest } = takeReaches(
          pairs.changes[i]!,
          pairs.count,
          prior.residualWidth,
        );
        const subjects = subjectsOfPairs(gate, pairs.subjects, pairs.keyWidth / prior.lower.rows);
        const block = buildLayer(prior, { keys: pairs.keys[i]!, changes, subjects }, own);
        blocks.set(layer, block);
        const threshold = thresholdOf(block, gate);
        block.threshold = gate.kind === 'sequence' ? Math.min(threshold, smallest) : threshold;
      });
    } catch (error) {
      disposeLayers(blocks.values());
      throw error;
    } finally {
      if (memory === undefined) own.dispose();
    }
    return new Hook(blocks, gate, pairs);
  }

  /** The blocks whose keys decide: all of them, or the lowest for those above it. */
  deciding(): LayerHook[] {
    const blocks = [...this.blocks.values()];
    return this.gate.kind === 'subject' ? blocks.slice(0, 1) : blocks;
  }

  dispose(): void {
    disposeLayers(this.blocks.values());
  }

  project({ layer, keys_RF, base_RD, rows, past }: DownProjection): tf.Tensor2D {
    const block = this.blocks.get(layer)!;
    const { opened, scores, nearest } = this.decide(block, keys_RF, rows, past);
    if (!opened.includes(1)) return base_RD;
    const open = openedOf(opened);
    const pairs = nearest === null ? null : open.map((row) => nearest[row]!);
    this.observer?.(
      layer,
      opened,
      scores,
      () =>
        pairs ?? tf.tidy(() => nearestPairs(block, tf.gather(keys_RF, tf.tensor1d(open, 'int32')))),
    );
    const subjects =
      block.map.kind === 'joint'
        ? []
        : Array.from(pairs!, (pair) => (block.map as SubjectMap).subjects[pair]!);
    return openRows(base_RD, opened, (indices) =>
      changeOf(block, tf.gather(keys_RF, indices), subjects),
    );
  }

  private decide(
    block: LayerHook,
    keys_RF: tf.Tensor2D,
    rows: TokenRows,
    past: AttentionPast | null,
  ): Decision {
    const first = this.deciding()[0]!;
    if (this.gate.kind === 'subject' && block !== first) {
      if (this.decided?.rows !== rows)
        throw new Error(
          `block ${block.prior.layer} follows the gate of block ${first.prior.layer}, which has not seen these tokens`,
        );
      return this.decided;
    }
    const scored =
      this.gate.kind === 'subject'
        ? this.scoreNamings(block, keys_RF, rows, past)
        : { scores: scoreKeys(this.gate, block, keys_RF, rows), nearest: null };
    const opened = new Uint8Array(rows.count);
    for (let row = 0; row < rows.count; row++) {
      // The first position is the attention sink, the same key under every prompt: never in scope.
      if (scored.scores[row]! >= block.threshold && rows.positions[row] !== 0) opened[row] = 1;
    }
    if (this.shutObserver !== null && scored.nearest !== null) {
      const shut = Array.from(opened.keys()).filter(
        (row) =>
          opened[row] === 0 &&
          rows.positions[row] !== 0 &&
          scored.scores[row]! > Number.NEGATIVE_INFINITY,
      );
      if (shut.length > 0)
        this.shutObserver(
          block.prior.layer,
          shut.map((row) => ({ row, score: scored.scores[row]!, nearest: scored.nearest[row]! })),
        );
    }
    this.decided = { rows, opened, ...scored };
    return this.decided;
  }

  /**
   * Sequences in which a corrected subject is named: where none is, no gate that asks for the name
   * opens.
   */
  sequencesNaming(sequences: readonly (readonly number[])[]): number[] {
    const rows = layOutRows(sequences);
    const namings = this.names.in(rows, null);
    return sequences
      .map((_, b) => b)
      .filter((b) =>
        namings.some(({ row }) => row >= rows.starts[b]! && row < rows.starts[b + 1]!),
      );
  }

  /**
   * Of rows that end a subject's name the largest cosine to that subject's keys, and to which;
   * -infinity where nobody is named.
   */
  private scoreNamings(
    block: LayerHook,
    keys_RF: tf.Tensor2D,
    rows: TokenRows,
    past: AttentionPast | null,
  ): { scores: Float32Array; nearest: Int32Array } {
    const scores = new Float32Array(rows.count).fill(Number.NEGATIVE_INFINITY);
    const nearest = new Int32Array(rows.count);
    const couples = this.names
      .in(rows, past)
      .flatMap(({ row, subjects }) =>
        subjects.flatMap((subject) => this.rowsOf.get(subject)!.map((pair) => ({ row, pair }))),
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
}

interface Decision {
  rows: TokenRows;
  opened: Uint8Array;
  scores: Float32Array;
  /**
   * Of each opened row its subject's pair whose key lies nearest; null where the gate does not tell
   * subjects apart.
   */
  nearest: Int32Array | null;
}

function openedOf(opened: Uint8Array): Int32Array {
  return Int32Array.from(opened.keys()).filter((row) => opened[row] === 1);
}

export function disposeLayers(blocks: Iterable<LayerHook>): void {
  for (const { map, pairBlocks } of blocks) {
    disposeMap(map);
    disposeBlocks(pairBlocks);
  }
}

/**
 * base + change in the opened rows, base itself, bit for bit, elsewhere. `changeOf` gets the opened
 * rows' indices [O] and gives [O, D].
 */
export function openRows(
  base_RD: tf.Tensor2D,
  opened: Uint8Array,
  changeOf: (open: tf.Tensor1D) => tf.Tensor2D,
): tf.Tensor2D {
  const indices = openedOf(opened);
  if (indices.length === 0) return base_RD;
  return tf.tidy((): tf.Tensor2D => {
    const open = tf.tensor1d(indices, 'int32');
    const changed = tf.add(tf.gather(base_RD, open), changeOf(open));
    return tf.tensorScatterUpdate(base_RD, tf.reshape(open, [-1, 1]), changed);
  });
}

/**
 * (W_h - W0) k of each key, [R, D], whatever the gate says; with maps by subject, by that of the
 * subject given for each.
 */
export function changeOf(
  { map, pairBlocks }: LayerHook,
  keys_RF: tf.Tensor2D,
  subjects: readonly string[] = [],
): tf.Tensor2D {
  if (map.kind === 'joint') return jointChange(map, keys_RF);
  if (subjects.length !== keys_RF.shape[0])
    throw new RangeError(`${subjects.length} subjects for ${keys_RF.shape[0]} keys`);
  return subjectChange(map, pairBlocks, keys_RF, subjects);
}

/** The pair whose key is most like each given key, by the cosine in the space whitened by P0. */
export function nearestPairs(block: LayerHook, keys_RF: tf.Tensor2D): Int32Array {
  const nearest = new Int32Array(keys_RF.shape[0]);
  const best = new Float32Array(nearest.length).fill(Number.NEGATIVE_INFINITY);
  let first = 0;
  for (const pairs of block.pairBlocks) {
    const { values, indices } = tf.tidy(() => {
      const affinity = scaledAffinity(pairs, keys_RF);
      return { values: tf.max(affinity, 1).dataSync(), indices: tf.argMax(affinity, 1).dataSync() };
    });
    for (let row = 0; row < nearest.length; row++) {
      if (values[row]! <= best[row]!) continue;
      best[row] = values[row]!;
      nearest[row] = first + indices[row]!;
    }
    first += pairs.energy.length;
  }
  return nearest;
}

/**
 * Pairs of one edited block: keys [N, F] and changes [N, D], row-major, and whose each is where
 * every subject has a map of its own.
 */
export interface BlockPairs {
  keys: Float32Array;
  changes: Float32Array;
  subjects: readonly string[] | null;
}

/**
 * A block's hook before its gate is set (threshold +infinity). Throws NotPositiveDefinite on
 * numbers that are not finite.
 */
export function buildLayer(prior: Prior, pairs: BlockPairs, memory?: HookMemory): LayerHook {
  if (memory !== undefined) return buildOn(memory.layer(prior), prior, pairs);
  const own = new HookMemory();
  try {
    return buildOn(own.layer(prior), prior, pairs);
  } finally {
    own.dispose();
  }
}

/**
 * Whose each pair of a set is, where the gate asks for maps by subject: `views` pairs in a row are
 * one correction's.
 */
export function subjectsOfPairs(
  { map }: GateParameters,
  subjects: readonly string[],
  views: number,
): string[] | null {
  return map === 'joint'
    ? null
    : subjects.flatMap((subject) => new Array<string>(views).fill(subject));
}

function buildOn(memory: LayerMemory, prior: Prior, pairs: BlockPairs): LayerHook {
  const F = prior.lower.rows;
  const rows: PairRows = { keys: pairs.keys, changes: pairs.changes, count: pairs.keys.length / F };
  const pairBlocks = memory.blocksOf(rows);
  let map: JointMap | SubjectMap | null = null;
  try {
    map =
      pairs.subjects === null
        ? jointMap(prior, rows, memory)
        : memory.subjects.map(rows, pairs.subjects, pairBlocks);
    const editNorm = map.norm / prior.weightNorm;
    // A factorisation sees the keys alone; a change that is not finite shows here.
    if (!Number.isFinite(editNorm)) throw new NotPositiveDefinite({ size: rows.count });
    return { prior, map, pairBlocks, editNorm, threshold: Number.POSITIVE_INFINITY };
  } catch (error) {
    disposeBlocks(pairBlocks);
    if (map !== null) disposeMap(map);
    throw error;
  }
}

function disposeMap(map: JointMap | SubjectMap): void {
  tf.dispose(map.kind === 'joint' ? [map.whitened_MF, map.change_MD] : [map.coefficients_ND]);
}
