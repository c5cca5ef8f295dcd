import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { Hook } from '../../../model/hook/hook.ts';
import { layOutRows, type TokenRows } from '../../../model/network/token-rows.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { denseChange, pairSet, randomPairs, syntheticPrior } from '../synthetic-prior.ts';
import {
  B,
  C,
  createGateWorld,
  D,
  expectValue,
  F,
  gateOf,
  named,
  OTHER,
  pairs,
  strange,
  world,
} from './gate-world.ts';

createGateWorld();

const MAPS = ['subject', 'joint'] as const;

it.each(MAPS)('the subject gate decides in the lowest block for all blocks: map %s', (map) => {
  const above = syntheticPrior(17, F, D, world.prior.layer + 2);
  const first = pairSet(named(), world);
  const pairsAbove = randomPairs(pairs.length, above, seededRandom(18)).map((pair, i) => ({
    ...pair,
    subject: pairs[i]!.subject,
  }));
  const second = pairSet(pairsAbove, above);
  const both = {
    ...first,
    layers: [...first.layers, ...second.layers],
    keys: [...first.keys, ...second.keys],
    changes: [...first.changes, ...second.changes],
  };
  const hook = Hook.build(
    both,
    new Map([
      [world.prior.layer, world.prior],
      [above.prior.layer, above.prior],
    ]),
    gateOf('subject', { map }),
  );
  const tokens = [OTHER, B, B, C];
  const rows = layOutRows([tokens], [1]);
  const strangeKeys = [41, 42, 43, 44].map(strange);
  const told = new Map<number, { opened: number[]; nearest: number[] }>();
  hook.openObserver = (layer, opened, _, nearest) =>
    void told.set(layer, { opened: [...opened], nearest: [...nearest()] });
  const project = (layer: number, keys: number[][], its: TokenRows) =>
    hook.project({
      layer,
      keys_RF: tf.tensor2d(keys),
      base_RD: tf.zeros([4, D]),
      rows: its,
      past: null,
    });
  const value = tf.tidy(() => {
    // At the third token the name has a foreign key; at the last, the key of one of the two
    // subjects that share it.
    project(
      world.prior.layer,
      [strangeKeys[0]!, pairs[1]!.key, strangeKeys[1]!, pairs[3]!.key],
      rows,
    );
    const value = project(above.prior.layer, strangeKeys, rows).dataSync().slice();
    expect(() => project(above.prior.layer, strangeKeys, layOutRows([tokens], [1]))).toThrow(
      /has not seen these tokens/,
    );
    return value as Float32Array;
  });
  const decided = { opened: [0, 1, 0, 1], nearest: [1, 3] };
  expect([...told.keys()]).toEqual([world.prior.layer, above.prior.layer]);
  expect(told.get(world.prior.layer)).toEqual(decided);
  expect(told.get(above.prior.layer)!.opened).toEqual(decided.opened);
  // The maps above belong to the pairs above, of the subjects found by the lowest block.
  [null, 1, null, 3].forEach((pair, row) =>
    expectValue(
      { values: value, base: new Float32Array(4 * D) },
      row,
      pair === null ? null : denseChange(map === 'joint' ? pairsAbove : [pairsAbove[pair]!], above),
      strangeKeys[row]!,
    ),
  );
  if (map === 'subject') expect(told.get(above.prior.layer)!.nearest).toEqual(decided.nearest);
  hook.dispose();
  above.free();
});
