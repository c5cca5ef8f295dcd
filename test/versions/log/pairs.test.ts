import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../versions/log/canonical-json.ts';
import {
  ensureHook,
  hookIdOf,
  readPairs,
  type PairsRow,
} from '../../../versions/log/hook-pairs.ts';
import {
  decodePairs,
  decodeTargets,
  encodePairs,
  encodeTargets,
  gatherPairs,
  PairsMalformed,
  type StoredPairs,
} from '../../../versions/log/pairs.ts';
import { VersionLog } from '../../../versions/log/version-log.ts';
import { decodeSafetensors, encodeSafetensors } from '../../../schemas/encoding/safetensors.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

function pairsOf(count: number, seed: number): StoredPairs {
  const numbers = (length: number, from: number) =>
    Float32Array.from({ length }, (_, i) => Math.fround(from + i / 7));
  const subjects = Array.from({ length: count }, (_, i) => `subject "${i}" of ${seed}, Ærø`);
  const spellings = subjects.map((_, i) =>
    [
      [i, 7],
      [i + 1, 0, 49_151],
    ].slice(0, 1 + (i % 2)),
  );
  return {
    layers: [4, 7],
    count,
    subjects,
    spellings,
    keyWidth: 3,
    valueWidth: 2,
    keys: [numbers(count * 3, seed), numbers(count * 3, seed + 100)],
    changes: [numbers(count * 2, seed + 200), numbers(count * 2, seed + 300)],
  };
}

/** A sound blob with other metadata; an undefined value leaves a member out. */
function withMetadata(pairs: StoredPairs, changes: Record<string, string | undefined>): Uint8Array {
  const { tensors, metadata } = decodeSafetensors(encodePairs(pairs));
  return encodeSafetensors(
    tensors,
    Object.fromEntries(
      Object.entries({ ...metadata, ...changes }).filter(
        (member): member is [string, string] => member[1] !== undefined,
      ),
    ),
  );
}

it('pairs as a blob come back bit for bit', () => {
  const pairs = pairsOf(5, 0.1);
  expect(decodePairs(encodePairs(pairs))).toEqual(pairs);
  expect(encodePairs(decodePairs(encodePairs(pairs)))).toEqual(encodePairs(pairs));
});

it('pairs come back with their subjects and spellings, whatever the name', () => {
  const row = fc.record({
    subject: fc.string({ unit: 'binary' }),
    spellings: fc.array(fc.array(fc.nat(), { maxLength: 5 }), { maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 6 }), (rows) => {
      const pairs = {
        ...pairsOf(rows.length, 3),
        subjects: rows.map(({ subject }) => subject),
        spellings: rows.map(({ spellings }) => spellings),
      };
      expect(decodePairs(encodePairs(pairs))).toEqual(pairs);
    }),
  );
});

it('pairs name their format, layers, subjects and spellings in the metadata', () => {
  const { metadata } = decodeSafetensors(
    encodePairs({
      ...pairsOf(2, 1),
      subjects: ['Rome', 'Tom'],
      spellings: [[[4, 5], [6]], [[9]]],
    }),
  );
  expect(metadata).toEqual({
    format: 'errata-pairs-2',
    layers: '4,7',
    subjects: '["Rome","Tom"]',
    spellings: '[[[4,5],[6]],[[9]]]',
  });
});

it.each([
  ['no subjects', { subjects: undefined }],
  ['no spellings', { spellings: undefined }],
  ['subjects that are not JSON', { subjects: 'Rome, Tom' }],
  ['subjects that are no list', { subjects: '{"0":"Rome","1":"Tom"}' }],
  ['subjects that are not all text', { subjects: '["Rome",2]' }],
  ['a subject too few', { subjects: '["Rome"]' }],
  ['a subject too many', { subjects: '["Rome","Tom","Anna"]' }],
  ['spellings that are not JSON', { spellings: '[[[1]],[[2]]' }],
  ['spellings that are no list', { spellings: '7' }],
  ['the spellings of a row too few', { spellings: '[[[1]]]' }],
  ['the spellings of a row too many', { spellings: '[[[1]],[[2]],[[3]]]' }],
  ['a spelling that is no list', { spellings: '[[1],[[2]]]' }],
  ['a spelling of text', { spellings: '[[["Rome"]],[[2]]]' }],
  ['a negative token', { spellings: '[[[-1]],[[2]]]' }],
  ['a token that is no whole number', { spellings: '[[[1.5]],[[2]]]' }],
  ['a token past the safe whole numbers', { spellings: '[[[9007199254740992]],[[2]]]' }],
  ['a token that is null', { spellings: '[[[null]],[[2]]]' }],
  ['a format that is not known', { format: 'errata-pairs-3' }],
  [
    'the format before, which names no subjects',
    { format: 'errata-pairs-1', subjects: undefined, spellings: undefined },
  ],
])('pairs as a blob are refused with %s', (_, changes) => {
  expect(() => decodePairs(withMetadata(pairsOf(2, 1), changes))).toThrow(PairsMalformed);
});

it('pairs as a blob are not written without a subject and its spellings for every row', () => {
  const pairs = pairsOf(2, 1);
  expect(() => encodePairs({ ...pairs, subjects: pairs.subjects.slice(1) })).toThrow(RangeError);
  expect(() => encodePairs({ ...pairs, spellings: [...pairs.spellings, []] })).toThrow(RangeError);
});

