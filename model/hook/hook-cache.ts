/**
 * Caches results of one hook for the next. A version shares all but its last few pairs with the
 * version before it. Pairs are therefore taken in blocks of `BLOCK_PAIRS` in the order of the set,
 * and the results for whole blocks are cached under the hash of all pairs up to their end. A hook
 * then costs only its last, unfinished block, however many pairs came before.
 *
 * The numbers do not depend on the cache. Sums run over the same blocks in the same order either
 * way, so a hook is bit for bit the same as one computed without a cache.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import type { Matrix64 } from '../tensor/float64.ts';
import { add64, free64, keep64, multiply64, scope64 } from '../tensor/float64.ts';
import {
  BLOCK_PAIRS,
  blockRows,
  matrix64,
  pairBlock,
  type PairBlock,
  type PairRows,
} from './pair-blocks.ts';
import type { Prior } from '../statistics/prior.ts';
import { SubjectCache } from './subject-map.ts';

/** A0 + K^T K [F, F] and K^T U [F, D]. */
interface Moments {
  readonly keys: Matrix64;
  readonly cross: Matrix64;
}

export class HookCache {
  readonly #layers = new Map<number, LayerCache>();

  layer(prior: Prior): LayerCache {
    let cache = this.#layers.get(prior.layer);
    if (cache === undefined) this.#layers.set(prior.layer, (cache = new LayerCache(prior)));
    return cache;
  }

  dispose(): void {
    for (const cache of this.#layers.values()) cache.dispose();
    this.#layers.clear();
  }
}

/** Runs the work with the given cache, or with a temporary one. */
export function withCache<Result>(
  cache: HookCache | undefined,
  work: (cache: HookCache) => Result,
): Result {
  if (cache !== undefined) return work(cache);
  const own = new HookCache();
  try {
    return work(own);
  } finally {
    own.dispose();
  }
}

export class LayerCache {
  readonly subjects = new SubjectCache();
  /** The hash of all pairs up to and including each whole block. */
  readonly #digests: string[] = [];
  readonly #blocks: PairBlock[] = [];
  #moments: (Moments & { blocks: number }) | null = null;

  constructor(private readonly prior: Prior) {}

  /** The caller owns the blocks (`disposeBlocks`). */
  blocksOf(rows: PairRows): PairBlock[] {
    const whole = this.#recall(rows);
    for (let b = this.#blocks.length; b < whole; b++)
      this.#blocks.push(pairBlock(this.prior, blockRows(rows, b)));
    const shared = this.#blocks
      .slice(0, whole)
      .map((block) => ({ ...block, affinity_BF: tf.clone(block.affinity_BF) }));
    const rest = blockRows(rows, whole);
    return rest.count === 0 ? shared : [...shared, pairBlock(this.prior, rest)];
  }

  /** Calls `work` with the sums over these rows, which the cache still owns. */
  withMoments<T>(rows: PairRows, work: (moments: Moments) => T): T {
    const whole = this.#recall(rows);
    // Sums cached for a newer version cover more rows than these: start again.
    const isOlder = this.#moments !== null && this.#moments.blocks > whole;
    let sums =
      this.#moments !== null && !isOlder ? this.#moments : { ...this.#nothing(), blocks: 0 };
    try {
      while (sums.blocks < whole) {
        const next = { ...added(sums, blockRows(rows, sums.blocks)), blocks: sums.blocks + 1 };
        keep64(next.keys, next.cross);
        free64(sums.keys, sums.cross);
        sums = next;
      }
      const rest = blockRows(rows, whole);
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

  /** Forgets all blocks after the first few. */
  #forget(blocks: number): void {
    for (const { affinity_BF } of this.#blocks.splice(blocks)) affinity_BF.dispose();
    this.#digests.splice(blocks);
    if (this.#moments !== null && this.#moments.blocks > blocks) this.#dropMoments();
  }

  #dropMoments(): void {
    if (this.#moments !== null) free64(this.#moments.keys, this.#moments.cross);
    this.#moments = null;
  }

  #nothing(): Moments {
    const { lower, residualWidth } = this.prior;
    const nothing = scope64(() => ({
      keys: multiply64(lower, lower, false, true),
      cross: zeros64(lower.rows, residualWidth),
    }));
    keep64(nothing.keys, nothing.cross);
    return nothing;
  }

  /** Returns the number of whole blocks in these rows. Forgets the blocks of other rows. */
  #recall(rows: PairRows): number {
    const whole = Math.floor(rows.count / BLOCK_PAIRS);
    let digest = '';
    for (let b = 0; b < whole; b++) {
      const { keys, changes } = blockRows(rows, b);
      digest = createHash('sha256')
        .update(digest)
        .update(bytesOf(keys))
        .update(bytesOf(changes))
        .digest('hex');
      if (this.#digests[b] === digest) continue;
      this.#forget(b);
      this.#digests.push(digest);
    }
    return whole;
  }
}

/** Returns the sums including more rows, as new matrices. */
function added({ keys, cross }: Moments, rows: PairRows): Moments {
  return scope64(() => {
    const [K, U] = [matrix64(rows.keys, rows.count), matrix64(rows.changes, rows.count)];
    return {
      keys: add64(keys, multiply64(K, K, true, false)),
      cross: add64(cross, multiply64(K, U, true, false)),
    };
  });
}

function zeros64(rows: number, columns: number): Matrix64 {
  return matrix64(new Float32Array(rows * columns), rows);
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
