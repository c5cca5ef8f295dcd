/**
 * Compares consecutive editing with an oracle that knows no hooks: least squares in plain float64,
 * over all corrections or over those of each subject alone. Every property is checked on sets
 * smaller than, as large as and larger than the F directions of a key, since a hook is computed in
 * another form where pairs are many.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/config/home.ts';
import { seededRandom } from '../../model/tensor/random.ts';
import { loadTensorFlow, raw } from '../../model/tensor/tensorflow.ts';
import { plain, product, scaled, solved, sum, transposed } from './plain-matrices.ts';
import {
  denseChange,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
} from './synthetic-prior.ts';
import {
  RUNS,
  type MapKind,
  type Ask,
  forAll,
  askOf,
  eachMap,
  among,
  split,
  writeBatches,
  writeOn,
  writeExactly,
  recursion,
  woodbury,
  changesOf,
  apart,
  shuffled,
  FILLINGS,
} from './least-squares.ts';

/**
 * |found - wanted| / |wanted| in the Frobenius norm. One map has float32 pairs and factors around a
 * float64 solve (seen: 3e-7). Maps by subject have a float32 K P0, whose rounding errors grow with
 * the pairs of one subject, some 4/3 F at most here (seen: 2e-6).
 */
const CHANGE_TOLERANCE = { joint: 5e-6, subject: 2e-5 };
const MAPS = ['joint', 'subject'] as const;

let alive: number[];
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});
beforeEach(() => {
  alive = [raw.liveCount(), tf.memory().numTensors];
});
afterEach(() => {
  expect([raw.liveCount(), tf.memory().numTensors], 'tensors alive').toEqual(alive);
});

/** Consecutive editing with one map, or with a map per subject. */
function editing(map: MapKind) {
  const write = (world: SyntheticPrior, batches: readonly Ask[][]) =>
    writeBatches(map, world, batches);
  const changeOfSet = (pairs: readonly SubjectPair[], world: SyntheticPrior) =>
    changesOf(map, pairs, world);
  const denseOf = (pairs: readonly SubjectPair[], world: SyntheticPrior) =>
    eachMap(map, pairs, (own) => denseChange(own, world));
  const tolerance = CHANGE_TOLERANCE[map];
  return { write, changeOfSet, denseOf, tolerance };
}

describe.each(MAPS)('consecutive batches (map: %s)', (map) => {
  const { write, changeOfSet, tolerance } = editing(map);

  it("reach the least-squares solution, like the paper's recursion", () => {
    forAll(({ world, asks, random }) => {
      const batches = split(asks, random);
      const ours = write(world, batches);
      // The recursion sees each map's own corrections in their original batches.
      const change = eachMap(map, asks, (own) => recursion(world, among(batches, own)).change);
      const exact = eachMap(map, asks, (own) =>
        denseChange(recursion(world, among(batches, own)).pairs, world),
      );
      expect(apart(exact, change), 'the oracle with itself').toBeLessThan(1e-9);
      expect(apart(changeOfSet(ours.flat(), world), change)).toBeLessThan(tolerance);
    });
  });

  it("reach the same result as Woodbury's update of each map and its P", () => {
    forAll(({ world, asks, random }) => {
      const batches = split(asks, random);
      const change = eachMap(map, asks, (own) => woodbury(world, among(batches, own)).change);
      expect(apart(changeOfSet(write(world, batches).flat(), world), change)).toBeLessThan(
        tolerance,
      );
    });
  });
});

