/**
 * What stays of one hook for the next. A version shares all but its last few pairs with the version before it, so pairs
 * are taken in blocks of `BLOCK_PAIRS` in the order of the set, and what was computed of whole blocks is kept under the
 * hash of all pairs up to there. A hook then costs what its last, unfinished block costs, however many pairs came before.
 *
 * Nothing depends on what happened to be kept: sums run over the same blocks in the same order either way, so a hook is
 * the same numbers, bit for bit, as when it is computed from nothing.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import type { Matrix64 } from './float64.ts';
import { add64, free64, keep64, multiply64, scope64, widen64 } from './float64.ts';
import type { Prior } from './prior.ts';

export const BLOCK_PAIRS = 256;

/** What the nearness of tokens to some pairs is asked of. */
export interface PairBlock {
  /** K P0 of the block's pairs, [B, F]. */
  readonly affinity_BF: tf.Tensor2D;
  /** k^T P0 k of each, [B]. */
  readonly energy: Float32Array;
  /** Largest whitened cosine of each token of a known text to a pair of the block; filled when first asked. */
  readonly near: Partial<Record<KnownText, Float32Array>>;
}

/** Texts whose keys a prior holds. */
export type KnownText = 'reference' | 'canary';

/** A0 + K^T K [F, F] and K^T U [F, D]. */
export interface Moments {
  readonly keys: Matrix64;
  readonly cross: Matrix64;
}

/** One edited block's rows: keys [N, F] and changes [N, D], row-major. */
export interface PairRows {
  readonly keys: Float32Array;
  readonly changes: Float32Array;
  readonly count: number;
}

export class HookMemory {
  readonly #layers = new Map<number, LayerMemory>();

  layer(prior: Prior): LayerMemory {
    let memory = this.#layers.get(prior.layer);
    if (memory === undefined) this.#layers.set(prior.layer, (memory = new LayerMemory(prior)));
    return memory;
  }

  dispose(): void {
    for (const memory of this.#layers.values()) memory.dispose();
    this.#layers.clear();
  }
}

export class LayerMemory {
  /** Hash of all pairs up to and including each whole block. */
  readonly #digests: string[] = [];
  readonly #blocks: PairBlock[] = [];
  /** Per whole block, and whole block compared with: the largest cosines. */
  readonly #strangers = new Map<number, Map<number, Float32Array>>();
  #moments: (Moments & { blocks: number }) | null = null;

  constructor(private readonly prior: Prior) {}

