/** A prior without a model, from an arbitrary moment, and pairs for hooks. */
import * as tf from '@tensorflow/tfjs-core';
import type { PairSet } from '../../model/engine-types.ts';
import { cholesky64, free64, scope64, upload64 } from '../../model/tensor/float64.ts';
import type { Prior } from '../../model/statistics/prior.ts';
import { seededRandom } from '../../model/tensor/random.ts';
import {
  flat,
  identity,
  plain,
  product,
  randomDefinite,
  solved,
  sum,
  transposed,
  type Plain,
} from './plain-matrices.ts';

export interface SyntheticPrior {
  prior: Prior;
  /** A0 [F, F], the moment whose inverse the prior is. */
  moment: Plain;
  F: number;
  D: number;
  free(): void;
}

export function syntheticPrior(seed: number, F: number, D: number, layer = 3): SyntheticPrior {
  const random = seededRandom(seed);
  const moment = randomDefinite(F, random);
  const inverse = solved(moment, identity(F));
  const prior_FF = tf.tensor2d(inverse);
  const lower = scope64(() => cholesky64(upload64(flat(moment), F, F)));
  const prior: Prior = {
    layer,
    lower,
    prior_FF,
    residualWidth: D,
    weightNorm: 1 + random(),
    ridge: 0,
  };
  return {
    prior,
    moment,
    F,
    D,
    free() {
      free64(lower);
      prior_FF.dispose();
    },
  };
}

/** A key and the change wanted there. */
export interface Pair {
  key: number[];
  change: number[];
  /** The subject; by default one that no other pair has. */
  subject?: string;
  /** The subject's name in tokens; by default no text names it. */
  spellings?: number[][];
}

/** Numbers that float32 holds exactly, so that the reference works on the same ones. */
export function randomPairs(
  count: number,
  { F, D }: { F: number; D: number },
  random: () => number,
): Pair[] {
  const numbers = (length: number) => Array.from({ length }, () => Math.fround(2 * random() - 1));
  return Array.from({ length: count }, () => ({ key: numbers(F), change: numbers(D) }));
}

export function pairSet(pairs: readonly Pair[], { F, D, prior }: SyntheticPrior): PairSet {
  const keys = Float32Array.from(pairs.flatMap(({ key }) => key));
  const changes = Float32Array.from(pairs.flatMap(({ change }) => change));
  return {
    layers: [prior.layer],
    count: pairs.length,
    subjects: pairs.map(({ subject }, i) => subject ?? `nobody's ${i}`),
    spellings: pairs.map(({ spellings }) => spellings ?? []),
    keyWidth: F,
    valueWidth: D,
    keys: [keys],
    changes: [changes],
  };
}

/** Assigns one of these subjects to each pair at random. */
export function aboutSome(
  pairs: readonly Pair[],
  subjects: readonly string[],
  random: () => number,
): SubjectPair[] {
  return pairs.map((pair) => ({
    ...pair,
    subject: subjects[Math.floor(random() * subjects.length)]!,
  }));
}

export type SubjectPair = Pair & { subject: string };

/** The pairs of each subject, in their order. */
export function bySubject<Of extends { subject: string }>(pairs: readonly Of[]): Map<string, Of[]> {
  const of = new Map<string, Of[]>();
  for (const pair of pairs) of.set(pair.subject, [...(of.get(pair.subject) ?? []), pair]);
  return of;
}

/** W_h - W0 = U^T K (A0 + K^T K)^-1, [D, F], by one dense solve. */
export function denseChange(pairs: readonly Pair[], { moment, F, D }: SyntheticPrior): Plain {
  if (pairs.length === 0) return plain(D, F, () => 0);
  const K = pairs.map(({ key }) => key);
  const U = pairs.map(({ change }) => change);
  const A = sum(moment, product(transposed(K), K));
  return transposed(solved(A, product(transposed(K), U)));
}
