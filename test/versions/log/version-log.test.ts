import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import {
  BlobMissing,
  EntryRefused,
  StagingGone,
  VersionLogDamaged,
  VersionUnknown,
} from '../../../versions/log/failures.ts';
import { ObjectNameInvalid } from '../../../versions/stores/failures.ts';
import { Versions } from '../../../versions/versions.ts';
import { VersionLog } from '../../../versions/log/version-log.ts';
import { blobName, entryName } from '../../../versions/log/object-names.ts';
import { addedCorrection, appendChange, versionEntry } from '../entries.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const removal = (id: string, by = 'x') => ({
  correctionId: id,
  factKey: `${id}|{} is in`,
  because: 'superseded' as const,
  by,
});

function freshLog(): { store: MemoryStore; log: VersionLog; again: () => VersionLog } {
  const store = new MemoryStore();
  return { store, log: new VersionLog(store, 'l'), again: () => new VersionLog(store, 'l') };
}

it('the version log begins as version 0, the base model', async () => {
  const { log } = freshLog();
  const history = await log.read();
  expect(history.head).toEqual({ version: 0, hash: null });
  expect(history.active.size).toBe(0);
});

it('the log stores canonical entries under 20 digits, linked by hash', async () => {
  const { store, log } = freshLog();
  await appendChange(log, { add: [addedCorrection('a')] });
  await appendChange(log, { add: [addedCorrection('b')] });
  const entries = [...store.objects].filter(([name]) => name.includes('/log/'));
  expect(entries.map(([name]) => name)).toEqual([
    'lineages/l/log/00000000000000000001.json',
    'lineages/l/log/00000000000000000002.json',
  ]);
  const [first, second] = entries.map(([, bytes]) => bytes) as [Uint8Array, Uint8Array];
  const text = new TextDecoder().decode(second);
  const entry = JSON.parse(text) as VersionEntry;
  expect(entry.parent).toBe(hashOf(first));
  expect(text.startsWith('{"added":[{"correctionId":"b","factKey":')).toBe(true);
  expect(text).not.toMatch(/\n|: /);
});

it('the version log follows what other writers append, reading only what is new', async () => {
  const { store, log, again } = freshLog();
  const reader = again();
  await appendChange(log, { add: [addedCorrection('a')] });
  expect((await reader.read()).head.version).toBe(1);
  for (let i = 0; i < 40; i += 1) await appendChange(log, { add: [addedCorrection(`b${i}`)] });
  const names: string[] = [];
  const get = store.get.bind(store);
  store.get = (name) => (names.push(name), get(name));
  const history = await reader.read();
  expect(history.head.version).toBe(41);
  expect(names).not.toContain(entryName('l', 1));
  expect([...history.active.keys()]).toEqual([
    'a',
    ...Array.from({ length: 40 }, (_, i) => `b${i}`),
  ]);
});

it('one of two writers of the same version wins, and the other sees its entry', async () => {
  const { log, again } = freshLog();
  const other = again();
  const mine = versionEntry(1, null, {
    added: [addedCorrection('a')],
    corrections: 1,
    batchId: 'mine',
  });
  const theirs = versionEntry(1, null, {
    added: [addedCorrection('b')],
    corrections: 1,
    batchId: 'theirs',
  });
  const results = await Promise.all([log.append(mine), other.append(theirs)]);
  expect(results.map((result) => result.kind).sort()).toEqual(['appended', 'exists']);
  const lost = results.find((result) => result.kind === 'exists')!;
  const won = results[0].kind === 'appended' ? 'mine' : 'theirs';
  expect(lost.kind === 'exists' && lost.entry.batchId).toBe(won);
});

it('the version log HEAD stops below a missing entry', async () => {
  const { store, log, again } = freshLog();
  for (const id of ['a', 'b', 'c']) await appendChange(log, { add: [addedCorrection(id)] });
  store.objects.delete(entryName('l', 2));
  expect((await again().read()).head.version).toBe(1);
});

it('the version log shows the history as of any existing version', async () => {
  const { log, again } = freshLog();
  await appendChange(log, { add: [addedCorrection('a'), addedCorrection('b')] });
  await appendChange(log, { add: [addedCorrection('c')], remove: [removal('a')] });
  const reader = again();
  expect([...(await reader.at(2)).active.keys()]).toEqual(['b', 'c']);
  expect([...(await reader.at(1)).active.keys()]).toEqual(['a', 'b']);
  expect((await reader.at(0)).active.size).toBe(0);
  for (const version of [3, -1, 1.5])
    await expect(reader.at(version)).rejects.toThrow(VersionUnknown);
});

