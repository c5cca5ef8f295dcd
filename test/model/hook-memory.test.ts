import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/home.ts';
import { changeOf, Hook } from '../../model/hook.ts';
import { BLOCK_PAIRS, HookMemory } from '../../model/hook-memory.ts';
import { scoreKnownKeys } from '../../model/gate.ts';
import { seededRandom } from '../../model/random.ts';
import { loadTensorFlow, raw } from '../../model/tensorflow.ts';
import { flat } from './plain-matrices.ts';
import { denseChange, pairSet, randomPairs, syntheticPrior, type Pair, type SyntheticPrior } from './synthetic-prior.ts';

const GATE = { kind: 'scope', floor: 0.35, referenceQuantile: 0.995, nearKey: 0.8 } as const;

let world: SyntheticPrior;
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
  world = syntheticPrior(5, 12, 4);
});
afterAll(() => world.free());

/** All that a hook says, as numbers. */
function numbersOf(pairs: readonly Pair[], memory?: HookMemory): number[] {
  const hook = Hook.build(pairSet(pairs, world), new Map([[world.prior.layer, world.prior]]), GATE, memory);
  const block = hook.blocks.get(world.prior.layer)!;
  const change = tf.tidy(() => [...changeOf(block, tf.eye(world.F)).dataSync()]);
  const { canary_TF, canaryEnergy } = world.prior;
  const numbers = [...change, block.threshold, block.editNorm, hook.report.referenceOpenShare, ...scoreKnownKeys(GATE, block, canary_TF, canaryEnergy, 'canary')];
  hook.dispose();
  return numbers;
}

describe('a hook built on what earlier hooks left behind', () => {
  it('is the one built from nothing, bit for bit, whichever were built before', () => {
    const random = seededRandom(11);
    const all = randomPairs(4 * BLOCK_PAIRS + 40, world, random);
    const memory = new HookMemory();
    const step = fc.record({ count: fc.integer({ min: 1, max: all.length }), without: fc.option(fc.integer({ min: 0, max: all.length - 1 }), { nil: -1 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 4 }), (steps) => {
        for (const { count, without } of steps) {
          const pairs = all.slice(0, count).filter((_, i) => i !== without);
          if (pairs.length > 0) expect(numbersOf(pairs, memory)).toEqual(numbersOf(pairs));
        }
      }),
      { numRuns: 25 },
    );
    memory.dispose();
  });

  it('is the joint least-squares solution beyond the first block, too', () => {
    const pairs = randomPairs(2 * BLOCK_PAIRS + 7, world, seededRandom(3));
    const memory = new HookMemory();
    for (const count of [5, 9, BLOCK_PAIRS + 1, pairs.length]) {
      const numbers = numbersOf(pairs.slice(0, count), memory);
      const wanted = flat(denseChange(pairs.slice(0, count), world));
      for (let f = 0; f < world.F; f++) for (let d = 0; d < world.D; d++) expect(numbers[f * world.D + d]).toBeCloseTo(wanted[d * world.F + f]!, 4);
    }
    memory.dispose();
  });

  it('leaves no tensor behind once the memory is disposed', () => {
    const alive = raw.liveCount();
    const memory = new HookMemory();
    const pairs = randomPairs(BLOCK_PAIRS + 30, world, seededRandom(4));
    numbersOf(pairs, memory);
    numbersOf(pairs.slice(3), memory);
    memory.dispose();
    expect(raw.liveCount()).toBe(alive);
  });
});
