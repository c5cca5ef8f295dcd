/** Consecutive least squares in plain float64, the oracle of consecutive editing. */
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { expect } from 'vitest';
import { Hook } from '../../model/hook/hook.ts';
import { changeOf } from '../../model/hook/layer-hook.ts';
import { seededRandom } from '../../model/tensor/random.ts';
import type { GateParameters } from '../../schemas/hyper-parameters.ts';
import {
  flat,
  frobenius,
  identity,
  plain,
  product,
  scaled,
  solved,
  sum,
  transposed,
  type Plain,
} from './plain-matrices.ts';
import {
  aboutSome,
  bySubject,
  denseChange,
  pairSet,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
} from './synthetic-prior.ts';

/** Number of pairs as a share of F. */
export const FILLINGS = [0.1, 0.5, 0.55, 0.9, 1, 1.1, 2, 4];
export const RUNS = 25;
const SUBJECTS = ['a', 'b', 'c'];
export type MapKind = GateParameters['map'];

/** One wish of a batch: to move the value of each key by r from its current value. */
export interface Ask {
  subject: string;
  key: number[];
  residual: number[];
}

interface Setting {
  world: SyntheticPrior;
  asks: Ask[];
  random: () => number;
}

/**
 * Checks a property for random priors and batches; fast-check prints the seed and the smallest
 * counterexample.
 */
export function forAll(
  holds: (setting: Setting) => void,
  { filling, runs = RUNS }: { filling?: number; runs?: number } = {},
): void {
  const sizes = fc.record({
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
    F: fc.integer({ min: 8, max: 32 }),
    D: fc.integer({ min: 2, max: 6 }),
    filling: filling === undefined ? fc.constantFrom(...FILLINGS) : fc.constant(filling),
  });
  const property = fc.property(sizes, ({ seed, F, D, filling }) => {
    const world = syntheticPrior(seed, F, D);
    const random = seededRandom(seed + 1);
    try {
      holds({ world, asks: askOf(Math.max(1, Math.round(filling * F)), world, random), random });
    } finally {
      world.free();
    }
  });
  fc.assert(property, { numRuns: runs });
}

export function askOf(count: number, world: SyntheticPrior, random: () => number): Ask[] {
  return aboutSome(randomPairs(count, world, random), SUBJECTS, random).map(
    ({ subject, key, change }) => ({ subject, key, residual: change }),
  );
}

/** Each map of a set on its own, one below the other: over all items, or over each subject's. */
export function eachMap<Of extends { subject: string }>(
  map: MapKind,
  all: readonly Of[],
  of: (own: Of[]) => Plain,
): Plain {
  if (map === 'joint') return of([...all]);
  const groups = bySubject(all);
  return SUBJECTS.flatMap((subject) => of(groups.get(subject) ?? []));
}

/** The batches reduced to some of their corrections. */
export function among(batches: readonly Ask[][], own: readonly Ask[]): Ask[][] {
  return batches
    .map((batch) => batch.filter((ask) => own.includes(ask)))
    .filter((batch) => batch.length > 0);
}

/** Cuts into at most eight batches. */
export function split(asks: readonly Ask[], random: () => number): Ask[][] {
  const most = Math.max(1, Math.ceil(asks.length / 4));
  const batches: Ask[][] = [];
  for (let at = 0; at < asks.length;) {
    const size = Math.max(Math.ceil(asks.length / 8), 1 + Math.floor(random() * most));
    batches.push(asks.slice(at, at + size));
    at += size;
  }
  return batches;
}

/**
 * The stored pairs of consecutive batches, u = (W_h - W0) k + r with the hook of all earlier
 * batches.
 */
export function writeBatches(
  map: MapKind,
  world: SyntheticPrior,
  batches: readonly Ask[][],
): SubjectPair[][] {
  const written: SubjectPair[][] = [];
  for (const batch of batches) written.push(writeOn(map, written.flat(), world, batch));
  return written;
}

