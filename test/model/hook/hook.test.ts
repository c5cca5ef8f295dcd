import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { NotPositiveDefinite } from '../../../model/tensor/float64.ts';
import { Hook } from '../../../model/hook/hook.ts';
import { changeOf, nearestPairs } from '../../../model/hook/layer-hook.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import type { GateParameters } from '../../../schemas/hyper-parameters.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import {
  flat,
  frobenius,
  identity,
  product,
  scaled,
  solved,
  sum,
  transposed,
  type Plain,
} from '../plain-matrices.ts';
import {
  denseChange,
  pairSet,
  randomPairs,
  syntheticPrior,
  type Pair,
  type SyntheticPrior,
} from '../synthetic-prior.ts';

/** The change is rounded from the float64 solve to float32, with numbers up to about 10. */
const TOLERANCE = 2e-5;

const ALWAYS: GateParameters = { kind: 'always', map: 'joint', floor: 0 };

let before: number[];
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});
beforeEach(() => {
  before = [raw.liveCount(), tf.memory().numTensors];
});
afterEach(() => {
  expect([raw.liveCount(), tf.memory().numTensors], 'tensors alive').toEqual(before);
});

interface Setting {
  world: SyntheticPrior;
  pairs: Pair[];
  random: () => number;
}

/**
 * Checks a property for random priors and pairs; fast-check prints the seed and the smallest
 * counterexample.
 */
function forAll(holds: (setting: Setting) => void, { pairsMin = 1, runs = 25 } = {}): void {
  const sizes = fc.record({
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
    F: fc.integer({ min: 2, max: 9 }),
    D: fc.integer({ min: 2, max: 6 }),
    count: fc.integer({ min: pairsMin, max: 12 }),
  });
  const property = fc.property(sizes, ({ seed, F, D, count }) => {
    const world = syntheticPrior(seed, F, D);
    const random = seededRandom(seed + 1);
    try {
      holds({ world, pairs: randomPairs(count, world, random), random });
    } finally {
      world.free();
    }
  });
  fc.assert(property, { numRuns: runs });
}

/** W_h - W0 of the hook of these pairs, [D, F] row-major. */
function changeOfSet(pairs: readonly Pair[], world: SyntheticPrior): ArrayLike<number> {
  const hook = Hook.build(
    pairSet(pairs, world),
    new Map([[world.prior.layer, world.prior]]),
    ALWAYS,
  );
  const change = tf.tidy(() =>
    tf
      .transpose(changeOf(hook.blocks.get(world.prior.layer)!, tf.eye(world.F)))
      .dataSync()
      .slice(),
  );
  hook.dispose();
  return change;
}

function build(pairs: readonly Pair[], world: SyntheticPrior, gate = ALWAYS): Hook {
  return Hook.build(pairSet(pairs, world), new Map([[world.prior.layer, world.prior]]), gate);
}

function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** change k, for a dense change [D, F]. */
function times(change: Plain, key: readonly number[]): number[] {
  return product(
    change,
    key.map((value) => [value]),
  ).map(([value]) => value!);
}

it('a hook is the joint least-squares solution, like one dense solve', () => {
  forAll(({ world, pairs }) => {
    expect(
      largestDifference(changeOfSet(pairs, world), flat(denseChange(pairs, world))),
    ).toBeLessThan(TOLERANCE);
  });
});

it('a hook minimises the least-squares objective: its gradient vanishes', () => {
  forAll(({ world, pairs }) => {
    const change = changeOfSet(pairs, world);
    const dense = Array.from({ length: world.D }, (_, d) =>
      Array.from({ length: world.F }, (_, f) => change[d * world.F + f]!),
    );
    // d/dX of |X L|^2 + sum |X k - u|^2, halved: X A0 + sum (X k - u) k^T
    const pull = product(dense, world.moment);
    for (const { key, change: wanted } of pairs) {
      const miss = times(dense, key).map((value, d) => value - wanted[d]!);
      miss.forEach((value, d) => key.forEach((k, f) => (pull[d]![f]! += value * k)));
    }
    expect(largestDifference(flat(pull), new Float64Array(world.D * world.F))).toBeLessThan(
      10 * TOLERANCE,
    );
  });
});

it('a hook equals the result of consecutive batches in any order and grouping', () => {
  forAll(({ world, pairs, random }) => {
    // Each pair asks for a residual r on top of the value under the hook at that time: u = (W_h -
    // W0) k + r.
    const written: Pair[] = [];
    let moment = world.moment;
    let change = denseChange([], world);
    const queue = shuffled(pairs, random);
    while (queue.length > 0) {
      const batch = queue.splice(0, 1 + Math.floor(random() * 4));
      const K = batch.map(({ key }) => key);
      const R = batch.map(({ change: residual }) => residual);
      const before = batch.map(({ key }) => times(change, key));
      // The paper's step: Delta = R K^T (A + K K^T)^-1, A += K K^T.
      moment = sum(moment, product(transposed(K), K));
      change = sum(change, transposed(solved(moment, product(transposed(K), R))));
      batch.forEach(({ key }, i) =>
        written.push({ key, change: R[i]!.map((r, d) => Math.fround(before[i]![d]! + r)) }),
      );
    }
    expect(largestDifference(changeOfSet(written, world), flat(change))).toBeLessThan(TOLERANCE);
  });
});

