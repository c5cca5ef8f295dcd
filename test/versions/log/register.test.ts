import { expect, it } from 'vitest';
import type { Outcome } from '../../../schemas/outcome.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { VersionLogDamaged } from '../../../versions/log/failures.ts';
import { VersionLog } from '../../../versions/log/version-log.ts';
import { addedCorrection, appendChange } from '../entries.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

const position = (offset: number) => ({
  topic: 'errata.l.corrections',
  partition: 0,
  offset: String(offset),
});
const outcome = (revisionId: string, more: Partial<Outcome> = {}): Outcome => ({
  lineage: 'l',
  revisionId,
  factKey: `${revisionId}|{} is in`,
  status: 'QUARANTINED',
  version: null,
  reason: 'it does not hold',
  measured: { code: 'not-effective' },
  position: position(7),
  batchId: 'batch',
  decidedAt: 1,
  ...more,
});

function fresh() {
  const store = new MemoryStore();
  return { store, log: new VersionLog(store, 'l'), again: () => new VersionLog(store, 'l') };
}

it('the register knows what the versions decided, and which batch made them', async () => {
  const { log, again } = fresh();
  await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
  await appendChange(log, {
    remove: [{ correctionId: 'a', factKey: 'a|{} is in', because: 'retracted', by: 'r' }],
    retractions: [{ id: 'r', factKey: 'a|{} is in', issuedAt: 6_000, position: position(2) }],
  });
  const register = await again().register();
  const found = await register.outcomesOf(['a', 'r', 'unknown']);
  expect(
    [...found.values()]
      .map(({ revisionId, status, version }) => [revisionId, status, version])
      .sort(),
  ).toEqual([
    ['a', 'COMMITTED', 1],
    ['r', 'RETRACTED', 2],
  ]);
  expect(await register.versionOfBatch('batch-2')).toBe(2);
  expect(await register.versionOfBatch('batch-3')).toBeNull();
  expect((await register.tombstones(['a|{} is in'])).get('a|{} is in')).toMatchObject({
    because: 'retracted',
    id: 'r',
    issuedAt: 6_000,
    version: 2,
  });
});

it('the register is rebuilt from the log, and completed where it was cut off', async () => {
  const { store, log, again } = fresh();
  for (const id of ['a', 'b', 'c']) await appendChange(log, { add: [addedCorrection(id)] });
  await log.register();
  const whole = new Map(store.objects);
  for (const name of store.objects.keys())
    if (name.includes('/register/')) store.objects.delete(name);
  await again().register();
  expect(new Map([...store.objects].sort())).toEqual(new Map([...whole].sort()));
  // Cut off in the middle of version 2: one revision is registered, and its marker is missing.
  const kept = [...whole.keys()].find((name) => name.includes('/register/revisions/'));
  for (const name of store.objects.keys())
    if (
      /register\/versions\/0*[23]\.json/.test(name) ||
      (name.includes('/register/revisions/') && name !== kept)
    )
      store.objects.delete(name);
  await again().register();
  expect((await (await again().register()).outcomesOf(['b', 'c'])).size).toBe(2);
});

it('the register keeps the first outcome; another record of the id is a duplicate', async () => {
  const { log } = fresh();
  const register = await log.register();
  const first = outcome('x');
  expect(await register.settle([first])).toEqual([first]);
  expect(await register.settle([outcome('x', { status: 'SUPERSEDED', decidedAt: 99 })])).toEqual([
    first,
  ]);
  const [again] = await register.settle([
    outcome('x', { status: 'COMMITTED', version: 4, position: position(8) }),
  ]);
  expect(again).toMatchObject({
    status: 'DUPLICATE',
    version: null,
    position: position(8),
    measured: { code: 'duplicate' },
    reason: '"x" came before, at partition 0, offset 7, and became quarantined',
  });
});

it('the register accepts later outcomes of committed corrections alone', async () => {
  const { log } = fresh();
  await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
  const register = await log.register();
  const later = outcome('a', { status: 'SUPERSEDED', version: 2, position: position(1) });
  expect(await register.settle([later])).toEqual([later]);
  const [committed] = await register.settle([
    outcome('a', { status: 'QUARANTINED', position: position(1) }),
  ]);
  expect(committed).toMatchObject({ status: 'COMMITTED', version: 1 });
  expect((await register.outcomesOf(['a'])).get('a')).toMatchObject({ status: 'COMMITTED' });
});

it('the register keeps the outcome history of a removed and restored correction', async () => {
  const { store, log, again } = fresh();
  await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
  const remove: VersionEntry['removed'] = [
    { correctionId: 'a', factKey: 'a|{} is in', because: 'retracted', by: 'r' },
  ];
  await appendChange(log, {
    remove,
    retractions: [{ id: 'r', factKey: 'a|{} is in', issuedAt: 6_000, position: position(2) }],
  });
  await log.register();
  const [name] = [...store.objects.keys()].filter((one) => one.includes('/fates/'));
  expect(name).toMatch(/\/fates\/[0-9a-f]{2}\/[0-9a-f]{64}\/0{19}2\.json$/);
  const register = await again().register();
  const [first] = (await register.outcomesOf(['a'])).values();
  expect(await register.current([first!])).toMatchObject([{ status: 'RETRACTED', version: 2 }]);
  await appendChange(log, {
    add: [addedCorrection('a', { position: position(1), origin: { version: 1, row: 0 } })],
    undo: {
      id: 'u',
      target: { kind: 'version', version: 2 },
      reason: '',
      requestedBy: '',
      requestedAt: 1,
    },
  });
  await appendChange(log, {
    remove: [{ ...remove[0]!, because: 'reverted', by: 'undo:v' }],
    undo: {
      id: 'v',
      target: { kind: 'version', version: 3 },
      reason: '',
      requestedBy: '',
      requestedAt: 1,
    },
  });
  expect(
    (await (await again().register()).outcomeHistory('a')).map(({ status, version, measured }) => [
      status,
      version,
      measured['by'],
    ]),
  ).toEqual([
    ['COMMITTED', 1, undefined],
    ['RETRACTED', 2, 'r'],
    ['COMMITTED', 3, 'undo:u'],
    ['RETRACTED', 4, 'undo:v'],
  ]);
  expect(
    (await (await again().register()).tombstones(['a|{} is in'])).get('a|{} is in'),
  ).toMatchObject({ because: 'retracted', id: 'r' });
  expect(
    (
      await (
        await again().register()
      ).tombstones(['a|{} is in'], ({ because }) => because === 'reverted')
    ).get('a|{} is in'),
  ).toMatchObject({ because: 'reverted', id: 'undo:v', issuedAt: 1_000, version: 4 });
});