export function writeOn(
  map: MapKind,
  before: readonly SubjectPair[],
  world: SyntheticPrior,
  batch: readonly Ask[],
): SubjectPair[] {
  if (before.length === 0)
    return batch.map(({ subject, key, residual }) => ({ subject, key, change: residual }));
  const hook = build(map, before, world);
  const had = tf.tidy(() =>
    changeOf(
      hook.blocks.get(world.prior.layer)!,
      tf.tensor2d(batch.map(({ key }) => key)),
      batch.map(({ subject }) => subject),
    ).arraySync(),
  );
  hook.dispose();
  return batch.map(({ subject, key, residual }, i) => ({
    subject,
    key,
    change: residual.map((r, d) => Math.fround(r + had[i]![d]!)),
  }));
}

export function writeExactly(
  map: MapKind,
  before: readonly SubjectPair[],
  world: SyntheticPrior,
  batch: readonly Ask[],
): SubjectPair[] {
  return batch.map(({ subject, key, residual }) => {
    const had = product(
      [key],
      transposed(
        denseChange(
          map === 'joint' ? before : before.filter((pair) => pair.subject === subject),
          world,
        ),
      ),
    )[0]!;
    return { subject, key, change: residual.map((r, d) => r + had[d]!) };
  });
}

/**
 * The paper's recursion in float64, Delta = R K^T (A + K K^T)^-1 and A += K K^T, and the pairs that
 * it would store.
 */
export function recursion(
  world: SyntheticPrior,
  batches: readonly Ask[][],
): { change: Plain; pairs: SubjectPair[] } {
  const pairs: SubjectPair[] = [];
  let A = world.moment;
  let change = plain(world.D, world.F, () => 0);
  for (const batch of batches) {
    const [K, R] = [batch.map(({ key }) => key), batch.map(({ residual }) => residual)];
    const had = product(K, transposed(change));
    batch.forEach(({ subject, key, residual }, i) =>
      pairs.push({ subject, key, change: residual.map((r, d) => r + had[i]![d]!) }),
    );
    A = sum(A, product(transposed(K), K));
    change = sum(change, transposed(solved(A, product(transposed(K), R))));
  }
  return { change, pairs };
}

/** W_h - W0 and P = (A0 + K K^T)^-1 by rank-n updates. */
export function woodbury(
  world: SyntheticPrior,
  batches: readonly Ask[][],
): { change: Plain; P: Plain } {
  let P = solved(world.moment, identity(world.F));
  let change = plain(world.D, world.F, () => 0);
  for (const batch of batches) {
    // K [F, n], R [D, n]: G = (I + K^T P K)^-1 K^T P, Delta = R G, P -= (P K) G.
    const K = transposed(batch.map(({ key }) => key));
    const R = transposed(batch.map(({ residual }) => residual));
    const KtP = product(transposed(K), P);
    const G = solved(sum(identity(batch.length), product(KtP, K)), KtP);
    change = sum(change, product(R, G));
    P = sum(P, scaled(product(product(P, K), G), -1));
  }
  return { change, P };
}

function build(map: MapKind, pairs: readonly SubjectPair[], world: SyntheticPrior): Hook {
  return Hook.build(pairSet(pairs, world), new Map([[world.prior.layer, world.prior]]), {
    kind: map === 'joint' ? 'always' : 'subject',
    map,
    floor: 0,
  });
}

/** W_h - W0 of the hook of these pairs, [D, F], one map below the other. */
export function changesOf(
  map: MapKind,
  pairs: readonly SubjectPair[],
  world: SyntheticPrior,
): Plain {
  const hook = build(map, pairs, world);
  const block = hook.blocks.get(world.prior.layer)!;
  const changes = (map === 'joint' ? ['all'] : SUBJECTS).flatMap((subject) =>
    tf.tidy(() =>
      tf
        .transpose(changeOf(block, tf.eye(world.F), new Array<string>(world.F).fill(subject)))
        .arraySync(),
    ),
  );
  hook.dispose();
  return changes;
}

export function apart(found: Plain, wanted: Plain): number {
  expect([found.length, flat(found).length]).toEqual([wanted.length, flat(wanted).length]);
  return frobenius(sum(found, scaled(wanted, -1))) / frobenius(wanted);
}

export function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
