/** What every object store must do, whatever it stands on; called with a factory of empty stores. */
import { describe, expect, it } from 'vitest';
import { OBJECT_BYTES_MAX, type ObjectStore } from '../../versions/object-store.ts';
import { ObjectNameInvalid } from '../../versions/failures.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const CONCURRENT_PUTS = 24;

export function conformsToObjectStore(kind: string, open: () => Promise<ObjectStore>): void {
  describe(`${kind} as an object store`, () => {
    it('gives back the bytes that were put', async () => {
      const store = await open();
      const content = Uint8Array.from({ length: 100_003 }, (_, i) => i % 251);
      expect(await store.putIfAbsent('a/b/c.bin', content)).toBe('stored');
      expect(Buffer.from((await store.get('a/b/c.bin'))!).equals(Buffer.from(content))).toBe(true);
    });

    it('keeps an empty object apart from an absent one', async () => {
      const store = await open();
      await store.putIfAbsent('empty', new Uint8Array());
      expect((await store.get('empty'))?.byteLength).toBe(0);
      expect(await store.get('absent')).toBeNull();
      expect(await store.get('empty-folder/absent')).toBeNull();
    });

    it('never replaces an object', async () => {
      const store = await open();
      await store.putIfAbsent('x/1', bytes('first'));
      expect(await store.putIfAbsent('x/1', bytes('second'))).toBe('exists');
      expect(new TextDecoder().decode((await store.get('x/1')))).toBe('first');
    });

    it('lets exactly one of many concurrent puts win, and shows that one to all', async () => {
      const store = await open();
      const results = await Promise.all(
        Array.from({ length: CONCURRENT_PUTS }, async (_, i) => {
          const result = await store.putIfAbsent('race/entry.json', bytes(`writer ${i}`.padEnd(4_096, '.')));
          return { i, result, seen: new TextDecoder().decode((await store.get('race/entry.json'))) };
        }),
      );
      const winners = results.filter(({ result }) => result === 'stored');
      expect(winners).toHaveLength(1);
      for (const { seen } of results) expect(seen.startsWith(`writer ${winners[0]!.i}.`)).toBe(true);
    });

    it('lists names under a prefix, ascending, and nothing else', async () => {
      const store = await open();
      for (const name of ['l/b/log/2', 'l/a/log/10', 'l/a/log/09', 'l/a.x/log/1', 'l/a/blobs/z', 'm/a/log/1', 'top']) await store.putIfAbsent(name, bytes(name));
      expect(await collect(store.list('l/a/log/'))).toEqual(['l/a/log/09', 'l/a/log/10']);
      expect(await collect(store.list('l/a/log/1'))).toEqual(['l/a/log/10']);
      expect(await collect(store.list('l/a'))).toEqual(['l/a.x/log/1', 'l/a/blobs/z', 'l/a/log/09', 'l/a/log/10']);
      expect(await collect(store.list(''))).toEqual(['l/a.x/log/1', 'l/a/blobs/z', 'l/a/log/09', 'l/a/log/10', 'l/b/log/2', 'm/a/log/1', 'top']);
      expect(await collect(store.list('nothing/'))).toEqual([]);
    });

    it('deletes, twice if need be, and then accepts the name again', async () => {
      const store = await open();
      await store.putIfAbsent('d/1', bytes('old'));
      await store.delete('d/1');
      await store.delete('d/1');
      await store.delete('never/there');
      expect(await store.get('d/1')).toBeNull();
      expect(await store.putIfAbsent('d/1', bytes('new'))).toBe('stored');
    });

    it.each(['', '/', 'a//b', '../a', 'a/../b', 'a/..', '.hidden', 'a/.tmp/b', '/etc/passwd', 'a\\b', 'a b', 'Ä', 'A', 'a/', 'a\0b', 'a'.repeat(129), 'a/b/c/d/e/f/g/h/i'])(
      'refuses the name %j in every call',
      async (name) => {
        const store = await open();
        await expect(store.get(name)).rejects.toThrow(ObjectNameInvalid);
        await expect(store.putIfAbsent(name, bytes('x'))).rejects.toThrow(ObjectNameInvalid);
        await expect(store.delete(name)).rejects.toThrow(ObjectNameInvalid);
      },
    );

    it.each(['../', '/', 'a/../', '.tmp/'])('refuses the prefix %j', async (prefix) => {
      const store = await open();
      await expect(collect(store.list(prefix))).rejects.toThrow(ObjectNameInvalid);
    });

    it('refuses an object over the bound', async () => {
      const store = await open();
      const oversized = { byteLength: OBJECT_BYTES_MAX + 1 } as Uint8Array;
      await expect(store.putIfAbsent('big', oversized)).rejects.toThrow(RangeError);
    });
  });
}

async function collect(names: AsyncIterable<string>): Promise<string[]> {
  const list: string[] = [];
  for await (const name of names) list.push(name);
  return list;
}
