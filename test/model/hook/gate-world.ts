/**
 * Keys behind a gate, without a model: a synthetic prior, four corrections, and the opened rows.
 */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { Hook } from '../../../model/hook/hook.ts';
import { changeOf } from '../../../model/hook/layer-hook.ts';
import { layOutRows, type TokenRows } from '../../../model/network/token-rows.ts';
import type { AttentionPast } from '../../../model/network/attention-past.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow } from '../../../model/tensor/tensorflow.ts';
import type { GateKind, GateParameters } from '../../../schemas/hyper-parameters.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import { identity, product, solved, transposed, type Plain } from '../plain-matrices.ts';
import {
  pairSet,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
} from '../synthetic-prior.ts';

export const [F, D] = [24, 6];
const FLOORS = { subject: 0.7, sequence: 1.2, always: 0 } as const;
/** Tolerance of base + change in float32, for numbers of size 1. */
export const TOLERANCE = 1e-5;
/**
 * Tolerance of a sum of F float32 products of either sign, as a share of the lengths. Seen: 1e-6.
 */
export const COSINE_TOLERANCE = 1e-5;
/** The token that names every subject, for texts that name them at every token. */
const NAME = 5;

export let world: SyntheticPrior;
/** Four corrections; every text names all their subjects. */
export let pairs: SubjectPair[];
/** P0, in float64. */
let inverse: Plain;

/** Makes `world` and `pairs` for the tests of a file. */
export function createGateWorld(): void {
  beforeAll(() => {
    loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
    world = syntheticPrior(11, F, D);
    pairs = randomPairs(4, world, seededRandom(12)).map((pair, i) => ({
      ...pair,
      subject: `subject ${i}`,
      spellings: [[NAME]],
    }));
    inverse = solved(world.moment, identity(F));
  });
  afterAll(() => world.free());
}

export const gateOf = (kind: GateKind, changes: Partial<GateParameters> = {}): GateParameters => ({
  kind,
  map: kind === 'subject' ? 'subject' : 'joint',
  floor: FLOORS[kind],
  ...changes,
});
export function withHook<T>(
  gate: GateParameters,
  work: (hook: Hook) => T,
  some: readonly SubjectPair[] = pairs,
): T {
  const hook = Hook.build(pairSet(some, world), new Map([[world.prior.layer, world.prior]]), gate);
  try {
    return work(hook);
  } finally {
    hook.dispose();
  }
}

/** Cosine in the space whitened by P0. */
export function cosine(a: readonly number[], b: readonly number[]): number {
  const energy = (x: readonly number[], y: readonly number[]) =>
    product([[...x]], product(inverse, transposed([[...y]])))[0]![0]!;
  return energy(a, b) / Math.sqrt(energy(a, a) * energy(b, b));
}

export function nearestOf(key: readonly number[], some: readonly SubjectPair[]): number {
  const cosines = some.map((pair) => cosine(key, pair.key));
  return cosines.indexOf(Math.max(...cosines));
}

/**
 * Reads keys behind the gate. Returns the rows that open and their nearest pairs as reported to its
 * observer, the values, and the change that the pairs would make on every row.
 */
export function ask(
  hook: Hook,
  keys: readonly (readonly number[])[],
  rows: TokenRows,
  {
    past = null,
    some = pairs,
  }: { past?: AttentionPast | null; some?: readonly SubjectPair[] } = {},
) {
  const random = seededRandom(99);
  const base = Float32Array.from({ length: keys.length * D }, () => 2 * random() - 1);
  let opened = new Uint8Array(keys.length);
  let scores = new Float32Array(0);
  let nearest: number[] = [];
  let calls = 0;
  hook.openObserver = (layer, rowsOpened, scoresSeen, nearestPair) => {
    expect(layer).toBe(world.prior.layer);
    opened = Uint8Array.from(rowsOpened);
    scores = scoresSeen.slice();
    nearest = [...nearestPair()];
    expect([scores.length, nearest.length]).toEqual([
      keys.length,
      opened.filter((row) => row === 1).length,
    ]);
    calls++;
  };
  const values = tf.tidy(() => {
    const keys_RF = tf.tensor2d(keys as number[][]);
    const base_RD = tf.tensor2d(base, [keys.length, D]);
    return hook
      .project({ layer: world.prior.layer, keys_RF, base_RD, rows, past })
      .dataSync()
      .slice() as Float32Array;
  });
  hook.openObserver = null;
  expect(calls).toBe(opened.some((row) => row === 1) ? 1 : 0);
  const wanted = tf.tidy(() =>
    changeOf(
      hook.blocks.get(world.prior.layer)!,
      tf.tensor2d(keys as number[][]),
      keys.map((key) => some[nearestOf(key, some)]!.subject),
    )
      .dataSync()
      .slice(),
  );
  return { base, opened: Array.from(opened), scores, nearest, values, change: wanted };
}

/** Sequences of these lengths in which every token names every subject. */
export const rowsOf = (lengths: readonly number[], starts?: readonly number[]) =>
  layOutRows(
    lengths.map((length) => new Array<number>(length).fill(NAME)),
    starts,
  );

/** A few corrected keys among unrelated ones. */
export function mixedKeys(count: number, seed: number): number[][] {
  const random = seededRandom(seed);
  const keys = randomPairs(count, world, random).map(({ key }) => key.map((value) => value / 3));
  for (let at = 2; at < count; at += 5) keys[at] = [...pairs[at % pairs.length]!.key];
  return keys;
}

/** Checks that the row's value is base + change k, or base bit for bit without a change. */
export function expectValue(
  { values, base }: { values: Float32Array; base: Float32Array },
  row: number,
  change: Plain | null,
  key: readonly number[],
): void {
  const [from, to] = [row * D, (row + 1) * D];
  if (change === null)
    return expect(values.subarray(from, to), `row ${row}`).toEqual(base.subarray(from, to));
  const moved = product(change, transposed([[...key]]));
  expect(
    largestDifference(
      values.subarray(from, to),
      moved.map(([value], d) => value! + base[from + d]!),
    ),
    `row ${row}`,
  ).toBeLessThan(TOLERANCE);
}

/** Tokens of overlapping names, 'a b' and 'b', and of one that ends nowhere else. */
export const [A, B, C, OTHER] = [1, 2, 3, 9];
/** Subject 0 is A B and subject 1 is B; subjects 2 and 3 are both C, alone or after A. */
export const named = () =>
  pairs.map((pair, i) => ({ ...pair, spellings: [[[A, B]], [[B]], [[C], [A, C]], [[C]]][i]! }));
export const keysOf = (...of: (number | readonly number[])[]) =>
  of.map((key) => (typeof key === 'number' ? pairs[key]!.key : key));
export const openedOn = (
  tokens: readonly number[],
  keys: readonly (readonly number[])[],
  changes: Partial<GateParameters> = {},
) =>
  withHook(
    gateOf('subject', changes),
    (hook) => ask(hook, keys, layOutRows([tokens], [1])).opened,
    named(),
  );
export const strange = (seed: number) => randomPairs(1, world, seededRandom(seed))[0]!.key;
