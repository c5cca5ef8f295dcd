/** Tests that every object store must pass; called with a factory of empty stores. */
import { expect, it } from 'vitest';
import {
  namesUnder,
  OBJECT_BYTES_MAX,
  OBJECT_NAME_LIMITS,
  type ObjectStore,
} from '../../../versions/stores/object-store.ts';
import { ObjectNameInvalid } from '../../../versions/stores/failures.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const CONCURRENT_PUTS = 24;
const RACES = 3;

/** More than a server gives in one page of a listing. */
const MANY_NAMES = 1_100;
const AT_ONCE = 16;

/** More than a server or its client sends in one piece. */
const BIG_BYTES = 24 * 2 ** 20 + 1;

type Check = (open: () => Promise<ObjectStore>) => Promise<void>;

const CHECKS: Record<string, Check> = {
  'gives back the bytes that were put': async (open) => {
    const store = await open();
    const content = Uint8Array.from({ length: 100_003 }, (_, i) => i % 251);
    expect(await store.putIfAbsent('a/b/c.bin', content)).toBe('stored');
    expect(Buffer.from((await store.get('a/b/c.bin'))!).equals(Buffer.from(content))).toBe(true);
  },

  'keeps an empty object apart from an absent one': async (open) => {
    const store = await open();
    await store.putIfAbsent('empty', new Uint8Array());
    expect((await store.get('empty'))?.byteLength).toBe(0);
    expect(await store.get('absent')).toBeNull();
    expect(await store.get('empty-folder/absent')).toBeNull();
  },

  'never replaces an object': async (open) => {
    const store = await open();
    await store.putIfAbsent('x/1', bytes('first'));
    expect(await store.putIfAbsent('x/1', bytes('second'))).toBe('exists');
    expect(new TextDecoder().decode(await store.get('x/1'))).toBe('first');
  },

  'lets exactly one of many concurrent puts win, and shows that one to all': async (open) => {
    const store = await open();
    for (let race = 1; race <= RACES; race += 1) {
      const name = `race/${race}/entry.json`;
      const results = await Promise.all(
        Array.from({ length: CONCURRENT_PUTS }, async (_, i) => {
          const result = await store.putIfAbsent(name, bytes(`writer ${i}`.padEnd(4_096, '.')));
          return { i, result, seen: new TextDecoder().decode(await store.get(name)) };
        }),
      );
      const winners = results.filter(({ result }) => result === 'stored');
      expect(winners).toHaveLength(1);
      for (const { seen } of results)
        expect(seen.startsWith(`writer ${winners[0]!.i}.`)).toBe(true);
    }
  },

  'lets one of many concurrent puts of the same bytes win, too': async (open) => {
    const store = await open();
    const results = await Promise.all(
      Array.from({ length: CONCURRENT_PUTS }, () => store.putIfAbsent('same', bytes('the same'))),
    );
    expect(results.filter((result) => result === 'stored')).toHaveLength(1);
  },

  'keeps a large object whole': async (open) => {
    const store = await open();
    const content = new Uint8Array(BIG_BYTES).map((_, i) => (i * 31) % 253);
    expect(await store.putIfAbsent('large/object', content)).toBe('stored');
    expect(await store.putIfAbsent('large/object', content.slice(0, 10))).toBe('exists');
    expect(Buffer.from((await store.get('large/object'))!).equals(Buffer.from(content))).toBe(true);
  },

  'lists more names than fit in a page, each once': async (open) => {
    const store = await open();
    const names = Array.from(
      { length: MANY_NAMES },
      (_, i) => `many/${i % 2 === 0 ? 'a' : 'a.b'}/${String(i).padStart(6, '0')}`,
    ).sort();
    const queue = [...names].reverse();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let name = queue.pop(); name !== undefined; name = queue.pop())
          await store.putIfAbsent(name, bytes(name));
      }),
    );
    expect(await namesUnder(store, 'many/')).toEqual(names);
  },

  'lists names under a prefix, ascending, and nothing else': async (open) => {
    const store = await open();
    for (const name of [
      'l/b/log/2',
      'l/a/log/10',
      'l/a/log/09',
      'l/a.x/log/1',
      'l/a/blobs/z',
      'm/a/log/1',
      'top',
    ])
      await store.putIfAbsent(name, bytes(name));
    expect(await namesUnder(store, 'l/a/log/')).toEqual(['l/a/log/09', 'l/a/log/10']);
    expect(await namesUnder(store, 'l/a/log/1')).toEqual(['l/a/log/10']);
    expect(await namesUnder(store, 'l/a')).toEqual([
      'l/a.x/log/1',
      'l/a/blobs/z',
      'l/a/log/09',
      'l/a/log/10',
    ]);
    expect(await namesUnder(store, '')).toEqual([
      'l/a.x/log/1',
      'l/a/blobs/z',
      'l/a/log/09',
      'l/a/log/10',
      'l/b/log/2',
      'm/a/log/1',
      'top',
    ]);
    expect(await namesUnder(store, 'nothing/')).toEqual([]);
  },

  'deletes, twice if need be, and then accepts the name again': async (open) => {
    const store = await open();
    await store.putIfAbsent('d/1', bytes('old'));
    await store.delete('d/1');
    await store.delete('d/1');
    await store.delete('never/there');
    expect(await store.get('d/1')).toBeNull();
    expect(await store.putIfAbsent('d/1', bytes('new'))).toBe('stored');
  },

  'holds the longest names there may be': async (open) => {
    const store = await open();
    const name = Array.from({ length: OBJECT_NAME_LIMITS.segmentsMax }, (_, i) =>
      String(i).padEnd(
        Math.floor(OBJECT_NAME_LIMITS.charactersMax / OBJECT_NAME_LIMITS.segmentsMax) - 1,
        'x',
      ),
    ).join('/');
    expect(await store.putIfAbsent(name, bytes('long'))).toBe('stored');
    expect(await namesUnder(store, name.slice(0, 100))).toEqual([name]);
    expect(new TextDecoder().decode(await store.get(name))).toBe('long');
  },

  'refuses an object over the bound': async (open) => {
    const store = await open();
    const oversized = { byteLength: OBJECT_BYTES_MAX + 1 } as Uint8Array;
    await expect(store.putIfAbsent('big', oversized)).rejects.toThrow(RangeError);
  },
};

const INVALID_NAMES = [
  '',
  '/',
  'a//b',
  '../a',
  'a/../b',
  'a/..',
  '.hidden',
  'a/.tmp/b',
  '/etc/passwd',
  'a\\b',
  'a b',
  'Ä',
  'A',
  'a/',
  'a\0b',
  'a'.repeat(129),
  'a/b/c/d/e/f/g/h/i',
];
const INVALID_PREFIXES = ['../', '/', 'a/../', '.tmp/'];

export function conformsToObjectStore(kind: string, open: () => Promise<ObjectStore>): void {
  for (const [name, check] of Object.entries(CHECKS))
    it(`${kind}, an object store, ${name}`, () => check(open));
  it.each(INVALID_NAMES)(`${kind} refuses the name %j in every call`, async (name) => {
    const store = await open();
    await expect(store.get(name)).rejects.toThrow(ObjectNameInvalid);
    await expect(store.putIfAbsent(name, bytes('x'))).rejects.toThrow(ObjectNameInvalid);
    await expect(store.delete(name)).rejects.toThrow(ObjectNameInvalid);
  });
  it.each(INVALID_PREFIXES)(`${kind} refuses the prefix %j`, async (prefix) => {
    const store = await open();
    await expect(namesUnder(store, prefix)).rejects.toThrow(ObjectNameInvalid);
  });
}
