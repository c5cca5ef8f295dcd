/** Random priors with pairs of several subjects, and the maps of their hooks. */
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { expect } from 'vitest';
import {
  buildLayer,
  changeOf,
  disposeLayers,
  type LayerHook,
} from '../../../model/hook/layer-hook.ts';
import type { HookCache } from '../../../model/hook/hook-cache.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { flat, frobenius, scaled, sum, type Plain } from '../plain-matrices.ts';
import {
  aboutSome,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
  bySubject,
} from '../synthetic-prior.ts';

export /** Pairs in all as a share of F. */
const FILLINGS = [0.2, 0.5, 1, 2, 6];
export const NAMES = ['a', 'b', 'c', 'd'];

interface Setting {
  world: SyntheticPrior;
  pairs: SubjectPair[];
  random: () => number;
}

/**
 * Checks a property for random priors, pairs and subjects; fast-check prints the seed and the
 * smallest counterexample.
 */
export function forAll(holds: (setting: Setting) => void, runs = 25): void {
  const sizes = fc.record({
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
    F: fc.integer({ min: 4, max: 24 }),
    D: fc.integer({ min: 2, max: 6 }),
    filling: fc.constantFrom(...FILLINGS),
    subjects: fc.integer({ min: 1, max: NAMES.length }),
  });
  const property = fc.property(sizes, ({ seed, F, D, filling, subjects }) => {
    const world = syntheticPrior(seed, F, D);
    const random = seededRandom(seed + 1);
    try {
      holds({
        world,
        pairs: aboutSome(
          randomPairs(Math.max(1, Math.round(filling * F)), world, random),
          NAMES.slice(0, subjects),
          random,
        ),
        random,
      });
    } finally {
      world.free();
    }
  });
  fc.assert(property, { numRuns: runs });
}

export function build(
  pairs: readonly SubjectPair[],
  { prior }: SyntheticPrior,
  cache?: HookCache,
): LayerHook {
  const [keys, changes] = [pairs.map(({ key }) => key), pairs.map(({ change }) => change)].map(
    (rows) => Float32Array.from(rows.flat()),
  ) as [Float32Array, Float32Array];
  return buildLayer(prior, { keys, changes, subjects: pairs.map(({ subject }) => subject) }, cache);
}

/** W_s - W0 of every subject s, [D, F]. */
export function changesOf(
  pairs: readonly SubjectPair[],
  world: SyntheticPrior,
  cache?: HookCache,
): Map<string, Plain> {
  const block = build(pairs, world, cache);
  const changes = new Map(
    [...bySubject(pairs).keys()].map((subject) => [
      subject,
      tf.tidy(() =>
        tf
          .transpose(changeOf(block, tf.eye(world.F), new Array<string>(world.F).fill(subject)))
          .arraySync(),
      ),
    ]),
  );
  disposeLayers([block]);
  return changes;
}

/** (W_s - W0) k for a few keys, the same for every set. */
export function answersOf(
  subject: string,
  pairs: readonly SubjectPair[],
  world: SyntheticPrior,
): number[] {
  const asked = randomPairs(5, world, seededRandom(77)).map(({ key }) => key);
  const block = build(pairs, world);
  const answers = tf.tidy(() => [
    ...changeOf(
      block,
      tf.tensor2d(asked),
      asked.map(() => subject),
    ).dataSync(),
  ]);
  disposeLayers([block]);
  return answers;
}

/**
 * |found - wanted| / |wanted| in the Frobenius norm. K P0 is float32; its rounding errors grow as a
 * subject's pairs exceed the directions of a key. Seen: 1.5e-6 at F pairs, 6e-6 at 2 F, 4e-5 at 6
 * F.
 */
export function toleranceOf(pairs: number, F: number): number {
  return 5e-6 * Math.max(1, (pairs / F) ** 2);
}

export function expectChange(found: Plain, wanted: Plain, pairs: number, subject: string): void {
  expect(apart(found, wanted), subject).toBeLessThan(toleranceOf(pairs, wanted[0]!.length));
}

export function apart(found: Plain, wanted: Plain): number {
  expect([found.length, flat(found).length]).toEqual([wanted.length, flat(wanted).length]);
  const difference = frobenius(sum(found, scaled(wanted, -1)));
  // Two values may nearly cancel.
  return difference / Math.max(frobenius(wanted), 1e-3);
}

export function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Interleaves a and b in proportion, so that both end together. */
export function interleaved<Item>(a: readonly Item[], b: readonly Item[]): Item[] {
  return [
    ...a.map((item, i) => ({ item, at: i / a.length })),
    ...b.map((item, i) => ({ item, at: i / b.length })),
  ]
    .sort((x, y) => x.at - y.at)
    .map(({ item }) => item);
}
