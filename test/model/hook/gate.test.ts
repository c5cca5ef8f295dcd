import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { Hook } from '../../../model/hook/hook.ts';
import type { GateParameters } from '../../../schemas/hyper-parameters.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import { pairSet } from '../synthetic-prior.ts';
import {
  ask,
  createGateWorld,
  D,
  gateOf,
  mixedKeys,
  nearestOf,
  pairs,
  rowsOf,
  TOLERANCE,
  withHook,
  world,
} from './gate-world.ts';

createGateWorld();

const GATES: [string, GateParameters][] = [
  ...(['subject', 'sequence', 'always'] as const).map((kind): [string, GateParameters] => [
    kind,
    gateOf(kind),
  ]),
  ['subject (one map for all)', gateOf('subject', { map: 'joint' })],
];

describe.each(GATES)('the %s gate', (_, gate) => {
  it('gives the base value bit for bit where it is shut, and the change where open', () => {
    withHook(gate, (hook) => {
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
    withHook({ ...gate, floor: gate.kind === 'sequence' ? -10 : 0 }, (hook) => {
      const keys = Array.from({ length: 7 }, (_, row) => [...pairs[row % pairs.length]!.key]);
      const { base, opened, values } = ask(hook, keys, rowsOf([4, 1, 2]));
      expect(opened).toEqual([0, 1, 1, 1, 0, 0, 1]);
      for (const row of [0, 4, 5])
        expect(values.subarray(row * D, (row + 1) * D)).toEqual(
          base.subarray(row * D, (row + 1) * D),
        );
    });
  });

  it('returns the base tensor unchanged where nothing opens', () => {
    withHook({ ...gate, floor: 1e6 }, (hook) => {
      tf.tidy(() => {
        const base = tf.zeros<tf.Rank.R2>([5, D]);
        const keys_RF = tf.tensor2d(mixedKeys(5, 1));
        const down = { layer: world.prior.layer, keys_RF, base_RD: base, rows: rowsOf([5]) };
        expect(hook.project({ ...down, past: null })).toBe(base);
      });
    });
  });

  it('reports the pair with the nearest key wherever it opens', () => {
    withHook(gate, (hook) => {
      const keys = mixedKeys(15, 3);
      const { opened, nearest } = ask(hook, keys, rowsOf([9, 6]));
      expect(nearest).toEqual(
        keys.filter((_, row) => opened[row] === 1).map((key) => nearestOf(key, pairs)),
      );
    });
  });
});

it('the sequence gate standardises within each sequence, whatever its neighbours are', () => {
  withHook(gateOf('sequence'), (hook) => {
    const keys = mixedKeys(14, 6);
    const together = ask(hook, keys, rowsOf([9, 5]));
    const first = ask(hook, keys.slice(0, 9), rowsOf([9]));
    const second = ask(hook, keys.slice(9), rowsOf([5]));
    expect(together.opened).toContain(1);
    expect(together.opened).toEqual([...first.opened, ...second.opened]);
  });
});

it('the sequence gate scores by z-scores of |(W_h - W0) k| with n - 1', () => {
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

it('the sequence gate scores 0 where all tokens are alike', () => {
  const alike = Array.from({ length: 5 }, () => [...pairs[0]!.key]);
  withHook(gateOf('sequence', { floor: 1e-6 }), (hook) =>
    expect(ask(hook, alike, rowsOf([5])).opened).toEqual([0, 0, 0, 0, 0]),
  );
  withHook(gateOf('sequence', { floor: 0 }), (hook) =>
    expect(ask(hook, alike, rowsOf([5])).opened).toEqual([0, 1, 1, 1, 1]),
  );
  // One token behind a cache is a whole sequence: the gate of the paper cannot open there.
  withHook(gateOf('sequence'), (hook) =>
    expect(ask(hook, [pairs[0]!.key], rowsOf([1], [4])).opened).toEqual([0]),
  );
});

it('only the sequence gate lowers its threshold to the smallest reach of its pairs', () => {
  const reaches = [1.9, 0.7, 2.5, 1.1];
  const withReaches = pairs.map((pair, i) => ({
    ...pair,
    change: [...pair.change, reaches[i]!],
  }));
  const stored = { ...pairSet(withReaches, world), valueWidth: D + 1 };
  const priors = new Map([[world.prior.layer, world.prior]]);
  for (const kind of ['subject', 'sequence', 'always'] as const) {
    const floor = kind === 'always' || kind === 'subject' ? 0.5 : 2.2;
    const hook = Hook.build(stored, priors, gateOf(kind, { floor }));
    expect(hook.report.layers[0]!.threshold, kind).toBeCloseTo(
      kind === 'sequence' ? 0.7 : floor,
      6,
    );
    hook.dispose();
    const plain = Hook.build(pairSet(pairs, world), priors, gateOf(kind, { floor }));
    expect(plain.report.layers[0]!.threshold, kind).toBe(floor);
    expect(hook.report.layers[0]!.editNorm, kind).toBe(plain.report.layers[0]!.editNorm);
    plain.dispose();
  }
});
