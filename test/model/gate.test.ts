import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/home.ts';
import { scoreKnownKeys } from '../../model/gate.ts';
import { changeOf, Hook } from '../../model/hook.ts';
import { seededRandom } from '../../model/random.ts';
import { loadTensorFlow } from '../../model/tensorflow.ts';
import { layOutRows, type TokenRows } from '../../model/token-rows.ts';
import type { GateKind, GateParameters } from '../../schemas/editing.ts';
import { largestDifference } from '../golden/read-golden.ts';
import { identity, product, solved, transposed } from './plain-matrices.ts';
import { pairSet, randomPairs, syntheticPrior, type Pair, type SyntheticPrior } from './synthetic-prior.ts';

const [F, D] = [24, 6];
const KINDS = ['subject', 'scope', 'leverage', 'key', 'norm', 'sequence', 'always'] as const;
const TOKEN_KINDS = ['subject', 'scope', 'leverage', 'key', 'norm'] as const;
/** base + change in float32, of numbers of the size of 1. */
const TOLERANCE = 1e-5;

let world: SyntheticPrior;
let pairs: Pair[];
beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
  world = syntheticPrior(11, F, D);
  pairs = randomPairs(4, world, seededRandom(12));
});
afterAll(() => world.free());

const gateOf = (kind: GateKind, changes: Partial<GateParameters> = {}): GateParameters => ({
  kind,
  floor: { subject: 0.7, scope: 0.5, leverage: 0.5, key: 0.7, norm: 0.6, sequence: 1.2, always: 0 }[kind],
  referenceQuantile: 0,
  nearKey: 0.8,
  ...changes,
});

function withHook<T>(gate: GateParameters, work: (hook: Hook) => T, some: readonly Pair[] = pairs): T {
  const hook = Hook.build(pairSet(some, world), new Map([[world.prior.layer, world.prior]]), gate);
  try {
    return work(hook);
  } finally {
    hook.dispose();
  }
}

/** What the gate makes of keys: which rows open, by its observer, and the values. */
function ask(hook: Hook, keys: readonly (readonly number[])[], rows: TokenRows) {
  const random = seededRandom(99);
  const base = Float32Array.from({ length: keys.length * D }, () => 2 * random() - 1);
  let opened = new Uint8Array(keys.length);
  let calls = 0;
  hook.observer = (layer, rowsOpened, scores, keysSeen) => {
    expect(layer).toBe(world.prior.layer);
    expect([scores.length, keysSeen.shape]).toEqual([keys.length, [keys.length, F]]);
    opened = Uint8Array.from(rowsOpened);
    calls++;
  };
  const values = tf.tidy(() => {
    const keysTensor = tf.tensor2d(keys as number[][]);
    return hook
      .project(world.prior.layer, keysTensor, tf.tensor2d(base, [keys.length, D]), rows)
      .dataSync()
      .slice() as Float32Array;
  });
  hook.observer = null;
  expect(calls).toBe(opened.some((row) => row === 1) ? 1 : 0);
  const wanted = tf.tidy(() =>
    changeOf(hook.blocks.get(world.prior.layer)!, tf.tensor2d(keys as number[][]))
      .dataSync()
      .slice(),
  );
  return { base, opened: Array.from(opened), values, change: wanted };
}

/** So many tokens per sequence; their ids do not matter. */
const rowsOf = (lengths: readonly number[], starts?: readonly number[]) =>
  layOutRows(
    lengths.map((length) => new Array<number>(length).fill(5)),
    starts,
  );

/** A few corrected keys among unrelated ones. */
function mixedKeys(count: number, seed: number): number[][] {
  const random = seededRandom(seed);
  const keys = randomPairs(count, world, random).map(({ key }) => key.map((value) => value / 3));
  for (let at = 2; at < count; at += 5) keys[at] = [...pairs[at % pairs.length]!.key];
  return keys;
}

