import { expect, it } from 'vitest';
import { VersionLogDamaged } from '../../../versions/log/failures.ts';
import { aliasRecordName } from '../../../versions/log/object-names.ts';
import { sealed } from '../../../versions/log/sealed.ts';
import { VersionLog } from '../../../versions/log/version-log.ts';
import { addedCorrection, appendChange } from '../entries.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

async function threeVersions() {
  const store = new MemoryStore();
  const log = new VersionLog(store, 'l');
  for (const id of ['a', 'b', 'c']) await appendChange(log, { add: [addedCorrection(id)] });
  return { store, log, again: () => new VersionLog(store, 'l') };
}

const move = (id: string, version: number | null, more: object = {}) => ({
  alias: 'stable',
  version,
  reason: 'why',
  by: 'ops',
  id,
  ...more,
});

it('every reader sees an alias where its last record put it', async () => {
  const { log, again } = await threeVersions();
  expect((await log.aliases()).current.size).toBe(0);
  expect(await log.moveAlias(move('1', 2))).toMatchObject({
    kind: 'moved',
    record: { alias: 'stable', version: 2 },
  });
  await log.moveAlias(move('2', 0, { alias: 'audited' }));
  await log.moveAlias(move('3', null));
  const { current, records } = await again().aliases();
  expect([...current].map(([alias, { version, id }]) => [alias, version, id])).toEqual([
    ['stable', null, '3'],
    ['audited', 0, '2'],
  ]);
  expect(records.map(({ id }) => id)).toEqual(['1', '2', '3']);
});

it('repeating an alias move with the same id has no effect, whoever repeats it', async () => {
  const { log, again, store } = await threeVersions();
  const moves = await Promise.all(
    [log, again(), again()].map((one) => one.moveAlias(move('1', 2))),
  );
  expect(new Set(moves.map((one) => (one.kind === 'moved' ? one.record.id : one.kind)))).toEqual(
    new Set(['1']),
  );
  await log.moveAlias(move('2', 3));
  expect(await again().moveAlias(move('1', 2))).toMatchObject({
    kind: 'moved',
    record: { version: 2 },
  });
  expect((await again().aliases()).current.get('stable')).toMatchObject({ version: 3 });
  expect(await log.moveAlias(move('1', 1))).toEqual({
    kind: 'refused',
    reason: '"1" already moved alias stable to version 2',
  });
  expect([...store.objects.keys()].filter((name) => name.includes('/aliases/'))).toEqual([
    aliasRecordName('l', 1),
    aliasRecordName('l', 2),
  ]);
});

it('concurrent alias moves are all recorded', async () => {
  const { again } = await threeVersions();
  await Promise.all(Array.from({ length: 20 }, (_, i) => again().moveAlias(move(`m${i}`, i % 4))));
  const { records } = await again().aliases();
  expect(records.map(({ id }) => id).sort()).toEqual(
    Array.from({ length: 20 }, (_, i) => `m${i}`).sort(),
  );
});

it('an alias move is taken back only if nobody has moved the alias since', async () => {
  const { log } = await threeVersions();
  await log.moveAlias(move('rollback', 1));
  expect(await log.moveAlias(move('release', null, { takesBack: 'rollback' }))).toMatchObject({
    kind: 'moved',
  });
  await log.moveAlias(move('rollback-2', 1));
  await log.moveAlias(move('other', 2));
  expect(await log.moveAlias(move('release-2', null, { takesBack: 'rollback-2' }))).toMatchObject({
    kind: 'overtaken',
    record: { id: 'other', version: 2 },
  });
  expect((await log.aliases()).current.get('stable')).toMatchObject({ version: 2 });
});

it.each([
  ['a missing version', move('1', 9), 'version 9 does not exist; the newest that can be read is 3'],
  ['a name in capitals', move('1', 1, { alias: 'Stable' }), /^alias: /],
  ['the name of HEAD', move('1', 1, { alias: 'head' }), /^alias: /],
  ['the name of the base model', move('1', 1, { alias: 'base' }), /^alias: /],
  ['a name that is too long', move('1', 1, { alias: 'a'.repeat(33) }), /^alias: /],
  ['no id', move('', 1), /^id: /],
])('an alias move is refused with %s', async (_, wrong, reason) => {
  const { log } = await threeVersions();
  expect(await log.moveAlias(wrong)).toEqual({
    kind: 'refused',
    reason: typeof reason === 'string' ? reason : (expect.stringMatching(reason) as string),
  });
  expect((await log.aliases()).records).toEqual([]);
});

it('a damaged alias record is reported; the records before it stay valid', async () => {
  const { log, again, store } = await threeVersions();
  await log.moveAlias(move('1', 1));
  await log.moveAlias(move('2', 2));
  store.objects.set(aliasRecordName('l', 2), sealed({ alias: 'stable' }));
  const reader = again();
  await expect(reader.aliases()).rejects.toThrow(VersionLogDamaged);
  const { aliases, damage } = await reader.readAliases();
  expect([aliases.current.get('stable')?.version, damage?.message]).toEqual([
    1,
    expect.stringMatching(/aliases\/0+2\.json/),
  ]);
});
