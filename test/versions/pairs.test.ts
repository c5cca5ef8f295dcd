import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../versions/canonical-json.ts';
import { ensureHook, hookIdOf, readPairs, type PairsRow } from '../../versions/hook-pairs.ts';
import { decodePairs, decodeTargets, encodePairs, encodeTargets, gatherPairs, PairsMalformed, type StoredPairs } from '../../versions/pairs.ts';
import { VersionLog } from '../../versions/version-log.ts';
import { encodeSafetensors } from '../../schemas/safetensors.ts';
import { MemoryStore } from './memory-store.ts';

function pairsOf(count: number, seed: number): StoredPairs {
  const numbers = (length: number, from: number) => Float32Array.from({ length }, (_, i) => Math.fround(from + i / 7));
  return { layers: [4, 7], count, keyWidth: 3, valueWidth: 2, keys: [numbers(count * 3, seed), numbers(count * 3, seed + 100)], changes: [numbers(count * 2, seed + 200), numbers(count * 2, seed + 300)] };
}

describe('pairs as a blob', () => {
  it('come back bit for bit', () => {
    const pairs = pairsOf(5, 0.1);
    expect(decodePairs(encodePairs(pairs))).toEqual(pairs);
    expect(encodePairs(decodePairs(encodePairs(pairs)))).toEqual(encodePairs(pairs));
  });

  it('are refused with a number that is not finite, or one too few', () => {
    const sick = pairsOf(1, 0);
    sick.keys[1]![2] = Number.NaN;
    expect(() => encodePairs(sick)).toThrow(RangeError);
    const short = pairsOf(2, 0);
    short.changes[0] = new Float32Array(3);
    expect(() => encodePairs(short)).toThrow(RangeError);
  });

  it('are refused where the blob is something else', () => {
    expect(() => decodePairs(encodeTargets({ ids: ['a'], values: new Float32Array(2) }))).toThrow(PairsMalformed);
    const halved = encodeSafetensors(new Map([['layers.4.keys', { type: 'F32' as const, shape: [1, 3], values: new Float32Array(3) }]]), { format: 'errata-pairs-1', layers: '4' });
    expect(() => decodePairs(halved)).toThrow(PairsMalformed);
  });

  it('gather rows of several blobs in the order asked for', () => {
    const [a, b] = [pairsOf(2, 1), pairsOf(3, 50)];
    const gathered = gatherPairs([{ pairs: b, row: 2 }, { pairs: a, row: 0 }])!;
    expect(gathered.count).toBe(2);
    expect([...gathered.keys[0]!]).toEqual([...b.keys[0]!.slice(6, 9), ...a.keys[0]!.slice(0, 3)]);
    expect([...gathered.changes[1]!]).toEqual([...b.changes[1]!.slice(4, 6), ...a.changes[1]!.slice(0, 2)]);
    expect(gatherPairs([])).toBeNull();
    expect(() => gatherPairs([{ pairs: a, row: 2 }])).toThrow(PairsMalformed);
    expect(() => gatherPairs([{ pairs: a, row: 0 }, { pairs: { ...b, layers: [4, 8] }, row: 0 }])).toThrow(PairsMalformed);
  });
});

describe('targets as a blob', () => {
  it('come back with their ids', () => {
    const targets = { ids: ['a', 'b|{}'], values: Float32Array.of(1, 2, 3, 4) };
    expect(decodeTargets(encodeTargets(targets))).toEqual(targets);
  });
});

describe('the hook of a set of corrections', () => {
  it('has a name that tells sets of pairs apart, and none for the base model', async () => {
    const row = (correctionId: string, sha: string, n: number): PairsRow => ({ correctionId, pairs: { sha256: sha, bytes: 1 }, row: n });
    const names = [[row('a', 'x', 0)], [row('a', 'x', 1)], [row('a', 'y', 0)], [row('b', 'x', 0)], [row('a', 'x', 0), row('b', 'x', 1)]].map(hookIdOf);
    expect(new Set(names).size).toBe(names.length);
    expect(hookIdOf([])).toBeNull();
    expect(hookIdOf([row('a', 'x', 0)])).toBe(names[0]);
  });

  it('is built once from the blobs of its corrections', async () => {
    const log = new VersionLog(new MemoryStore(), 'l');
    const [a, b] = [pairsOf(2, 1), pairsOf(2, 9)];
    const [blobA, blobB] = [await log.putBlob(encodePairs(a)), await log.putBlob(encodePairs(b))];
    const rows: PairsRow[] = [
      { correctionId: 'two', pairs: blobA, row: 1 },
      { correctionId: 'three', pairs: blobB, row: 0 },
    ];
    const held = new Map<string, StoredPairs>();
    const holder = { holds: async (id: string) => held.has(id), holdHook: async (id: string, pairs: StoredPairs) => (held.set(id, pairs), null) };
    const id = (await ensureHook(holder, log, rows))!;
    expect(held.get(id)).toEqual(gatherPairs([{ pairs: a, row: 1 }, { pairs: b, row: 0 }]));
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
    expect(text({ b: [1, 1e21, -0, 0.1], a: { z: null, A: 'é"\n', 1: true } })).toBe('{"a":{"1":true,"A":"é\\"\\n","z":null},"b":[1,1e+21,0,0.1]}');
    expect(text({ '\u{1F600}': 1, '\uFB33': 2 })).toBe('{"\u{1F600}":1,"\uFB33":2}');
  });

  it.each([undefined, Number.NaN, Infinity, 'a\uD800', () => 1, new Date(0), new Map(), 1n])('refuses what JSON has no value for', (value) => {
    expect(() => canonicalJson({ value })).toThrow(TypeError);
  });
});