describe.each(KINDS)('the %s gate', (kind) => {
  it('gives the base value bit for bit where it is shut, and the change where it is open', () => {
    withHook(gateOf(kind), (hook) => {
      const { base, opened, values, change } = ask(hook, mixedKeys(15, 3), rowsOf([9, 6]));
      expect(opened).toContain(1);
      expect(opened).toContain(0);
      opened.forEach((open, row) => {
        const [from, to] = [row * D, (row + 1) * D];
        if (open === 0) expect(values.subarray(from, to)).toEqual(base.subarray(from, to));
        else {
          const wanted = base.subarray(from, to).map((value, d) => value + change[from + d]!);
          expect(largestDifference(values.subarray(from, to), wanted)).toBeLessThan(TOLERANCE);
        }
      });
    });
  });

  it('never opens at a sequence’s first position', () => {
    withHook(gateOf(kind, { floor: kind === 'sequence' ? -10 : 0 }), (hook) => {
      const keys = Array.from({ length: 7 }, (_, row) => [...pairs[row % pairs.length]!.key]);
      const { base, opened, values } = ask(hook, keys, rowsOf([4, 1, 2]));
      expect(opened).toEqual([0, 1, 1, 1, 0, 0, 1]);
      for (const row of [0, 4, 5])
        expect(values.subarray(row * D, (row + 1) * D)).toEqual(base.subarray(row * D, (row + 1) * D));
    });
  });

  it('hands the base tensor itself on where nothing opens', () => {
    withHook(gateOf(kind, { floor: 1e6, nearKey: 2 }), (hook) => {
      tf.tidy(() => {
        const base = tf.zeros<tf.Rank.R2>([5, D]);
        expect(hook.project(world.prior.layer, tf.tensor2d(mixedKeys(5, 1)), base, rowsOf([5]))).toBe(base);
      });
    });
  });
});

describe.each(TOKEN_KINDS)('the %s gate, which looks at a token alone,', (kind) => {
  it('opens on the same tokens alone, among others and behind a past', () => {
    withHook(gateOf(kind), (hook) => {
      const keys = mixedKeys(12, 4);
      const together = ask(hook, keys, rowsOf([3, 9])).opened;
      expect(together).toContain(1);
      keys.forEach((key, row) => {
        const position = row < 3 ? row : row - 3;
        expect(ask(hook, [key], rowsOf([1], [position])).opened, `row ${row}`).toEqual([together[row]]);
      });
    });
  });

  const ofText = kind === 'subject' ? [] : [0, 0.5, 0.9, 0.995, 1];
  it.each(ofText)(
    'has a threshold of at least the %f quantile of its score on the reference text',
    (referenceQuantile) => {
      const { reference_TF, referenceEnergy } = world.prior;
      const asked = kind === 'scope' ? 'leverage' : kind;
      withHook(gateOf(kind, { floor: 0, referenceQuantile }), (hook) => {
        const block = hook.blocks.get(world.prior.layer)!;
        const scores = Array.from(scoreKnownKeys(gateOf(asked), block, reference_TF, referenceEnergy)).sort(
          (a, b) => a - b,
        );
        const wanted = scores[Math.min(scores.length - 1, Math.floor(referenceQuantile * scores.length))]!;
        expect(hook.report.layers[0]!.threshold).toBe(Math.max(0, wanted));
        expect(block.threshold).toBe(Math.max(0, wanted));
      });
      withHook(gateOf(kind, { floor: 1e3, referenceQuantile }), (hook) =>
        expect(hook.report.layers[0]!.threshold).toBe(1e3),
      );
    },
  );

  it('reports the share of reference tokens on which it opens', () => {
    for (const referenceQuantile of [0.3, 0.95]) {
      withHook(gateOf(kind, { floor: 0, referenceQuantile, nearKey: 0.3 }), (hook) => {
        const keys = world.prior.reference_TF.arraySync();
        // In the second position each, so that the first position's rule does not matter.
        const { opened } = ask(
          hook,
          keys.flatMap((key) => [key, key]),
          rowsOf(keys.map(() => 2)),
        );
        const share = opened.filter((open) => open === 1).length / keys.length;
        expect(hook.report.referenceOpenShare).toBeCloseTo(share, 6);
      });
    }
  });
});