  /** The blocks of these rows; the caller owns them (`disposeBlocks`). */
  blocksOf(rows: PairRows): PairBlock[] {
    const whole = this.#recall(rows);
    for (let b = this.#blocks.length; b < whole; b++) this.#blocks.push(pairBlock(this.prior, slice(rows, b)));
    const shared = this.#blocks.slice(0, whole).map((block) => ({ ...block, affinity_BF: tf.clone(block.affinity_BF) }));
    const rest = slice(rows, whole);
    return rest.count === 0 ? shared : [...shared, pairBlock(this.prior, rest)];
  }

  /**
   * Of each correction its first key's largest whitened cosine to a key of another correction, [N / views]; `views` keys in
   * a row are one correction's.
   */
  nearnessOfStrangers(keys: Float32Array, blocks: readonly PairBlock[], views: number): Float32Array {
    const F = this.prior.lower.rows;
    const near = new Float32Array(keys.length / F / views).fill(NOBODY_NEAR);
    const whole = Math.min(this.#blocks.length, Math.floor(keys.length / F / BLOCK_PAIRS));
    blocks.forEach((mine, a) => {
      const firsts = firstKeys(keys, a, F, views);
      blocks.forEach((theirs, b) => {
        const isWhole = a < whole && b < whole;
        const known = isWhole ? this.#strangers.get(a)?.get(b) : undefined;
        const nearest = known ?? nearestStrangers(firsts, mine, theirs, a === b ? views : null);
        if (isWhole && known === undefined) {
          if (!this.#strangers.has(a)) this.#strangers.set(a, new Map());
          this.#strangers.get(a)!.set(b, nearest);
        }
        const first = (a * BLOCK_PAIRS) / views;
        nearest.forEach((value, i) => (near[first + i] = Math.max(near[first + i]!, value)));
      });
    });
    return near;
  }

  /** Works on the sums over these rows, which are the memory's. */
  withMoments<T>(rows: PairRows, work: (moments: Moments) => T): T {
    const whole = this.#recall(rows);
    // What is kept reaches further than these rows where an older version is built: its sums are made from nothing.
    const isOlder = this.#moments !== null && this.#moments.blocks > whole;
    let sums = this.#moments !== null && !isOlder ? this.#moments : { ...this.#nothing(), blocks: 0 };
    try {
      while (sums.blocks < whole) {
        const next = { ...added(sums, slice(rows, sums.blocks)), blocks: sums.blocks + 1 };
        keep64(next.keys, next.cross);
        free64(sums.keys, sums.cross);
        sums = next;
      }
      const rest = slice(rows, whole);
      return scope64(() => work(rest.count === 0 ? sums : added(sums, rest)));
    } finally {
      if (isOlder) free64(sums.keys, sums.cross);
      else this.#moments = sums;
    }
  }

  dispose(): void {
    this.#forget(0);
    this.#dropMoments();
  }

  /** Forgets all but the first blocks. */
  #forget(blocks: number): void {
    for (const { affinity_BF } of this.#blocks.splice(blocks)) affinity_BF.dispose();
    this.#digests.splice(blocks);
    for (const [a, others] of this.#strangers) {
      if (a >= blocks) this.#strangers.delete(a);
      else for (const b of others.keys()) if (b >= blocks) others.delete(b);
    }
    if (this.#moments !== null && this.#moments.blocks > blocks) this.#dropMoments();
  }

  #dropMoments(): void {
    if (this.#moments !== null) free64(this.#moments.keys, this.#moments.cross);
    this.#moments = null;
  }

  #nothing(): Moments {
    const { lower, residualWidth } = this.prior;
    const nothing = scope64(() => ({ keys: multiply64(lower, lower, false, true), cross: zeros64(lower.rows, residualWidth) }));
    keep64(nothing.keys, nothing.cross);
    return nothing;
  }

  /** How many whole blocks these rows have; forgets what is of other rows. */
  #recall(rows: PairRows): number {
    const whole = Math.floor(rows.count / BLOCK_PAIRS);
    let digest = '';
    for (let b = 0; b < whole; b++) {
      const { keys, changes } = slice(rows, b);
      digest = createHash('sha256').update(digest).update(bytesOf(keys)).update(bytesOf(changes)).digest('hex');
      if (this.#digests[b] === digest) continue;
      this.#forget(b);
      this.#digests.push(digest);
    }
    return whole;
  }
}

export function disposeBlocks(blocks: readonly PairBlock[]): void {
  for (const { affinity_BF } of blocks) affinity_BF.dispose();
}

/** The cosine to others of a correction that is alone. */
const NOBODY_NEAR = -1;

/** Each correction's first key in a block of pairs, [B / views, F]. */
function firstKeys(keys: Float32Array, block: number, F: number, views: number): Float32Array {
  const from = block * BLOCK_PAIRS;
  const corrections = Math.min(BLOCK_PAIRS, keys.length / F - from) / views;
  const firsts = new Float32Array(corrections * F);
  for (let i = 0; i < corrections; i++) firsts.set(keys.subarray((from + i * views) * F, (from + i * views + 1) * F), i * F);
  return firsts;
}

/** Largest cosines of first keys to the pairs of a block; where it is their own (`views` given), those of the same correction left out. */
function nearestStrangers(firsts: Float32Array, mine: PairBlock, theirs: PairBlock, views: number | null): Float32Array {
  const F = theirs.affinity_BF.shape[1];
  const corrections = firsts.length / F;
  const width = theirs.energy.length;
  const cosines = tf.tidy(() => tf.matMul(tf.tensor2d(firsts, [corrections, F]), theirs.affinity_BF, false, true).dataSync());
  const perCorrection = mine.energy.length / corrections;
  return Float32Array.from({ length: corrections }, (_, i) => {
    const own = mine.energy[i * perCorrection]!;
    let nearest = NOBODY_NEAR;
    for (let j = 0; j < width; j++) {
      const other = theirs.energy[j]!;
      if ((views !== null && Math.floor(j / views) === i) || !(own > 0) || !(other > 0)) continue;
      nearest = Math.max(nearest, cosines[i * width + j]! / Math.sqrt(own * other));
    }
    return nearest;
  });
}

function pairBlock(prior: Prior, { keys, count }: PairRows): PairBlock {
  return tf.tidy(() => {
    const keys_BF = tf.tensor2d(keys, [count, prior.lower.rows]);
    const affinity_BF = tf.matMul<tf.Tensor2D>(keys_BF, prior.prior_FF);
    return { affinity_BF, energy: tf.sum(tf.mul(affinity_BF, keys_BF), 1).dataSync().slice() as Float32Array, near: {} };
  });
}

function slice({ keys, changes, count }: PairRows, block: number): PairRows {
  const [from, to] = [Math.min(count, block * BLOCK_PAIRS), Math.min(count, (block + 1) * BLOCK_PAIRS)];
  const [F, D] = [keys.length / count, changes.length / count];
  return { keys: keys.subarray(from * F, to * F), changes: changes.subarray(from * D, to * D), count: to - from };
}

/** The sums with some rows more, as new matrices. */
function added({ keys, cross }: Moments, rows: PairRows): Moments {
  return scope64(() => {
    const [K, U] = [matrix64(rows.keys, rows.count), matrix64(rows.changes, rows.count)];
    return { keys: add64(keys, multiply64(K, K, true, false)), cross: add64(cross, multiply64(K, U, true, false)) };
  });
}

/** Row-major float32 numbers as a matrix of so many rows. */
export function matrix64(values: Float32Array, rows: number): Matrix64 {
  const narrow = tf.tensor2d(values, [rows, values.length / rows]);
  const wide = widen64(narrow);
  narrow.dispose();
  return wide;
}

function zeros64(rows: number, columns: number): Matrix64 {
  return matrix64(new Float32Array(rows * columns), rows);
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
