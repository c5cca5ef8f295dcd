/**
 * Compares maps by subject with an oracle that has none: for every subject, least squares over that
 * subject's pairs alone in plain float64. Subjects have fewer pairs than a key has directions, as
 * many, and more.
 */
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { NotPositiveDefinite } from '../../../model/tensor/float64.ts';
import { changeOf, disposeLayers } from '../../../model/hook/layer-hook.ts';
import { HookCache } from '../../../model/hook/hook-cache.ts';
import { BLOCK_PAIRS } from '../../../model/hook/pair-blocks.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import { frobenius, product, scaled, sum, transposed } from '../plain-matrices.ts';
import {
  aboutSome,
  bySubject,
  denseChange,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
} from '../synthetic-prior.ts';
import {
  NAMES,
  forAll,
  build,
  changesOf,
  answersOf,
  toleranceOf,
  expectChange,
  apart,
  shuffled,
  interleaved,
} from './subject-worlds.ts';

/** The same numbers added in another order, in float32. Seen: 4e-7. */
const ORDER_TOLERANCE = 2e-6;
/** Relative tolerance of norms. */
const NORM_TOLERANCE = 1e-5;

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

it('a subject’s map is the dense least-squares solution over its own pairs', () => {
  forAll(({ world, pairs }) => {
    const changes = changesOf(pairs, world);
    for (const [subject, own] of bySubject(pairs))
      expectChange(changes.get(subject)!, denseChange(own, world), own.length, subject);
  });
});

it('a subject’s map makes the gradient of its least squares vanish', () => {
  forAll(({ world, pairs }) => {
    const changes = changesOf(pairs, world);
    for (const [subject, own] of bySubject(pairs)) {
      const [K, U] = [own.map(({ key }) => key), own.map(({ change }) => change)];
      const change = changes.get(subject)!;
      // d/dX of |X L|^2 + sum |X k - u|^2, halved: X A0 + sum (X k - u) k^T
      const misses = sum(product(K, transposed(change)), scaled(U, -1));
      const gradient = sum(product(change, world.moment), product(transposed(misses), K));
      expect(frobenius(gradient) / frobenius(product(transposed(U), K)), subject).toBeLessThan(
        10 * toleranceOf(own.length, world.F),
      );
    }
  });
});

it('a subject’s map does not depend on the order of pairs or on batches', () => {
  forAll(({ world, pairs, random }) => {
    const wanted = changesOf(pairs, world);
    const own = bySubject(pairs);
    const cache = new HookCache();
    const other = shuffled(pairs, random);
    let found = wanted;
    for (let count = 0; count < other.length;) {
      count = Math.min(other.length, count + 1 + Math.floor((random() * other.length) / 2));
      found = changesOf(other.slice(0, count), world, cache);
    }
    cache.dispose();
    expect([...found.keys()].sort()).toEqual([...wanted.keys()].sort());
    for (const [subject, change] of found)
      expectChange(change, wanted.get(subject)!, own.get(subject)!.length, subject);
  });
});

it('a subject’s map keeps no trace of removed pairs, bit for bit', () => {
  forAll(({ world, pairs, random }) => {
    const kept = pairs.filter(() => random() < 0.6);
    if (kept.length === 0) return;
    const cache = new HookCache();
    changesOf(pairs, world, cache);
    const after = changesOf(kept, world, cache);
    cache.dispose();
    expect(after).toEqual(changesOf(kept, world));
    for (const [subject, own] of bySubject(kept))
      expectChange(after.get(subject)!, denseChange(own, world), own.length, subject);
  });
});

it('a subject’s map accepts repeated pairs, one key with two values, and a zero key', () => {
  forAll(({ world, pairs }) => {
    const [first] = pairs as [SubjectPair];
    const contrary = { ...first, change: first.change.map((value) => -value) };
    const nothing = { ...first, key: first.key.map(() => 0) };
    const many = [...pairs, first, contrary, nothing];
    const changes = changesOf(many, world);
    for (const [subject, own] of bySubject(many))
      expectChange(changes.get(subject)!, denseChange(own, world), own.length, subject);
  });
});