it('a hook keeps no trace of a removed batch', () => {
  forAll(
    ({ world, pairs, random }) => {
      const kept = shuffled(pairs, random).slice(
        0,
        Math.max(1, pairs.length - 1 - Math.floor(random() * 4)),
      );
      // The contribution of the removed pairs is subtracted from A = A0 + sum k k^T and from S =
      // sum k u^T.
      const gone = pairs.filter((pair) => !kept.includes(pair));
      const brought = (some: readonly Pair[], what: (pair: Pair) => number[]) =>
        product(transposed(some.map(({ key }) => key)), some.map(what));
      const without = (whole: Plain, what: (pair: Pair) => number[]) =>
        gone.length === 0 ? whole : sum(whole, scaled(brought(gone, what), -1));
      const keysOf = ({ key }: Pair) => key;
      const changesOf = ({ change }: Pair) => change;
      const moment = without(sum(world.moment, brought(pairs, keysOf)), keysOf);
      const rest = without(brought(pairs, changesOf), changesOf);
      expect(
        largestDifference(changeOfSet(kept, world), flat(transposed(solved(moment, rest)))),
      ).toBeLessThan(TOLERANCE);
    },
    { pairsMin: 2 },
  );
});

it('a hook does not depend on the order of its pairs', () => {
  forAll(({ world, pairs, random }) => {
    const other = changeOfSet(shuffled(pairs, random), world);
    expect(largestDifference(changeOfSet(pairs, world), other)).toBeLessThan(TOLERANCE);
  });
});

it('a hook reports the norm of its change as a share of the weight’s', () => {
  forAll(({ world, pairs }) => {
    const hook = build(pairs, world);
    const wanted = frobenius(denseChange(pairs, world)) / world.prior.weightNorm;
    expect(Math.abs(hook.report.layers[0]!.editNorm - wanted)).toBeLessThan(1e-6 * (1 + wanted));
    hook.dispose();
  });
});

it('a hook accepts a repeated pair, one key with two values, and a zero key', () => {
  forAll(({ world, pairs }) => {
    const contrary = { key: pairs[0]!.key, change: pairs[0]!.change.map((value) => -value) };
    const nothing = { key: pairs[0]!.key.map(() => 0), change: pairs[0]!.change };
    const many = [...pairs, pairs[0]!, contrary, nothing];
    expect(
      largestDifference(changeOfSet(many, world), flat(denseChange(many, world))),
    ).toBeLessThan(TOLERANCE);
    const hook = build(many, world);
    const block = hook.blocks.get(world.prior.layer)!;
    const nearest = tf.tidy(() => nearestPairs(block, tf.tensor2d(pairs.map(({ key }) => key))));
    pairs.forEach(({ key }, i) => expect(many[nearest[i]!]!.key).toEqual(key));
    hook.dispose();
  });
});

it('a hook names the pair whose key is nearest in the whitened space', () => {
  forAll(({ world, pairs, random }) => {
    const P0 = solved(world.moment, identity(world.F));
    const dot = (a: number[], b: number[]) =>
      times(P0, a).reduce((total, value, f) => total + value * b[f]!, 0);
    const asked = randomPairs(5, world, random).map(({ key }) => key);
    const hook = build(pairs, world);
    const nearest = tf.tidy(() =>
      nearestPairs(hook.blocks.get(world.prior.layer)!, tf.tensor2d(asked)),
    );
    hook.dispose();
    asked.forEach((key, i) => {
      const cosines = pairs.map((pair) => dot(key, pair.key) / Math.sqrt(dot(pair.key, pair.key)));
      expect(cosines[nearest[i]!]! + TOLERANCE).toBeGreaterThanOrEqual(Math.max(...cosines));
    });
  });
});

describe('a hook cannot be built, and leaks nothing,', () => {
  const layers = (worlds: readonly SyntheticPrior[]) =>
    new Map(worlds.map(({ prior }) => [prior.layer, prior]));

  it.each([
    ['a key that is NaN', 'key', Number.NaN],
    ['a key that is infinite', 'key', Number.POSITIVE_INFINITY],
    ['a change that is NaN', 'change', Number.NaN],
    ['a change that is infinite', 'change', Number.NEGATIVE_INFINITY],
  ] as const)('of %s', (_, part, value) => {
    const worlds = [syntheticPrior(5, 6, 4, 1), syntheticPrior(6, 6, 4, 2)];
    const pairs = randomPairs(3, worlds[0]!, seededRandom(7));
    const sound = pairSet(pairs, worlds[0]!);
    pairs[1]![part][2] = value;
    const sick = pairSet(pairs, worlds[1]!);
    // The first block is sound: its tensors must be freed as well.
    const both = {
      ...sound,
      layers: [1, 2],
      keys: [...sound.keys, ...sick.keys],
      changes: [...sound.changes, ...sick.changes],
    };
    expect(() => Hook.build(both, layers(worlds), ALWAYS)).toThrow(NotPositiveDefinite);
    for (const world of worlds) world.free();
  });

  it('for a block that these parameters do not edit', () => {
    const worlds = [syntheticPrior(5, 6, 4, 1)];
    const one = pairSet(randomPairs(3, worlds[0]!, seededRandom(7)), worlds[0]!);
    const both = {
      ...one,
      layers: [1, 9],
      keys: [...one.keys, ...one.keys],
      changes: [...one.changes, ...one.changes],
    };
    expect(() => Hook.build(both, layers(worlds), ALWAYS)).toThrow(/block 9/);
    for (const world of worlds) world.free();
  });
});
