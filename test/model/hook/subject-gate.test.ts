import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type PairSet } from '../../../model/engine-types.ts';
import { Hook } from '../../../model/hook/hook.ts';
import { type AttentionPast } from '../../../model/network/attention-past.ts';
import { FILLER, layOutRows } from '../../../model/network/token-rows.ts';
import { seededRandom } from '../../../model/tensor/random.ts';
import { largestDifference } from '../../golden/read-golden.ts';
import {
  bySubject,
  denseChange,
  pairSet,
  randomPairs,
  type SubjectPair,
} from '../synthetic-prior.ts';
import {
  A,
  ask,
  B,
  C,
  cosine,
  COSINE_TOLERANCE,
  createGateWorld,
  D,
  expectValue,
  F,
  gateOf,
  keysOf,
  named,
  openedOn,
  OTHER,
  pairs,
  strange,
  TOLERANCE,
  withHook,
  world,
} from './gate-world.ts';

createGateWorld();

const MAPS = ['subject', 'joint'] as const;

it('the subject gate is shut on a correction’s own key if no subject is named', () => {
  const everywhere = keysOf(0, 0, 0, 0, 0, 0, 0);
  expect(openedOn([A, B, OTHER, B, A, OTHER, B], everywhere)).toEqual([0, 1, 0, 0, 0, 0, 0]);
  expect(openedOn([OTHER, A, A, B, B, C, A], everywhere)).toEqual([0, 0, 0, 1, 0, 0, 0]);
  withHook(
    gateOf('always'),
    (hook) =>
      expect(
        ask(hook, everywhere, layOutRows([[A, B, OTHER, B, A, OTHER, B]], [1])).opened,
      ).not.toContain(0),
    named(),
  );
});

it('the subject gate is shut on a name whose key is far from its corrections', () => {
  const far = [41, 42, 43, 44]
    .map(strange)
    .filter((key) => Math.max(...pairs.map((pair) => cosine(key, pair.key))) < 0.6);
  expect(far.length).toBeGreaterThan(1);
  for (const key of far) expect(openedOn([A, B, C], [key, key, key])).toEqual([0, 0, 0]);
});

it('the subject gate opens exactly where the whitened cosine reaches the floor', () => {
  // Between a correction's key and another key the cosine takes every value in between.
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
      // C alone names two.
      const score = Math.max(
        ...(of === 3 ? [2, 3] : [of]).map((pair) => cosine(key, pairs[pair]!.key)),
      );
      fc.pre(Math.abs(score - floor) > COSINE_TOLERANCE);
      withHook(
        gateOf('subject', { floor }),
        (hook) => {
          const { opened, scores } = ask(hook, [other, key], layOutRows([name], [1]));
          expect(opened[1]).toBe(score >= floor ? 1 : 0);
          if (opened[1] === 1) expect(Math.abs(scores[1]! - score)).toBeLessThan(COSINE_TOLERANCE);
        },
        named(),
      );
    }),
    { numRuns: 100 },
  );
});

it("the subject gate compares with the named subject's keys, even if others are nearer", () => {
  expect(openedOn([A, B], keysOf(1, 1))).toEqual([0, 0]);
  expect(openedOn([OTHER, B], keysOf(1, 1))).toEqual([0, 1]);
  // The longest name that ends there counts.
  expect(openedOn([A, B, B], keysOf(1, 1, 1))).toEqual([0, 0, 1]);
});

it('the subject gate of a shared name opens on either subject’s keys, with that map', () => {
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
          { values, base },
          row,
          pair === null ? null : denseChange([pairs[pair]!], world),
          keys[row]!,
        ),
      );
    },
    named(),
  );
});

it.each(MAPS)('the subject gate applies the least-squares change of its map: %s', (map) => {
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
          { values, base },
          row,
          subject === null ? null : denseChange(map === 'joint' ? many : of.get(subject)!, world),
          keys[row]!,
        ),
      );
    },
    many,
  );
});

it('the subject gate does not depend on other subjects’ corrections', () => {
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

it('the subject gate never opens at position 0, even on a correction’s own key', () => {
  withHook(
    gateOf('subject', { floor: -1 }),
    (hook) => {
      expect(ask(hook, keysOf(2, 2, 1), layOutRows([[C], [C, B]])).opened).toEqual([0, 0, 1]);
      expect(ask(hook, keysOf(2), layOutRows([[C]], [1])).opened).toEqual([1]);
    },
    named(),
  );
});

it('the subject gate decides alike for any cut of the text, over fillers', () => {
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
        // The name is missing behind another past.
        const other = ask(hook, keys.slice(cut), layOutRows([tokens.slice(cut)], [cut]), {
          past: pastOf(new Array<number>(cut).fill(OTHER)),
        });
        if (tokens[cut - 1] === A && tokens[cut] === B) expect(other.opened[0]).toBe(0);
      }
    },
    named(),
  );
});

it('the subject gate never finds a name across two sequences', () => {
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

it('the subject gate reports the sequences that name a subject, where it may open', () => {
  withHook(
    gateOf('subject', { floor: -1 }),
    (hook) => {
      const sequences = [[OTHER, A], [A, B], [B], [OTHER, OTHER], [A, OTHER, B], [OTHER, C]];
      expect(hook.mayOpen(sequences)).toEqual([1, 2, 4, 5]);
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

it("the subject gate treats each of a correction’s keys as its subject's", () => {
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
    const { opened, nearest, base, values } = ask(hook, keys, layOutRows([[A, B, B, A, B]], [1]), {
      some: inOrder,
    });
    // A B is subject 0's, for the second key, and not subject 1's. B is subject 1's.
    expect([opened, nearest]).toEqual([
      [0, 1, 1, 0, 0],
      [1, 3],
    ]);
    [1, 2].forEach((row, i) =>
      expectValue(
        { values, base },
        row,
        denseChange(map === 'joint' ? inOrder : inOrder.slice(2 * i, 2 * i + 2), world),
        keys[row]!,
      ),
    );
    hook.dispose();
  }
});

/** The past of one sequence. */
function pastOf(slots: readonly number[]): AttentionPast {
  const tokens = Int32Array.from(slots);
  return {
    length: slots.length,
    tokens,
    valid: Float32Array.from(tokens, (one) => (one === FILLER ? 0 : 1)),
    blocks: new Map(),
  };
}