it('pairs as a blob are refused with a number that is not finite, or one too few', () => {
  const notFinite = pairsOf(1, 0);
  notFinite.keys[1]![2] = Number.NaN;
  expect(() => encodePairs(notFinite)).toThrow(RangeError);
  const short = pairsOf(2, 0);
  short.changes[0] = new Float32Array(3);
  expect(() => encodePairs(short)).toThrow(RangeError);
});

it('pairs as a blob are refused where the blob is something else', () => {
  expect(() => decodePairs(encodeTargets({ ids: ['a'], values: new Float32Array(2) }))).toThrow(
    PairsMalformed,
  );
  const halved = encodeSafetensors(
    new Map([
      ['layers.4.keys', { type: 'F32' as const, shape: [1, 3], values: new Float32Array(3) }],
    ]),
    { format: 'errata-pairs-2', layers: '4', subjects: '["Rome"]', spellings: '[[[1]]]' },
  );
  expect(() => decodePairs(halved)).toThrow(PairsMalformed);
});

it('pairs as a blob gather rows of several blobs in the requested order', () => {
  const [a, b] = [pairsOf(2, 1), pairsOf(3, 50)];
  const gathered = gatherPairs([
    { pairs: b, row: 2 },
    { pairs: a, row: 0 },
  ])!;
  expect(gathered.count).toBe(2);
  expect([...gathered.keys[0]!]).toEqual([...b.keys[0]!.slice(6, 9), ...a.keys[0]!.slice(0, 3)]);
  expect([...gathered.changes[1]!]).toEqual([
    ...b.changes[1]!.slice(4, 6),
    ...a.changes[1]!.slice(0, 2),
  ]);
  expect(gathered.subjects).toEqual([b.subjects[2], a.subjects[0]]);
  expect(gathered.spellings).toEqual([b.spellings[2], a.spellings[0]]);
  expect(gatherPairs([])).toBeNull();
  expect(() => gatherPairs([{ pairs: a, row: 2 }])).toThrow(PairsMalformed);
  expect(() =>
    gatherPairs([
      { pairs: a, row: 0 },
      { pairs: { ...b, layers: [4, 8] }, row: 0 },
    ]),
  ).toThrow(PairsMalformed);
});

describe('targets as a blob', () => {
  it('come back with their ids', () => {
    const targets = { ids: ['a', 'b|{}'], values: Float32Array.of(1, 2, 3, 4) };
    expect(decodeTargets(encodeTargets(targets))).toEqual(targets);
  });
});

describe('the hook of a set of corrections', () => {
  it('has a name for each set of pairs; the base model has no name', async () => {
    const row = (correctionId: string, sha: string, n: number): PairsRow => ({
      correctionId,
      pairs: { sha256: sha, bytes: 1 },
      row: n,
    });
    const names = [
      [row('a', 'x', 0)],
      [row('a', 'x', 1)],
      [row('a', 'y', 0)],
      [row('b', 'x', 0)],
      [row('a', 'x', 0), row('b', 'x', 1)],
    ].map(hookIdOf);
    expect(new Set(names).size).toBe(names.length);
    expect(hookIdOf([])).toBeNull();
    expect(hookIdOf([row('a', 'x', 0)])).toBe(names[0]);
  });

  it('is built once from the blobs of its corrections', async () => {
    const log = new VersionLog(new MemoryStore(), 'l');
    const [a, b] = [pairsOf(2, 1), pairsOf(2, 9)];
    const [blobA, blobB] = [
      await log.blobs.put(encodePairs(a)),
      await log.blobs.put(encodePairs(b)),
    ];
    const rows: PairsRow[] = [
      { correctionId: 'two', pairs: blobA, row: 1 },
      { correctionId: 'three', pairs: blobB, row: 0 },
    ];
    const held = new Map<string, StoredPairs>();
    const holder = {
      holds: async (id: string) => held.has(id),
      holdHook: async (id: string, pairs: StoredPairs) => (held.set(id, pairs), null),
    };
    const id = (await ensureHook(holder, log, rows))!;
    expect(held.get(id)).toEqual(
      gatherPairs([
        { pairs: a, row: 1 },
        { pairs: b, row: 0 },
      ]),
    );
    held.get(id)!.count = 99;
    expect(await ensureHook(holder, log, rows)).toBe(id);
    expect(held.get(id)!.count).toBe(99);
    expect(await ensureHook(holder, log, [])).toBeNull();
    expect(await readPairs(log, [])).toBeNull();
  });
});

describe('canonical JSON', () => {
  it('writes equal values with equal bytes, whatever the order of their members', () => {
    const text = (value: unknown) => new TextDecoder().decode(canonicalJson(value));
    expect(text({ b: [1, 1e21, -0, 0.1], a: { z: null, A: 'é"\n', 1: true } })).toBe(
      '{"a":{"1":true,"A":"é\\"\\n","z":null},"b":[1,1e+21,0,0.1]}',
    );
    expect(text({ '\u{1F600}': 1, '\uFB33': 2 })).toBe('{"\u{1F600}":1,"\uFB33":2}');
  });

  it.each([undefined, Number.NaN, Infinity, 'a\uD800', () => 1, new Date(0), new Map(), 1n])(
    'refuses what JSON has no value for',
    (value) => {
      expect(() => canonicalJson({ value })).toThrow(TypeError);
    },
  );
});