it('a subject’s map is empty, without failure, if its values for one key cancel', () => {
  // The remainder is a rounding error, on either side of zero.
  forAll(({ world, pairs }) => {
    const { key, change } = pairs[0]!;
    // In 64ths, so that float32 holds their sum exactly.
    const wish = change.map((value) => Math.round(64 * value) / 64);
    const wishes = [3, -5, 1, 1].map((factor) => ({
      key,
      subject: 'torn',
      change: wish.map((value) => factor * value),
    }));
    const block = build(wishes, world);
    expect(block.editNorm).toBeLessThan(NORM_TOLERANCE);
    disposeLayers([block]);
  });
});

describe('corrections of other subjects', () => {
  it('change no answer about a subject whose own pairs keep their positions', () => {
    forAll(({ world, pairs, random }) => {
      for (const subject of bySubject(pairs).keys()) {
        const strangers = aboutSome(
          randomPairs(pairs.length, world, random),
          ['x', 'y', 'z'],
          random,
        );
        const exchanged = pairs.map((pair, i) => (pair.subject === subject ? pair : strangers[i]!));
        expect(answersOf(subject, exchanged, world)).toEqual(answersOf(subject, pairs, world));
      }
    });
  });

  it('that follow whole blocks leave the answers about those blocks unchanged bit for bit', () => {
    const world = syntheticPrior(7, 24, 6);
    const random = seededRandom(8);
    const some = aboutSome(randomPairs(2 * BLOCK_PAIRS, world, random), NAMES, random);
    const more = [1, 30, BLOCK_PAIRS, BLOCK_PAIRS + 1].map((count) =>
      aboutSome(randomPairs(count, world, random), ['x', 'y', 'z'], random),
    );
    for (const subject of NAMES) {
      const wanted = answersOf(subject, some, world);
      for (const strangers of more)
        expect(answersOf(subject, [...some, ...strangers], world)).toEqual(wanted);
    }
    world.free();
  });

  it('change only rounding errors elsewhere', () => {
    const world = syntheticPrior(9, 24, 6);
    const random = seededRandom(10);
    const own = randomPairs(12, world, random).map((pair) => ({ ...pair, subject: 'a' }));
    const wanted = answersOf('a', own, world);
    for (const count of [1, 17, BLOCK_PAIRS - 20, BLOCK_PAIRS, 3 * BLOCK_PAIRS]) {
      const strangers = aboutSome(randomPairs(count, world, random), ['x', 'y', 'z'], random);
      // Before them, so that they lie in other blocks or across two; and among them.
      for (const pairs of [[...strangers, ...own], interleaved(own, strangers)]) {
        expect(apart([answersOf('a', pairs, world)], [wanted])).toBeLessThan(ORDER_TOLERANCE);
      }
    }
    world.free();
  });

  it('leave the answer about this one unchanged when probed in the same call', () => {
    forAll(({ world, pairs, random }) => {
      const subjects = [...bySubject(pairs).keys()];
      const asked = randomPairs(6, world, random).map(({ key }) => key);
      const whom = asked.map(() => subjects[Math.floor(random() * subjects.length)]!);
      const block = build(pairs, world);
      const together = tf.tidy(() => changeOf(block, tf.tensor2d(asked), whom).arraySync());
      asked.forEach((key, i) => {
        const alone = tf.tidy(() => changeOf(block, tf.tensor2d([key]), [whom[i]!]).arraySync());
        expect(apart([together[i]!], alone)).toBeLessThan(ORDER_TOLERANCE);
      });
      disposeLayers([block]);
    });
  });
});

it('maps by subject have no change for a subject without corrections', () => {
  forAll(({ world, pairs }) => {
    const block = build(pairs, world);
    const asked = pairs.slice(0, 3);
    const [unknown, mixed] = tf.tidy(() => {
      const keys = tf.tensor2d(asked.map(({ key }) => key));
      return [
        changeOf(
          block,
          keys,
          asked.map(() => 'nobody'),
        ).arraySync(),
        changeOf(
          block,
          keys,
          asked.map(({ subject }, i) => (i === 0 ? 'nobody' : subject)),
        ).arraySync(),
      ];
    });
    disposeLayers([block]);
    expect(unknown).toEqual(asked.map(() => new Array<number>(world.D).fill(0)));
    expect(mixed[0]).toEqual(new Array<number>(world.D).fill(0));
    expect(
      mixed
        .slice(1)
        .flat()
        .every((value) => value !== 0),
    ).toBe(true);
  });
});