describe.each(MAPS)('consecutive batches in any order (map: %s)', (map) => {
  const { write, changeOfSet, denseOf, tolerance } = editing(map);

  it('do not depend on the permutation of their corrections', () => {
    forAll(({ world, asks, random }) => {
      const batches = split(asks, random);
      const one = write(world, batches);
      const other = write(
        world,
        batches.map((batch) => shuffled(batch, random)),
      );
      expect(apart(changeOfSet(other.flat(), world), changeOfSet(one.flat(), world))).toBeLessThan(
        tolerance,
      );
      expect(
        apart(changeOfSet(shuffled(one.flat(), random), world), changeOfSet(one.flat(), world)),
      ).toBeLessThan(tolerance);
    });
  });

  it('leave no trace of corrections that were removed', () => {
    forAll(({ world, asks, random }) => {
      const written = write(world, split(asks, random));
      const kept = written.filter(() => random() < 0.6);
      const pairs = kept.flat();
      if (pairs.length === 0) return;
      expect(apart(changeOfSet(pairs, world), denseOf(pairs, world))).toBeLessThan(tolerance);
      // The sums A and S without the removed pairs.
      const rest = eachMap(map, written.flat(), (own) => {
        const outer = (
          some: readonly SubjectPair[],
          of: (pair: SubjectPair) => number[],
          width: number,
        ) =>
          some.length === 0
            ? plain(world.F, width, () => 0)
            : product(transposed(some.map(({ key }) => key)), some.map(of));
        const gone = own.filter((pair) => !pairs.includes(pair));
        const without = (of: (pair: SubjectPair) => number[], width: number) =>
          sum(outer(own, of, width), scaled(outer(gone, of, width), -1));
        const [A, S] = [
          sum(
            world.moment,
            without(({ key }) => key, world.F),
          ),
          without(({ change }) => change, world.D),
        ];
        return transposed(solved(A, S));
      });
      expect(apart(changeOfSet(pairs, world), rest)).toBeLessThan(tolerance);
    });
  });

  it('leave the previous hook bit for bit once the last one is removed', () => {
    let compared = 0;
    forAll(({ world, asks, random }) => {
      const written = write(world, split(asks, random));
      if (written.length < 2) return;
      compared += 1;
      const before = written.slice(0, -1).flat();
      const restored = written.flat().slice(0, before.length);
      expect(changeOfSet(restored, world)).toEqual(changeOfSet(before, world));
    });
    expect(compared).toBeGreaterThan(RUNS / 2);
  });
});

describe.each(MAPS)('the form of a hook (map: %s)', (map) => {
  it.each(FILLINGS)('equals the direct solve with %f F pairs', (filling) => {
    forAll(
      ({ world, asks }) => {
        const pairs = asks.map(({ subject, key, residual }) => ({
          subject,
          key,
          change: residual,
        }));
        expect(
          apart(
            changesOf(map, pairs, world),
            eachMap(map, pairs, (own) => denseChange(own, world)),
          ),
        ).toBeLessThan(CHANGE_TOLERANCE[map]);
      },
      { filling, runs: 8 },
    );
  });
});

describe.each(MAPS)('ten thousand batches of additions and removals (map: %s)', (map) => {
  const BATCHES = 10_000;
  const LOOK_EVERY = 250;
  const [F, D, PAIRS_MAX] = [8, 3, 24];
  /**
   * |ours - exact| / |exact|, after any number of batches: each hook is computed from its pairs
   * alone. Seen: 6e-7, early and late.
   */
  const DRIFT_MAX = 5e-6;

  it(`stay within ${DRIFT_MAX} of what exact arithmetic gives`, () => {
    const world = syntheticPrior(41, F, D);
    const random = seededRandom(42);
    // Two runs in parallel: stored float32 pairs behind float32 hooks, and float64 throughout.
    const active: { stored: SubjectPair; exact: SubjectPair }[] = [];
    const drifts: number[] = [];
    let removed = 0;
    for (let batch = 0; batch < BATCHES; batch++) {
      const asks = askOf(1 + Math.floor(random() * 2), world, random);
      const stored = writeOn(
        map,
        active.map((one) => one.stored),
        world,
        asks,
      );
      const exact = writeExactly(
        map,
        active.map((one) => one.exact),
        world,
        asks,
      );
      asks.forEach((_, i) => active.push({ stored: stored[i]!, exact: exact[i]! }));
      while (active.length > PAIRS_MAX || (active.length > 2 && random() < 0.5)) {
        active.splice(Math.floor(random() * active.length), 1);
        removed++;
      }
      if (batch % LOOK_EVERY !== LOOK_EVERY - 1) continue;
      const [ours, wanted] = [active.map((one) => one.stored), active.map((one) => one.exact)];
      drifts.push(
        apart(
          changesOf(map, ours, world),
          eachMap(map, wanted, (own) => denseChange(own, world)),
        ),
      );
    }
    world.free();
    expect(removed).toBeGreaterThan(BATCHES / 2);
    expect(drifts).toHaveLength(BATCHES / LOOK_EVERY);
    expect(Math.max(...drifts)).toBeLessThan(DRIFT_MAX);
  }, 600_000);
});