it('concurrent settlements of one id return the same outcome', async () => {
  const { log, again } = fresh();
  const [one, other] = await Promise.all([log.register(), again().register()]);
  const results = await Promise.all([
    one.settle([outcome('x', { decidedAt: 1 })]),
    other.settle([outcome('x', { decidedAt: 2 })]),
  ]);
  expect(results[0]).toEqual(results[1]);
});

it('contradictions and retractions of nothing leave tombstones; the latest counts', async () => {
  const { log } = fresh();
  const register = await log.register();
  const fact = 'f|{} is in';
  await register.settle([
    outcome('n', { factKey: fact, status: 'NOTHING_TO_RETRACT', measured: { issuedAt: 50 } }),
    outcome('c', { factKey: fact, measured: { code: 'contradiction', issuedAt: 70 } }),
    outcome('q', { factKey: fact, measured: { code: 'not-effective', issuedAt: 900 } }),
  ]);
  expect((await register.tombstones([fact, 'other'])).get(fact)).toMatchObject({
    because: 'contradicted',
    id: 'c',
    issuedAt: 70,
    version: null,
  });
});

it('the register reports any changed byte as damage', async () => {
  const { store, log, again } = fresh();
  await (await log.register()).settle([outcome('x')]);
  const name = [...store.objects.keys()].find((one) => one.includes('/revisions/'))!;
  const whole = store.objects.get(name)!;
  store.objects.set(name, whole.subarray(0, 20));
  await expect((await again().register()).outcomesOf(['x'])).rejects.toThrow(VersionLogDamaged);
  for (let i = 0; i < whole.length; i++) {
    const changed = Uint8Array.from(whole);
    changed[i]! ^= 1;
    store.objects.set(name, changed);
    await expect((await again().register()).outcomesOf(['x']), String(i)).rejects.toThrow(
      VersionLogDamaged,
    );
  }
});

it('the register holds no past decisions in memory, and reads no more after many', async () => {
  const { store, log, again } = fresh();
  for (let i = 0; i < 60; i++) {
    await appendChange(log, { add: [addedCorrection(`a${i}`)] });
    await appendChange(log, {
      remove: [
        { correctionId: `a${i}`, factKey: `a${i}|{} is in`, because: 'retracted', by: `r${i}` },
      ],
      retractions: [
        { id: `r${i}`, factKey: `a${i}|{} is in`, issuedAt: 2_000, position: position(i) },
      ],
    });
  }
  const reader = again();
  const history = await reader.read();
  expect(
    JSON.stringify(
      Object.values(history).map((part: unknown) =>
        part instanceof Map ? [...(part as Map<string, unknown>)] : part,
      ),
    ).length,
  ).toBeLessThan(3_000);
  await reader.register();
  let gets = 0;
  const get = store.get.bind(store);
  store.get = (name) => (gets++, get(name));
  expect((await (await reader.register()).outcomesOf(['a0'])).get('a0')).toMatchObject({
    version: 1,
  });
  expect(gets).toBeLessThan(5);
});

// Regression: records delivered again after a reset were announced as committed, after they had
// been announced as superseded.
it('the register returns the current outcome of a correction that left', async () => {
  const { log, again } = fresh();
  await appendChange(log, { add: [addedCorrection('a', { position: position(1) })] });
  await appendChange(log, {
    add: [addedCorrection('b', { factKey: 'a|{} is in', position: position(2) })],
    remove: [{ correctionId: 'a', factKey: 'a|{} is in', because: 'superseded', by: 'b' }],
  });
  const register = await again().register();
  const committed = outcome('a', { status: 'COMMITTED', version: 1, position: position(1) });
  expect(await register.settle([committed])).toMatchObject([
    {
      revisionId: 'a',
      status: 'SUPERSEDED',
      version: 2,
      position: position(1),
      measured: { code: 'superseded', by: 'b' },
    },
  ]);
  expect(
    await register.settle([
      outcome('b', { status: 'COMMITTED', version: 2, position: position(2) }),
    ]),
  ).toMatchObject([{ status: 'COMMITTED', version: 2 }]);
});

it('the register knows which versions are not announced yet', async () => {
  const { log, again } = fresh();
  for (const id of ['a', 'b', 'c']) await appendChange(log, { add: [addedCorrection(id)] });
  const register = await log.register();
  expect(await register.unannounced(3)).toEqual([1, 2, 3]);
  await register.markAnnounced(1);
  await register.markAnnounced(2);
  expect(await (await again().register()).unannounced(3)).toEqual([3]);
  await register.markAnnounced(3);
  expect(await register.unannounced(3)).toEqual([]);
});