describe('the scope gate', () => {
  it('opens on a key near a corrected one, however low its leverage, and on no other', () => {
    withHook(gateOf('scope', { floor: 0.999 }), (hook) => {
      const whitened = solved(world.moment, identity(F));
      const energy = (a: readonly number[], b: readonly number[]) =>
        product(
          [[...a]],
          product(
            whitened,
            b.map((value) => [value]),
          ),
        )[0]![0]!;
      const cosine = (a: readonly number[], b: readonly number[]) =>
        energy(a, b) / Math.sqrt(energy(a, a) * energy(b, b));
      const random = seededRandom(21);
      const near = pairs[1]!.key.map((value) => value + 0.2 * (2 * random() - 1));
      const far = randomPairs(1, world, random)[0]!.key;
      const scaled = pairs[2]!.key.map((value) => value / 4);
      const all = (key: readonly number[]) => Math.max(...pairs.map((pair) => cosine(key, pair.key)));
      expect(all(near)).toBeGreaterThan(0.85);
      expect(all(far)).toBeLessThan(0.75);
      expect(ask(hook, [far, near, far, scaled, pairs[0]!.key], rowsOf([5])).opened).toEqual([0, 1, 0, 1, 1]);
    });
    withHook(gateOf('leverage', { floor: 0.999 }), (hook) => {
      expect(ask(hook, [pairs[0]!.key, pairs[0]!.key], rowsOf([2])).opened).toEqual([0, 0]);
    });
  });

  it('opens on a key that many corrections explain together, though it is near none', () => {
    // Enough pairs to fill the space.
    const many = randomPairs(5 * F, world, seededRandom(31));
    withHook(
      gateOf('scope', { floor: 0.5, nearKey: 0.999 }),
      (hook) => {
        const key = randomPairs(1, world, seededRandom(32))[0]!.key;
        expect(ask(hook, [key, key], rowsOf([2])).opened).toEqual([0, 1]);
      },
      many,
    );
  });
});

describe('the subject gate', () => {
  it('has a threshold of what the corrections show of one another, its floor at the least and nearKey at the most', () => {
    const many = [...pairs, ...randomPairs(5, world, seededRandom(31))];
    // A correction of the same key: it lies on another.
    const crowded = [...many, { key: [...many[2]!.key], change: [...many[2]!.change] }];
    const inverse = solved(world.moment, identity(F));
    const energy = (a: number[], b: number[]) => product([a], product(inverse, transposed([b])))[0]![0]!;
    const whitened = crowded.map(({ key }) => {
      return { key, cosine: (other: number[]) => energy(key, other) / Math.sqrt(energy(key, key) * energy(other, other)) };
    });
    const near = whitened.map(({ cosine }, i) => Math.max(...crowded.filter((_, j) => j !== i).map(({ key }) => cosine(key)))).sort((a, b) => a - b);
    const half = near[Math.floor(near.length / 2)]!;
    const thresholdAt = (changes: Partial<GateParameters>) => withHook(gateOf('subject', changes), (hook) => hook.report.layers[0]!.threshold, crowded);
    expect(thresholdAt({ floor: -1, referenceQuantile: 0.5, nearKey: 1 })).toBeCloseTo(half, 5);
    expect(thresholdAt({ floor: 0.999, referenceQuantile: 0.5, nearKey: 1 })).toBe(0.999);
    expect(thresholdAt({ floor: -1, referenceQuantile: 1, nearKey: 0.9 })).toBe(0.9);
  });

  it('is alone with one correction: the floor', () => {
    withHook(gateOf('subject', { floor: 0.4, referenceQuantile: 1 }), (hook) => expect(hook.report.layers[0]!.threshold).toBe(0.4), pairs.slice(0, 1));
  });

  it('decides in the lowest block for all of them, whatever their own keys say', () => {
    const above = syntheticPrior(17, F, D, world.prior.layer + 2);
    const first = pairSet(pairs, world);
    const second = pairSet(randomPairs(pairs.length, above, seededRandom(18)), above);
    const both = { ...first, layers: [...first.layers, ...second.layers], keys: [...first.keys, ...second.keys], changes: [...first.changes, ...second.changes] };
    const hook = Hook.build(both, new Map([[world.prior.layer, world.prior], [above.prior.layer, above.prior]]), gateOf('subject'));
    const rows = rowsOf([3], [1]);
    const strange = randomPairs(3, world, seededRandom(41)).map(({ key }) => key);
    const openedAt = new Map<number, number[]>();
    hook.observer = (layer, opened) => void openedAt.set(layer, [...opened]);
    tf.tidy(() => {
      const base = tf.zeros<tf.Rank.R2>([3, D]);
      hook.project(world.prior.layer, tf.tensor2d([strange[0]!, pairs[1]!.key, strange[1]!]), base, rows);
      hook.project(above.prior.layer, tf.tensor2d(strange), base, rows);
      expect(() => hook.project(above.prior.layer, tf.tensor2d(strange), base, rowsOf([3], [1]))).toThrow(/has not seen these tokens/);
    });
    expect([...openedAt]).toEqual([[world.prior.layer, [0, 1, 0]], [above.prior.layer, [0, 1, 0]]]);
    hook.dispose();
    above.free();
  });
});