it('maps by subject require a subject for every key', () => {
  const world = syntheticPrior(3, 6, 4);
  const block = build(
    aboutSome(randomPairs(4, world, seededRandom(4)), NAMES, seededRandom(5)),
    world,
  );
  for (const subjects of [[], ['a'], ['a', 'b', 'c']]) {
    expect(() => tf.tidy(() => changeOf(block, tf.zeros([2, world.F]), subjects))).toThrow(
      RangeError,
    );
  }
  disposeLayers([block]);
  world.free();
});

it('maps by subject report the largest norm of their changes as a share of the weight’s', () => {
  forAll(({ world, pairs }) => {
    const block = build(pairs, world);
    const wanted =
      Math.max(...[...bySubject(pairs).values()].map((own) => frobenius(denseChange(own, world)))) /
      world.prior.weightNorm;
    expect(Math.abs(block.editNorm - wanted)).toBeLessThan(NORM_TOLERANCE * (1 + wanted));
    disposeLayers([block]);
  });
});

it.each([
  ['a key that is NaN', 'key', Number.NaN],
  ['a key that is infinite', 'key', Number.POSITIVE_INFINITY],
  ['a change that is NaN', 'change', Number.NaN],
  ['a change that is infinite', 'change', Number.NEGATIVE_INFINITY],
] as const)('cannot be built of %s, and leak nothing', (_, part, value) => {
  const world = syntheticPrior(5, 6, 4);
  const pairs = randomPairs(5, world, seededRandom(7)).map((pair, i) => ({
    ...pair,
    subject: ['a', 'b'][i % 2]!,
  }));
  const sick = pairs.map((pair, i) =>
    i === 3
      ? { ...pair, [part]: pair[part].map((number, at) => (at === 2 ? value : number)) }
      : pair,
  );
  expect(() => build(sick, world)).toThrow(NotPositiveDefinite);
  // A cache keeps nothing of it either.
  const cache = new HookCache();
  const before = changesOf(pairs, world, cache);
  expect(() => build(sick, world, cache)).toThrow(NotPositiveDefinite);
  expect(changesOf(pairs, world, cache)).toEqual(before);
  cache.dispose();
  world.free();
});

describe('maps by subject built with an earlier cache', () => {
  it('are those computed from nothing, bit for bit, whatever was built before', () => {
    const world = syntheticPrior(13, 10, 3);
    const random = seededRandom(14);
    const all = aboutSome(
      randomPairs(2 * BLOCK_PAIRS + 60, world, random),
      Array.from({ length: 40 }, (_, i) => `subject ${i}`),
      random,
    );
    const cache = new HookCache();
    const step = fc.record({
      from: fc.integer({ min: 0, max: all.length - 1 }),
      count: fc.integer({ min: 1, max: all.length }),
      without: fc.integer({ min: -1, max: all.length - 1 }),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 4 }), (steps) => {
        for (const { from, count, without } of steps) {
          const pairs = all.slice(from, from + count).filter((_, i) => i !== without);
          if (pairs.length > 0)
            expect(changesOf(pairs, world, cache)).toEqual(changesOf(pairs, world));
        }
      }),
      { numRuns: 15 },
    );
    cache.dispose();
    world.free();
  });

  it('are solved only for new or changed subjects', () => {
    const world = syntheticPrior(15, 10, 3);
    const random = seededRandom(16);
    // Whole blocks keep their numbers whatever pairs follow them.
    const some = aboutSome(randomPairs(BLOCK_PAIRS, world, random), NAMES, random);
    const [fresh, again] = [randomPairs(1, world, random)[0]!, randomPairs(1, world, random)[0]!];
    const cache = new HookCache();
    const solvedFor = (pairs: readonly SubjectPair[]) => {
      const execute = vi.spyOn(raw, 'execute');
      disposeLayers([build(pairs, world, cache)]);
      const count = execute.mock.calls.filter(([name]) => name === 'Cholesky').length;
      execute.mockRestore();
      return count;
    };
    expect(solvedFor(some)).toBe(NAMES.length);
    expect(solvedFor(some)).toBe(0);
    expect(solvedFor([...some, { ...fresh, subject: 'new' }])).toBe(1);
    // The rows of an unfinished block may round differently in a longer one, which is then solved
    // again.
    expect([1, 2]).toContain(
      solvedFor([...some, { ...fresh, subject: 'new' }, { ...again, subject: NAMES[1]! }]),
    );
    // Entries that left are forgotten.
    expect(solvedFor(some)).toBe(1);
    expect(solvedFor([...some, { ...fresh, subject: 'new' }])).toBe(1);
    cache.dispose();
    world.free();
  });
});
