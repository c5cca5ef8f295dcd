/**
 * One map per corrected subject: the least-squares solution over that subject's pairs alone, behind
 * a gate that tells which subject a token ends. With the keys K_s [m, F] and wanted changes
 * U_s [m, D] of subject s as rows, in float64,
 *   W_s - W0 = B_s^T K_s P0,     B_s = (I + K_s P0 K_s^T)^-1 U_s  [m, D].
 * This is the joint least squares (joint-map.ts) under the kernel k^T P0 k' [s = s'], so its
 * algebra holds: any order and grouping of batches gives the same map, and removing a correction
 * leaves no trace. Corrections of different subjects do not interact. None crowds out another,
 * however many there are; a new one changes no answer about another subject; and a version costs
 * only its new pairs. The subject's identity replaces GRACE's nearest codebook entry
 * (arXiv 2211.11031). Each subject keeps the closed form of COMEBA-HK (arXiv 2403.05330).
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import {
  add64,
  cholesky64,
  identity64,
  multiply64,
  narrow32,
  scope64,
  solveCholesky64,
  sum64,
  times64,
  widen64,
} from '../tensor/float64.ts';
import {
  BLOCK_PAIRS,
  COUPLES_TOGETHER_MAX,
  matrix64,
  type PairBlock,
  type PairRows,
} from './pair-blocks.ts';

/** Owns its tensors. */
export interface SubjectMap {
  readonly kind: 'subject';
  /** The subject of each pair, [N]. */
  readonly subjects: readonly string[];
  readonly rowsOf: ReadonlyMap<string, readonly number[]>;
  /** B, with every subject's rows in place: [N, D]. */
  readonly coefficients_ND: tf.Tensor2D;
  /** Largest |W_s - W0|_F. */
  readonly norm: number;
}

/** The solution of a subject, cached under the hash of its pairs. */
interface Solved {
  digest: string;
  /** [m, D] */
  coefficients: Float32Array;
  norm: number;
}

/** Caches the solutions of the last map, so that a new map costs only its new pairs. */
export class SubjectCache {
  #solved = new Map<string, Solved>();

  /**
   * `blocks` holds the blocks of the rows. Throws NotPositiveDefinite on keys that are not finite.
   */
  map(rows: PairRows, subjects: readonly string[], blocks: readonly PairBlock[]): SubjectMap {
    const rowsOf = rowsBySubject(subjects);
    const affinity = blocks.map(({ affinity_BF }) => affinity_BF.dataSync() as Float32Array);
    const [F, D] = [rows.keys.length / rows.count, rows.changes.length / rows.count];
    const coefficients = new Float32Array(rows.count * D);
    const solved = new Map<string, Solved>();
    let norm = 0;
    for (const [subject, own] of rowsOf) {
      const keys = own.map((row) => rows.keys.subarray(row * F, (row + 1) * F));
      const changes = own.map((row) => rows.changes.subarray(row * D, (row + 1) * D));
      const affinities = own.map((row) =>
        affinity[Math.floor(row / BLOCK_PAIRS)]!.subarray(
          (row % BLOCK_PAIRS) * F,
          ((row % BLOCK_PAIRS) + 1) * F,
        ),
      );
      const digest = digestOf([...keys, ...changes, ...affinities]);
      const known = this.#solved.get(subject);
      const one =
        known?.digest === digest
          ? known
          : { digest, ...solve(flat(keys), flat(changes), flat(affinities), own.length) };
      own.forEach((row, i) =>
        coefficients.set(one.coefficients.subarray(i * D, (i + 1) * D), row * D),
      );
      solved.set(subject, one);
      norm = Math.max(norm, Number.isNaN(one.norm) ? Number.POSITIVE_INFINITY : one.norm);
    }
    this.#solved = solved;
    return {
      kind: 'subject',
      subjects,
      rowsOf,
      coefficients_ND: tf.tensor2d(coefficients, [rows.count, D]),
      norm,
    };
  }
}

/** (W_s - W0) k of each key for its subject s, [R, D]. Zero for a subject without pairs. */
export function subjectChange(
  { rowsOf, coefficients_ND }: SubjectMap,
  blocks: readonly PairBlock[],
  keys_RF: tf.Tensor2D,
  subjects: readonly string[],
): tf.Tensor2D {
  const R = keys_RF.shape[0];
  const couples = blocks.map(() => ({ key: [] as number[], pair: [] as number[] }));
  subjects.forEach((subject, key) => {
    for (const pair of rowsOf.get(subject) ?? []) {
      const of = couples[Math.floor(pair / BLOCK_PAIRS)]!;
      of.key.push(key);
      of.pair.push(pair);
    }
  });
  return tf.tidy(() => {
    let change = tf.zeros<tf.Rank.R2>([R, coefficients_ND.shape[1]]);
    couples.forEach(({ key, pair }, b) => {
      for (let from = 0; from < key.length; from += COUPLES_TOGETHER_MAX) {
        const before = change;
        const [rows, pairs] = [
          key.slice(from, from + COUPLES_TOGETHER_MAX),
          pair.slice(from, from + COUPLES_TOGETHER_MAX),
        ];
        change = tf.tidy(() => {
          const keyRows = tf.tensor1d(rows, 'int32');
          const affinity_CF = tf.gather(
            blocks[b]!.affinity_BF,
            tf.tensor1d(
              pairs.map((row) => row - b * BLOCK_PAIRS),
              'int32',
            ),
          );
          const kernel_C1 = tf.sum(tf.mul(tf.gather(keys_RF, keyRows), affinity_CF), 1, true);
          const part_CD = tf.mul(
            kernel_C1,
            tf.gather(coefficients_ND, tf.tensor1d(pairs, 'int32')),
          );
          return tf.add<tf.Tensor2D>(before, tf.unsortedSegmentSum(part_CD, keyRows, R));
        });
      }
    });
    return change;
  });
}

export function rowsBySubject(subjects: readonly string[]): Map<string, number[]> {
  const rowsOf = new Map<string, number[]>();
  subjects.forEach((subject, row) => {
    const of = rowsOf.get(subject);
    if (of === undefined) rowsOf.set(subject, [row]);
    else of.push(row);
  });
  return rowsOf;
}

function solve(keys: Float32Array, changes: Float32Array, affinities: Float32Array, count: number) {
  return scope64(() => {
    const affinity = matrix64(affinities, count);
    const factor = cholesky64(
      add64(multiply64(affinity, matrix64(keys, count), false, true), identity64(count)),
    );
    const narrow = narrow32(solveCholesky64(factor, matrix64(changes, count)));
    const coefficients = narrow.dataSync().slice() as Float32Array;
    const wide = widen64(narrow);
    narrow.dispose();
    // If a subject's changes for one key cancel, rounding may leave a negative number.
    const norm = Math.sqrt(
      Math.max(
        0,
        sum64(
          times64(multiply64(wide, wide, false, true), multiply64(affinity, affinity, false, true)),
        ),
      ),
    );
    return { coefficients, norm };
  });
}

function flat(rows: readonly Float32Array[]): Float32Array {
  const width = rows[0]!.length;
  const all = new Float32Array(rows.length * width);
  rows.forEach((row, i) => all.set(row, i * width));
  return all;
}

function digestOf(rows: readonly Float32Array[]): string {
  const hash = createHash('sha256');
  for (const row of rows) hash.update(new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
  return hash.digest('base64');
}
