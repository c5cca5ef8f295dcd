import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { Hook } from '../../../model/hook/hook.ts';
import { changeOf } from '../../../model/hook/layer-hook.ts';
import { HookCache } from '../../../model/hook/hook-cache.ts';
import { whitenedCosines } from '../../../model/hook/gate.ts';
import { BLOCK_PAIRS } from '../../../model/hook/pair-blocks.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow, raw } from '../../../model/tensor/tensorflow.ts';
import type { GateParameters } from '../../../schemas/hyper-parameters.ts';
import {
  aboutSome,
  bySubject,
  denseChange,
  pairSet,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
} from '../synthetic-prior.ts';

const NAMES = Array.from({ length: 30 }, (_, i) => `subject ${i}`);
const GATES: [string, GateParameters][] = [
  ['one map for all', { kind: 'subject', map: 'joint', floor: 0.35 }],
  ['a map for every subject', { kind: 'subject', map: 'subject', floor: 0.35 }],
];

let world: SyntheticPrior;
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
  world = syntheticPrior(5, 12, 4);
});
afterAll(() => world.free());

const somePairs = (count: number, seed: number) =>
  aboutSome(randomPairs(count, world, seededRandom(seed)), NAMES, seededRandom(seed + 1));

describe.each(GATES)('a hook built with a used cache, %s,', (_, gate) => {
  const numbersOf = (pairs: readonly SubjectPair[], cache?: HookCache) =>
    numbersOfHook(gate, pairs, cache);

  it('is the hook built without a cache, bit for bit', () => {
    const all = somePairs(4 * BLOCK_PAIRS + 40, 11);
    const cache = new HookCache();
    const step = fc.record({
      count: fc.integer({ min: 1, max: all.length }),
      without: fc.option(fc.integer({ min: 0, max: all.length - 1 }), { nil: -1 }),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 4 }), (steps) => {
        for (const { count, without } of steps) {
          const pairs = all.slice(0, count).filter((_, i) => i !== without);
          if (pairs.length > 0) expect(numbersOf(pairs, cache)).toEqual(numbersOf(pairs));
        }
      }),
      { numRuns: 20 },
    );
    cache.dispose();
  });

  it('is the least-squares solution beyond the first block too', () => {
    const pairs = somePairs(2 * BLOCK_PAIRS + 7, 3);
    const cache = new HookCache();
    for (const count of [5, 9, BLOCK_PAIRS + 1, pairs.length]) {
      const some = pairs.slice(0, count);
      const numbers = numbersOf(some, cache);
      const groups = gate.map === 'joint' ? [some] : [...bySubject(some).values()];
      groups.forEach((group, g) => {
        const wanted = denseChange(group, world);
        for (let f = 0; f < world.F; f++)
          for (let d = 0; d < world.D; d++)
            expect(numbers[(g * world.F + f) * world.D + d]).toBeCloseTo(wanted[d]![f]!, 4);
      });
    }
    cache.dispose();
  });

  it('leaks no tensor once the cache is disposed', () => {
    const alive = raw.liveCount();
    const cache = new HookCache();
    const pairs = somePairs(BLOCK_PAIRS + 30, 4);
    numbersOf(pairs, cache);
    numbersOf(pairs.slice(3), cache);
    cache.dispose();
    expect(raw.liveCount()).toBe(alive);
  });
});

/** A hook's numbers: first the change of every direction, for each subject with a map. */
function numbersOfHook(
  gate: GateParameters,
  pairs: readonly SubjectPair[],
  cache?: HookCache,
): number[] {
  const hook = Hook.build(
    pairSet(pairs, world),
    new Map([[world.prior.layer, world.prior]]),
    gate,
    cache,
  );
  const block = hook.blocks.get(world.prior.layer)!;
  const whom = gate.map === 'joint' ? ['all'] : [...bySubject(pairs).keys()];
  const changes = whom.flatMap((subject) =>
    tf.tidy(() => [
      ...changeOf(block, tf.eye(world.F), new Array<string>(world.F).fill(subject)).dataSync(),
    ]),
  );
  const cosines = tf.tidy(() =>
    whitenedCosines(
      block,
      tf.tensor2d(somePairs(50, 8).map(({ key }) => key)),
      pairs.map((_, pair) => ({ row: pair % 50, pair })),
    ),
  );
  const numbers = [...changes, block.editNorm, ...cosines];
  hook.dispose();
  return numbers;
}
