import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../../infra/config/home.ts';
import { scoreKeys, scoreKnownKeys } from '../../../model/hook/gate.ts';
import type { PairSet } from '../../../model/engine.ts';
import { changeOf, Hook } from '../../../model/hook/hook.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { loadTensorFlow } from '../../../model/tensor/tensorflow.ts';
import { FILLER, layOutRows, type TokenRows } from '../../../model/network/token-rows.ts';
import type { AttentionPast } from '../../../model/network/attention-past.ts';
import type { GateKind, GateParameters } from '../../../schemas/editing.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import { identity, product, solved, transposed, type Plain } from '../plain-matrices.ts';
import {
  bySubject,
  denseChange,
  pairSet,
  randomPairs,
  syntheticPrior,
  type SubjectPair,
  type SyntheticPrior,
} from '../synthetic-prior.ts';

const [F, D] = [24, 6];
const KINDS = ['subject', 'scope', 'leverage', 'key', 'norm', 'sequence', 'always'] as const;
const TOKEN_KINDS = ['scope', 'leverage', 'key', 'norm'] as const;
const MAPS = ['subject', 'joint'] as const;
/** base + change in float32, of numbers of the size of 1. */
const TOLERANCE = 1e-5;
/** Of a sum of F float32 products of either sign, as a share of the lengths. Seen: 1e-6. */
const COSINE_TOLERANCE = 1e-5;
/** The token that names every subject, where a text is to name them at every token. */
const NAME = 5;

let world: SyntheticPrior;
let pairs: SubjectPair[];
/** P0, in float64. */
let inverse: Plain;
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

const gateOf = (kind: GateKind, changes: Partial<GateParameters> = {}): GateParameters => ({
  kind,
  map: kind === 'subject' ? 'subject' : 'joint',
  floor: { subject: 0.7, scope: 0.5, leverage: 0.5, key: 0.7, norm: 0.6, sequence: 1.2, always: 0 }[
    kind
  ],
  referenceQuantile: 0,
  nearKey: 0.8,
  ...changes,
});
const GATES: [string, GateParameters][] = [
  ...KINDS.map((kind): [string, GateParameters] => [kind, gateOf(kind)]),
  ['subject (one map for all)', gateOf('subject', { map: 'joint' })],
];