describe('an entry is refused before anything is written', () => {
  const cases: [string, Partial<VersionEntry>][] = [
    ['a wrong parent', { parent: 'cd'.repeat(32) }],
    ['a foreign lineage', { lineage: 'other' }],
    ['a wrong count', { corrections: 7 }],
    ['a correction that holds already', { added: [addedCorrection('a')] }],
    [
      'a second correction of one fact',
      { added: [addedCorrection('b', { factKey: 'a|{} is in' })] },
    ],
    ['a removal of what does not hold', { removed: [removal('zz')], corrections: 1 }],
    [
      'two corrections with one row',
      { added: [addedCorrection('b'), addedCorrection('c')], corrections: 3 },
    ],
    ['corrections without pairs', { pairs: null }],
    ['pairs without corrections', { added: [], removed: [removal('a')], corrections: 0 }],
    ['the batch of an earlier version', { batchId: 'batch-1' }],
    ['no change at all', { added: [], corrections: 1 }],
    ['a number JSON cannot write', { layers: [{ layer: 1, editNorm: Number.NaN, threshold: 0 }] }],
    ['an unknown version', { version: 5 }],
  ];
  it.each(cases)('%s', async (_, fault) => {
    const { store, log } = freshLog();
    await appendChange(log, { add: [addedCorrection('a')] });
    const { head } = await log.read();
    const sound = versionEntry(2, head.hash, { added: [addedCorrection('b')], corrections: 2 });
    await expect(log.append({ ...sound, ...fault })).rejects.toThrow(EntryRefused);
    expect([...store.objects.keys()].filter((name) => name.includes('/log/'))).toHaveLength(1);
    expect((await log.append(sound)).kind).toBe('appended');
  });
});

describe('damage is found while reading', () => {
  it('in an entry that was changed after its successor was written', async () => {
    const { store, log, again } = freshLog();
    await appendChange(log, { add: [addedCorrection('a')] });
    await appendChange(log, { add: [addedCorrection('b')] });
    const name = entryName('l', 1);
    const text = new TextDecoder().decode(store.objects.get(name)).replace('"Lyon"', '"Oslo"');
    store.objects.set(name, new TextEncoder().encode(text));
    await expect(again().read()).rejects.toThrow(
      /version log of lineage "l" is damaged at lineages\/l\/log\/0{19}2\.json: its parent is/i,
    );
  });

  it.each(['', '{', '[]', '{"format":2}', '\xff'])('in an entry that reads %j', async (text) => {
    const { store, again } = freshLog();
    store.objects.set(entryName('l', 1), Buffer.from(text, 'latin1'));
    await expect(again().read()).rejects.toThrow(VersionLogDamaged);
  });

  it('in a blob whose bytes do not hash to its name', async () => {
    const { store, log } = freshLog();
    const reference = await log.blobs.put(Buffer.from('numbers'));
    const name = blobName('l', reference.sha256);
    expect(new TextDecoder().decode(await log.blobs.get(reference))).toBe('numbers');
    store.objects.set(name, Buffer.from('numberz'));
    await expect(log.blobs.get(reference)).rejects.toThrow(VersionLogDamaged);
    store.objects.set(name, Buffer.from('number'));
    await expect(log.blobs.get(reference)).rejects.toThrow(VersionLogDamaged);
    store.objects.delete(name);
    await expect(log.blobs.get(reference)).rejects.toThrow(BlobMissing);
  });
});

describe('a staged blob', () => {
  it('is gone with its batch, unless it was kept', async () => {
    const { log } = freshLog();
    const [kept, unused] = [
      await log.blobs.stage('3.a', Buffer.from('pairs')),
      await log.blobs.stage('3', Buffer.from('unused')),
    ];
    const blob = await log.blobs.keep(kept);
    expect(blob).not.toHaveProperty('staged');
    await log.blobs.discardStaged('3');
    expect(Buffer.from(await log.blobs.get(blob)).toString()).toBe('pairs');
    for (const gone of [kept, unused])
      await expect(log.blobs.get(gone)).rejects.toThrow(StagingGone);
    await expect(log.blobs.keep(unused)).rejects.toThrow(StagingGone);
  });
});

describe('versions of all lineages', () => {
  it('names the lineages that have something and refuses names no lineage may have', async () => {
    const store = new MemoryStore();
    const versions = new Versions(store);
    for (const lineage of ['b', 'a'])
      await appendChange(versions.log(lineage), { add: [addedCorrection('x')] });
    expect(await versions.lineages()).toEqual(['a', 'b']);
    for (const name of ['', '..', 'a/b', 'A', 'a.b'])
      expect(() => versions.log(name)).toThrow(ObjectNameInvalid);
  });
});

describe('the fold', () => {
  it('is the set of added minus removed, the same however the log is read in pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            add: fc.uniqueArray(fc.nat(12), { maxLength: 4 }),
            remove: fc.uniqueArray(fc.nat(12), { maxLength: 3 }),
            readHere: fc.boolean(),
          }),
          { maxLength: 12 },
        ),
        async (steps) => {
          const { log, again } = freshLog();
          const reader = again();
          let expected: string[] = [];
          const snapshots: string[][] = [[]];
          for (const { add, remove, readHere } of steps) {
            const gone = remove.map((n) => `c${n}`).filter((id) => expected.includes(id));
            const fresh = add
              .map((n) => `c${n}`)
              .filter((id) => !expected.includes(id) || gone.includes(id));
            if (gone.length + fresh.length === 0) continue;
            await appendChange(log, {
              add: fresh.map((id) => addedCorrection(id)),
              remove: gone.map((id) => removal(id)),
            });
            expected = [...expected.filter((id) => !gone.includes(id)), ...fresh];
            snapshots.push(expected);
            if (readHere) expect([...(await reader.read()).active.keys()]).toEqual(expected);
          }
          for (const [version, ids] of snapshots.entries())
            expect([...(await reader.at(version)).active.keys()]).toEqual(ids);
        },
      ),
      { numRuns: 60 },
    );
  });
});