describe('the sequence gate', () => {
  it('standardises inside each sequence, whatever its neighbours are', () => {
    withHook(gateOf('sequence'), (hook) => {
      const keys = mixedKeys(14, 6);
      const together = ask(hook, keys, rowsOf([9, 5]));
      const first = ask(hook, keys.slice(0, 9), rowsOf([9]));
      const second = ask(hook, keys.slice(9), rowsOf([5]));
      expect(together.opened).toContain(1);
      expect(together.opened).toEqual([...first.opened, ...second.opened]);
    });
  });

  it('scores as the z-scores of |(W_h - W0) k| say, over every token and divided by n - 1', () => {
    withHook(gateOf('sequence'), (hook) => {
      const keys = mixedKeys(8, 8);
      const { change, opened } = ask(hook, keys, rowsOf([8]));
      const sizes = keys.map((_, row) => Math.hypot(...change.subarray(row * D, (row + 1) * D)));
      const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
      const deviation = Math.sqrt(
        sizes.reduce((sum, size) => sum + (size - mean) ** 2, 0) / (sizes.length - 1),
      );
      const wanted = sizes.map((size, row) => (row > 0 && (size - mean) / deviation >= 1.2 ? 1 : 0));
      expect(wanted).toContain(1);
      expect(opened).toEqual(wanted);
    });
  });

  it('scores 0 where all tokens are alike, where the reference divides 0 by 0', () => {
    const alike = Array.from({ length: 5 }, () => [...pairs[0]!.key]);
    withHook(gateOf('sequence', { floor: 1e-6 }), (hook) =>
      expect(ask(hook, alike, rowsOf([5])).opened).toEqual([0, 0, 0, 0, 0]),
    );
    withHook(gateOf('sequence', { floor: 0 }), (hook) =>
      expect(ask(hook, alike, rowsOf([5])).opened).toEqual([0, 1, 1, 1, 1]),
    );
    // One token behind a cache is a sequence by itself: the gate of the paper cannot open there.
    withHook(gateOf('sequence'), (hook) =>
      expect(ask(hook, [pairs[0]!.key], rowsOf([1], [4])).opened).toEqual([0]),
    );
  });

  it('lowers its threshold to the smallest reach stored with its pairs, and no other gate does', () => {
    const reaches = [1.9, 0.7, 2.5, 1.1];
    const withReaches = pairs.map((pair, i) => ({ ...pair, change: [...pair.change, reaches[i]!] }));
    const stored = { ...pairSet(withReaches, world), valueWidth: D + 1 };
    const priors = new Map([[world.prior.layer, world.prior]]);
    for (const kind of KINDS) {
      const floor = kind === 'always' || kind === 'subject' ? 0.5 : 2.2;
      const hook = Hook.build(stored, priors, gateOf(kind, { floor }));
      expect(hook.report.layers[0]!.threshold, kind).toBeCloseTo(kind === 'sequence' ? 0.7 : floor, 6);
      hook.dispose();
      const plain = Hook.build(pairSet(pairs, world), priors, gateOf(kind, { floor }));
      expect(plain.report.layers[0]!.threshold, kind).toBe(floor);
      expect(hook.report.layers[0]!.editNorm, kind).toBe(plain.report.layers[0]!.editNorm);
      plain.dispose();
    }
  });
});
