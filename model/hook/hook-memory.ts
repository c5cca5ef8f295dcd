/**
 * What stays of one hook for the next. A version shares all but its last few pairs with the version
 * before it, so pairs are taken in blocks of `BLOCK_PAIRS` in the order of the set, and what was
 * computed of whole blocks is kept under the hash of all pairs up to there. A hook then costs what
 * its last, unfinished block costs, however many pairs came before.
 *
 * Nothing depends on what happened to be kept: sums run over the same blocks in the same order
 * either way, so a hook is the same numbers, bit for bit, as when it is computed from nothing.
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
import { SubjectMemory } from './subject-map.ts';

/** A0 + K^T K [F, F] and K^T U [F, D]. */
export interface Moments {
  readonly keys: Matrix64;
  readonly cross: Matrix64;
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
  /** What was solved of single subjects. */
  readonly subjects = new SubjectMemory();
  /** Hash of all pairs up to and including each whole block. */
  readonly #digests: string[] = [];
  readonly #blocks: PairBlock[] = [];
  #moments: (Moments & { blocks: number }) | null = null;

  constructor(private readonly prior: Prior) {}

  /** The blocks of these rows; the caller owns them (`disposeBlocks`). */
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

  /** Works on the sums over these rows, which are the memory's. */
  withMoments<T>(rows: PairRows, work: (moments: Moments) => T): T {
    const whole = this.#recall(rows);
    // What is kept reaches further than these rows where an older version is built: its sums are
    // made from nothing.
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

  /** Forgets all but the first blocks. */
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

  /** How many whole blocks these rows have; forgets what is of other rows. */
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

/** The sums with some rows more, as new matrices. */
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