function withHook<T>(
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
function cosine(a: readonly number[], b: readonly number[]): number {
  const energy = (x: readonly number[], y: readonly number[]) =>
    product([[...x]], product(inverse, transposed([[...y]])))[0]![0]!;
  return energy(a, b) / Math.sqrt(energy(a, a) * energy(b, b));
}

function nearestOf(key: readonly number[], some: readonly SubjectPair[]): number {
  const cosines = some.map((pair) => cosine(key, pair.key));
  return cosines.indexOf(Math.max(...cosines));
}

/**
 * What the gate makes of keys: which rows open and on which pairs, by its observer, and the values;
 * and what the pairs' change would be everywhere.
 */
function ask(
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
  hook.observer = (layer, rowsOpened, scoresSeen, nearestPair) => {
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
    const keysTensor = tf.tensor2d(keys as number[][]);
    return hook
      .project({
        layer: world.prior.layer,
        keys_RF: keysTensor,
        base_RD: tf.tensor2d(base, [keys.length, D]),
        rows,
        past,
      })
      .dataSync()
      .slice() as Float32Array;
  });
  hook.observer = null;
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

/** So many tokens per sequence, each of which names every subject. */
const rowsOf = (lengths: readonly number[], starts?: readonly number[]) =>
  layOutRows(
    lengths.map((length) => new Array<number>(length).fill(NAME)),
    starts,
  );

/** A few corrected keys among unrelated ones. */
function mixedKeys(count: number, seed: number): number[][] {
  const random = seededRandom(seed);
  const keys = randomPairs(count, world, random).map(({ key }) => key.map((value) => value / 3));
  for (let at = 2; at < count; at += 5) keys[at] = [...pairs[at % pairs.length]!.key];
  return keys;
}

describe.each(GATES)('the %s gate', (_, gate) => {
  it('gives the base value bit for bit where it is shut, and the change where it is open', () => {
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

  it('hands the base tensor itself on where nothing opens', () => {
    withHook({ ...gate, floor: 1e6, nearKey: 2 }, (hook) => {
      tf.tidy(() => {
        const base = tf.zeros<tf.Rank.R2>([5, D]);
        expect(
          hook.project({
            layer: world.prior.layer,
            keys_RF: tf.tensor2d(mixedKeys(5, 1)),
            base_RD: base,
            rows: rowsOf([5]),
            past: null,
          }),
        ).toBe(base);
      });
    });
  });

  it('tells of what it opens the pair whose key lies nearest', () => {
    withHook(gate, (hook) => {
      const keys = mixedKeys(15, 3);
      const { opened, nearest } = ask(hook, keys, rowsOf([9, 6]));
      expect(nearest).toEqual(
        keys.filter((_, row) => opened[row] === 1).map((key) => nearestOf(key, pairs)),
      );
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
        expect(ask(hook, [key], rowsOf([1], [position])).opened, `row ${row}`).toEqual([
          together[row],
        ]);
      });
    });
  });

  it('opens on the same tokens whoever the corrections are about, and whether a text names them', () => {
    const keys = mixedKeys(12, 4);
    const openedFor = (some: readonly SubjectPair[]) =>
      withHook(gateOf(kind), (hook) => ask(hook, keys, rowsOf([3, 9]), { some }), some);
    const wanted = openedFor(pairs);
    expect(wanted.opened).toContain(1);
    const unnamed = openedFor(pairs.map((pair) => ({ ...pair, subject: 'one', spellings: [] })));
    expect([unnamed.opened, unnamed.scores, unnamed.values]).toEqual([
      wanted.opened,
      wanted.scores,
      wanted.values,
    ]);
  });

  it.each([0, 0.5, 0.9, 0.995, 1])(
    'has a threshold of at least the %f quantile of its score on the reference text',
    (referenceQuantile) => {
      const { reference_TF, referenceEnergy } = world.prior;
      const asked = kind === 'scope' ? 'leverage' : kind;
      withHook(gateOf(kind, { floor: 0, referenceQuantile }), (hook) => {
        const block = hook.blocks.get(world.prior.layer)!;
        const scores = Array.from(
          scoreKnownKeys(gateOf(asked), block, reference_TF, referenceEnergy),
        ).sort((a, b) => a - b);
        const wanted =
          scores[Math.min(scores.length - 1, Math.floor(referenceQuantile * scores.length))]!;
        expect(hook.report.layers[0]!.threshold).toBe(Math.max(0, wanted));
        expect(block.threshold).toBe(Math.max(0, wanted));
      });
      withHook(gateOf(kind, { floor: 1e3, referenceQuantile }), (hook) =>
        expect(hook.report.layers[0]!.threshold).toBe(1e3),
      );
    },
  );
});

describe('the scope gate', () => {
  it('opens on a key near a corrected one, however low its leverage, and on no other', () => {
    withHook(gateOf('scope', { floor: 0.999 }), (hook) => {
      const random = seededRandom(21);
      const near = pairs[1]!.key.map((value) => value + 0.2 * (2 * random() - 1));
      const far = randomPairs(1, world, random)[0]!.key;
      const scaled = pairs[2]!.key.map((value) => value / 4);
      const all = (key: readonly number[]) =>
        Math.max(...pairs.map((pair) => cosine(key, pair.key)));
      expect(all(near)).toBeGreaterThan(0.85);
      expect(all(far)).toBeLessThan(0.75);
      expect(ask(hook, [far, near, far, scaled, pairs[0]!.key], rowsOf([5])).opened).toEqual([
        0, 1, 0, 1, 1,
      ]);
    });
    withHook(gateOf('leverage', { floor: 0.999 }), (hook) => {
      expect(ask(hook, [pairs[0]!.key, pairs[0]!.key], rowsOf([2])).opened).toEqual([0, 0]);
    });
  });

  it('opens on a key that many corrections explain together, though it is near none', () => {
    // Enough pairs to fill the space.
    const many = randomPairs(5 * F, world, seededRandom(31)).map((pair, i) => ({
      ...pair,
      subject: `subject ${i}`,
    }));
    withHook(
      gateOf('scope', { floor: 0.5, nearKey: 0.999 }),
      (hook) => {
        const key = randomPairs(1, world, seededRandom(32))[0]!.key;
        expect(ask(hook, [key, key], rowsOf([2]), { some: many }).opened).toEqual([0, 1]);
      },
      many,
    );
  });
});

describe('the subject gate', () => {
  /** Tokens of names that overlap: 'a b', 'b', and one of which there is no end elsewhere. */
  const [A, B, C, OTHER] = [1, 2, 3, 9];
  /**
   * Subject 0 is A B, subject 1 is B, subject 2 is C, by itself or behind A, and so is subject 3.
   */
  const named = () =>
    pairs.map((pair, i) => ({ ...pair, spellings: [[[A, B]], [[B]], [[C], [A, C]], [[C]]][i]! }));
  const keysOf = (...of: (number | readonly number[])[]) =>
    of.map((key) => (typeof key === 'number' ? pairs[key]!.key : key));
  const openedOn = (
    tokens: readonly number[],
    keys: readonly (readonly number[])[],
    changes: Partial<GateParameters> = {},
  ) =>
    withHook(
      gateOf('subject', changes),
      (hook) => ask(hook, keys, layOutRows([tokens], [1])).opened,
      named(),
    );
  const strange = (seed: number) => randomPairs(1, world, seededRandom(seed))[0]!.key;

  it('is shut on the very key of a correction where its subject is not named', () => {
    const everywhere = keysOf(0, 0, 0, 0, 0, 0, 0);
    expect(openedOn([A, B, OTHER, B, A, OTHER, B], everywhere)).toEqual([0, 1, 0, 0, 0, 0, 0]);
    expect(openedOn([OTHER, A, A, B, B, C, A], everywhere)).toEqual([0, 0, 0, 1, 0, 0, 0]);
    withHook(
      gateOf('key'),
      (hook) =>
        expect(
          ask(hook, everywhere, layOutRows([[A, B, OTHER, B, A, OTHER, B]], [1])).opened,
        ).not.toContain(0),
      named(),
    );
  });

  it('is shut where a subject is named and the key lies far from its corrections', () => {
    const far = [41, 42, 43, 44]
      .map(strange)
      .filter((key) => Math.max(...pairs.map((pair) => cosine(key, pair.key))) < 0.6);
    expect(far.length).toBeGreaterThan(1);
    for (const key of far) expect(openedOn([A, B, C], [key, key, key])).toEqual([0, 0, 0]);
  });

  it('opens on a name exactly where the whitened cosine to that subject’s keys reaches the floor', () => {
    // Between a correction's key and another one: the cosine takes every value in between.
    const asked = fc.record({
      seed: fc.integer({ min: 0, max: 2 ** 31 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      of: fc.constantFrom(0, 1, 2, 3),
      floor: fc.double({ min: -0.5, max: 0.95, noNaN: true }),
    });
    fc.assert(
      fc.property(asked, ({ seed, share, of, floor }) => {
        const other = strange(seed);
        const key = pairs[of]!.key.map((value, f) =>
          Math.fround((1 - share) * value + share * other[f]!),
        );
        const name = [
          [A, B],
          [OTHER, B],
          [A, C],
          [OTHER, C],
        ][of]!;
        // C by itself names two.
        const score = Math.max(
          ...(of === 3 ? [2, 3] : [of]).map((pair) => cosine(key, pairs[pair]!.key)),
        );
        fc.pre(Math.abs(score - floor) > COSINE_TOLERANCE);
        withHook(
          gateOf('subject', { floor }),
          (hook) => {
            const { opened, scores } = ask(hook, [other, key], layOutRows([name], [1]));
            expect(opened[1]).toBe(score >= floor ? 1 : 0);
            if (opened[1] === 1)
              expect(Math.abs(scores[1]! - score)).toBeLessThan(COSINE_TOLERANCE);
          },
          named(),
        );
      }),
      { numRuns: 100 },
    );
  });

  it('asks for the keys of the subject that is named, whatever lies nearer', () => {
    expect(openedOn([A, B], keysOf(1, 1))).toEqual([0, 0]);
    expect(openedOn([OTHER, B], keysOf(1, 1))).toEqual([0, 1]);
    // Of the longest name that ends there.
    expect(openedOn([A, B, B], keysOf(1, 1, 1))).toEqual([0, 0, 1]);
  });

  it('of a name that two subjects have opens on either’s keys, and lets that one’s map through', () => {
    withHook(
      gateOf('subject'),
      (hook) => {
        const keys = keysOf(2, 3, 2, 3);
        const { opened, nearest, base, values } = ask(
          hook,
          keys,
          layOutRows([[C, C, OTHER, C]], [1]),
        );
        expect([opened, nearest]).toEqual([
          [1, 1, 0, 1],
          [2, 3, 3],
        ]);
        [2, 3, null, 3].forEach((pair, row) =>
          expectValue(
            values,
            base,
            row,
            pair === null ? null : denseChange([pairs[pair]!], world),
            keys[row]!,
          ),
        );
      },
      named(),
    );
  });

  it.each(MAPS)(
    'lets through what least squares over the named subject’s corrections gives, or over all: map %s',
    (map) => {
      const random = seededRandom(51);
      // Each subject with several corrections.
      const many = [
        ...named(),
        ...randomPairs(9, world, random).map((pair, i) => ({
          ...pair,
          subject: pairs[i % 3]!.subject,
          spellings: [],
        })),
      ];
      const of = bySubject(many);
      withHook(
        gateOf('subject', { map, floor: -1 }),
        (hook) => {
          const keys = [strange(52), many[6]!.key, strange(53), many[4]!.key];
          const { opened, base, values } = ask(hook, keys, layOutRows([[A, B, OTHER, B]], [1]), {
            some: many,
          });
          expect(opened).toEqual([0, 1, 0, 1]);
          [null, 'subject 0', null, 'subject 1'].forEach((subject, row) =>
            expectValue(
              values,
              base,
              row,
              subject === null
                ? null
                : denseChange(map === 'joint' ? many : of.get(subject)!, world),
              keys[row]!,
            ),
          );
        },
        many,
      );
    },
  );

  it('does not ask how many other corrections there are, nor how near they lie', () => {
    const random = seededRandom(61);
    const tokens = [A, B, OTHER, B, C, A, B];
    const keys = [0, 0, 1, 1, 3, 2, 0].map((of) =>
      pairs[of]!.key.map((value) => Math.fround(value + 0.4 * (2 * random() - 1))),
    );
    const openings = (some: readonly SubjectPair[]) =>
      withHook(
        gateOf('subject'),
        (hook) => ask(hook, keys, layOutRows([tokens], [1]), { some }),
        some,
      );
    const alone = openings(named());
    expect([...new Set(alone.opened)].sort()).toEqual([0, 1]);
    const crowd = randomPairs(600, world, random).map((pair, i) => ({
      ...pair,
      key: i % 3 === 0 ? [...keys[i % keys.length]!] : pair.key,
      subject: `stranger ${i}`,
      spellings: [[OTHER, OTHER]],
    }));
    const crowded = openings([...named(), ...crowd]);
    expect([crowded.opened, crowded.nearest]).toEqual([alone.opened, alone.nearest]);
    // The products are summed in float32, in as many rows as there are pairs.
    alone.scores.forEach((score, row) =>
      Number.isFinite(score)
        ? expect(Math.abs(crowded.scores[row]! - score)).toBeLessThan(COSINE_TOLERANCE)
        : expect(crowded.scores[row]).toBe(score),
    );
    expect(largestDifference(crowded.values, alone.values)).toBeLessThan(TOLERANCE);
  });

  it('has its floor as its threshold, whatever the reference text and the other corrections say', () => {
    for (const referenceQuantile of [0, 0.5, 1]) {
      for (const nearKey of [0.1, 1]) {
        const crowded = [...pairs, ...pairs.map((pair) => ({ ...pair, subject: 'another' }))];
        withHook(
          gateOf('subject', { floor: 0.4, referenceQuantile, nearKey }),
          (hook) => expect(hook.report.layers[0]!.threshold).toBe(0.4),
          crowded,
        );
      }
    }
  });

  it('never opens at position 0, though the name stands there with its very key', () => {
    withHook(
      gateOf('subject', { floor: -1 }),
      (hook) => {
        expect(ask(hook, keysOf(2, 2, 1), layOutRows([[C], [C, B]])).opened).toEqual([0, 0, 1]);
        expect(ask(hook, keysOf(2), layOutRows([[C]], [1])).opened).toEqual([1]);
      },
      named(),
    );
  });

  it('finds a name that begins in the past, over fillers, and decides as in one pass wherever the text is cut', () => {
    const tokens = [OTHER, A, B, A, OTHER, B, C, A, A, B];
    const keys = keysOf(1, 0, 0, 0, 0, 1, 3, 0, 0, 0);
    withHook(
      gateOf('subject'),
      (hook) => {
        const whole = ask(hook, keys, layOutRows([tokens]));
        expect(whole.opened).toEqual([0, 0, 1, 0, 0, 1, 1, 0, 0, 1]);
        for (let cut = 1; cut < tokens.length; cut++) {
          for (const fillers of [0, 3]) {
            const past = pastOf([
              ...tokens.slice(0, cut),
              ...new Array<number>(fillers).fill(FILLER),
            ]);
            const rest = ask(hook, keys.slice(cut), layOutRows([tokens.slice(cut)], [cut]), {
              past,
            });
            expect(rest.opened, `cut at ${cut}`).toEqual(whole.opened.slice(cut));
            expect(rest.nearest).toEqual(
              whole.nearest.slice(whole.nearest.length - rest.nearest.length),
            );
          }
          // Behind another past the name is not there.
          const other = ask(hook, keys.slice(cut), layOutRows([tokens.slice(cut)], [cut]), {
            past: pastOf(new Array<number>(cut).fill(OTHER)),
          });
          if (tokens[cut - 1] === A && tokens[cut] === B) expect(other.opened[0]).toBe(0);
        }
      },
      named(),
    );
  });

  it('never finds a name across two sequences', () => {
    withHook(
      gateOf('subject'),
      (hook) =>
        expect(
          ask(
            hook,
            keysOf(0, 0, 0, 0),
            layOutRows(
              [
                [OTHER, A],
                [B, A],
              ],
              [1, 1],
            ),
          ).opened,
        ).toEqual([0, 0, 0, 0]),
      named(),
    );
    withHook(
      gateOf('subject'),
      (hook) =>
        expect(ask(hook, keysOf(0, 0, 0), layOutRows([[A, B], [B]], [1, 1])).opened).toEqual([
          0, 1, 0,
        ]),
      named(),
    );
  });

  it('tells in which sequences it may open at all: where a subject is named', () => {
    withHook(
      gateOf('subject', { floor: -1 }),
      (hook) => {
        const sequences = [[OTHER, A], [A, B], [B], [OTHER, OTHER], [A, OTHER, B], [OTHER, C]];
        expect(hook.sequencesNaming(sequences)).toEqual([1, 2, 4, 5]);
        const rows = layOutRows(
          sequences,
          sequences.map(() => 1),
        );
        const { opened } = ask(
          hook,
          Array.from({ length: rows.count }, (_, row) => strange(row)),
          rows,
        );
        const touched = sequences
          .map((_, b) => b)
          .filter((b) => opened.slice(rows.starts[b], rows.starts[b + 1]).includes(1));
        expect(touched).toEqual([1, 2, 4, 5]);
      },
      named(),
    );
  });

  it('takes each of a correction’s keys for its subject', () => {
    const [first, second] = [pairSet(named().slice(0, 2), world), pairSet(named().slice(2), world)];
    const width = (rows: readonly Float32Array[], of: number) =>
      Float32Array.from(
        Array.from({ length: 2 }, (_, row) =>
          rows.flatMap((one) => [...one.subarray(row * of, (row + 1) * of)]),
        ).flat(),
      );
    // Two rows of two keys each: pairs 0 and 2 of subject 0, pairs 1 and 3 of subject 1.
    const views: PairSet = {
      ...first,
      keyWidth: 2 * F,
      valueWidth: 2 * D,
      keys: [width([first.keys[0]!, second.keys[0]!], F)],
      changes: [width([first.changes[0]!, second.changes[0]!], D)],
    };
    for (const map of MAPS) {
      const hook = Hook.build(
        views,
        new Map([[world.prior.layer, world.prior]]),
        gateOf('subject', { map }),
      );
      const inOrder = [0, 2, 1, 3].map((pair, i) => ({
        ...pairs[pair]!,
        subject: pairs[i < 2 ? 0 : 1]!.subject,
      }));
      const keys = keysOf(0, 2, 3, 0, 1);
      const { opened, nearest, base, values } = ask(
        hook,
        keys,
        layOutRows([[A, B, B, A, B]], [1]),
        { some: inOrder },
      );
      // A B is subject 0's: of the second key, and not of subject 1's. B is subject 1's.
      expect([opened, nearest]).toEqual([
        [0, 1, 1, 0, 0],
        [1, 3],
      ]);
      [1, 2].forEach((row, i) =>
        expectValue(
          values,
          base,
          row,
          denseChange(map === 'joint' ? inOrder : inOrder.slice(2 * i, 2 * i + 2), world),
          keys[row]!,
        ),
      );
      hook.dispose();
    }
  });

  it('is asked with the tokens: their keys alone do not score', () => {
    withHook(gateOf('subject'), (hook) => {
      const { reference_TF, referenceEnergy } = world.prior;
      const block = hook.blocks.get(world.prior.layer)!;
      expect(() => scoreKeys(hook.gate, block, reference_TF, null)).toThrow(/not told by its key/);
      expect(() => scoreKnownKeys(hook.gate, block, reference_TF, referenceEnergy)).toThrow(
        /subject gate/,
      );
    });
  });

  it.each(MAPS)(
    'decides in the lowest block for all of them, whatever their own keys say: map %s',
    (map) => {
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
      hook.observer = (layer, opened, _, nearest) =>
        void told.set(layer, { opened: [...opened], nearest: [...nearest()] });
      const value = tf.tidy(() => {
        const base = tf.zeros<tf.Rank.R2>([4, D]);
        // At the third token the name stands with a strange key; at the last with that of one of
        // the two who share it.
        hook.project({
          layer: world.prior.layer,
          keys_RF: tf.tensor2d([strangeKeys[0]!, pairs[1]!.key, strangeKeys[1]!, pairs[3]!.key]),
          base_RD: base,
          rows,
          past: null,
        });
        const keys_RF = tf.tensor2d(strangeKeys);
        const upper = { layer: above.prior.layer, keys_RF, base_RD: base, past: null };
        const value = hook
          .project({ ...upper, rows })
          .dataSync()
          .slice() as Float32Array;
        expect(() => hook.project({ ...upper, rows: layOutRows([tokens], [1]) })).toThrow(
          /has not seen these tokens/,
        );
        return value;
      });
      const decided = { opened: [0, 1, 0, 1], nearest: [1, 3] };
      expect([...told.keys()]).toEqual([world.prior.layer, above.prior.layer]);
      expect(told.get(world.prior.layer)).toEqual(decided);
      expect(told.get(above.prior.layer)!.opened).toEqual(decided.opened);
      // The maps above are those of the pairs above, of the subjects that the lowest block found.
      [null, 1, null, 3].forEach((pair, row) =>
        expectValue(
          value,
          new Float32Array(4 * D),
          row,
          pair === null
            ? null
            : denseChange(map === 'joint' ? pairsAbove : [pairsAbove[pair]!], above),
          strangeKeys[row]!,
        ),
      );
      if (map === 'subject') expect(told.get(above.prior.layer)!.nearest).toEqual(decided.nearest);
      hook.dispose();
      above.free();
    },
  );

  /** The row's value is base + change k; base itself, bit for bit, where there is no change. */
  function expectValue(
    values: Float32Array,
    base: Float32Array,
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

  /** What went before in one sequence. */
  function pastOf(slots: readonly number[]): AttentionPast {
    const tokens = Int32Array.from(slots);
    return {
      length: slots.length,
      tokens,
      valid: Float32Array.from(tokens, (one) => (one === FILLER ? 0 : 1)),
      blocks: new Map(),
    };
  }
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
      const wanted = sizes.map((size, row) =>
        row > 0 && (size - mean) / deviation >= 1.2 ? 1 : 0,
      );
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
    const withReaches = pairs.map((pair, i) => ({
      ...pair,
      change: [...pair.change, reaches[i]!],
    }));
    const stored = { ...pairSet(withReaches, world), valueWidth: D + 1 };
    const priors = new Map([[world.prior.layer, world.prior]]);
    for (const kind of KINDS) {
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
});
