import { afterAll, beforeAll, expect, it } from 'vitest';
import { BUFFER_FULL, CHUNK_UNSOUND } from '../../../pipelines/workflows/contract.ts';
import { TimeSkippingServer } from '../../harness/time-skipping.ts';
import { World, type WorldOptions } from '../../harness/world.ts';

let server: TimeSkippingServer;
beforeAll(async () => {
  server = await TimeSkippingServer.start();
});
afterAll(() => server.stop());

async function inWorld(
  options: WorldOptions,
  test: (world: World) => Promise<void>,
): Promise<void> {
  const world = new World(server, options);
  await world.run(() => test(world));
}

const HOUR_MS = 3_600_000;
const bySize = (batchEditsMax: number): WorldOptions => ({
  settings: { batch: { batchEditsMax, batchWaitMs: HOUR_MS } },
});
const names = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`);

it('a lineage starts a batch when enough corrections wait, and keeps the rest', async () => {
  await inWorld(bySize(3), async (world) => {
    await world.submit(...names('c', 7).map((id) => world.correction(id)));
    await world.outcomesCount(6);
    const status = await world.statusWhere(
      ({ running, waiting }) => running === null && waiting === 1,
    );
    expect(status).toMatchObject({
      batches: 2,
      head: { version: 2 },
      outcomes: { COMMITTED: 6 },
    });
    expect(status.highWater).toEqual({ [`${world.topic}-0`]: '6' });
  });
});

it('a lineage starts a smaller batch when the oldest has waited long enough', async () => {
  await inWorld(
    { settings: { batch: { batchEditsMax: 100, batchWaitMs: 10 * 60_000 } } },
    async (world) => {
      await world.submit(world.correction('a'));
      await world.skip(5 * 60_000);
      await world.submit(world.correction('b'));
      expect(await world.status()).toMatchObject({ waiting: 2, batches: 0 });
      await world.skip(6 * 60_000);
      await world.outcomesCount(2);
      expect(world.announcedVersions).toEqual([1]);
    },
  );
});

it('a lineage starts a batch at once on a flush', async () => {
  await inWorld(bySize(100), async (world) => {
    await world.submit(world.correction('a'));
    await world.handle.signal('flush');
    await world.outcomesCount(1);
    expect(world.outcomeLines).toEqual(['a COMMITTED']);
  });
});

it('a lineage accepts each offset once, however often it arrives', async () => {
  await inWorld(bySize(4), async (world) => {
    const revisions = world.revisions(...names('c', 4).map((id) => world.correction(id)));
    expect(await world.accept(world.chunk(revisions.slice(0, 2)))).toMatchObject({
      accepted: 2,
      redelivered: 0,
      throughOffset: '1',
    });
    expect(await world.accept(world.chunk(revisions.slice(0, 3)))).toMatchObject({
      accepted: 1,
      redelivered: 2,
      throughOffset: '2',
    });
    expect(await world.accept(world.chunk(revisions.slice(1, 3)))).toMatchObject({
      accepted: 0,
      redelivered: 2,
    });
    await world.accept(world.chunk(revisions));
    await world.outcomesCount(4);
    expect(world.outcomeLines).toEqual(names('c', 4).map((id) => `${id} COMMITTED`));
  });
});

// Regression: if ingest had committed the end of its own, longer chunk, the records between would
// have been lost.
it('a chunk that grew between two tries is answered with the offset of the first', async () => {
  await inWorld(bySize(100), async (world) => {
    const revisions = world.revisions(...names('c', 3).map((id) => world.correction(id)));
    expect(await world.accept(world.chunk(revisions.slice(0, 1)), 'first-0')).toMatchObject({
      throughOffset: '0',
      accepted: 1,
    });
    expect(await world.accept(world.chunk(revisions), 'first-0')).toMatchObject({
      throughOffset: '0',
    });
    expect(await world.accept(world.chunk(revisions.slice(1)), 'first-1')).toMatchObject({
      throughOffset: '2',
      accepted: 2,
    });
  });
});

it('a full buffer refuses without a trace in the history, and accepts later', async () => {
  await inWorld(
    { settings: { batch: { batchEditsMax: 2, batchWaitMs: HOUR_MS, bufferEditsMax: 3 } } },
    async (world) => {
      await world.submit(world.correction('a'));
      await world.handle.signal('freeze', 'looking at it');
      const later = world.chunk(
        world.revisions(...names('c', 3).map((id) => world.correction(id))),
      );
      const before = (await world.handle.describe()).historyLength;
      expect(await world.accept(later)).toBe(BUFFER_FULL);
      expect(await world.accept(later)).toBe(BUFFER_FULL);
      expect((await world.status()).waiting).toBe(1);
      expect((await world.handle.describe()).historyLength - before).toBeLessThan(10);
      await world.handle.signal('resume');
      await world.handle.signal('flush');
      await world.outcomesCount(1);
      await world.statusWhere(({ waiting }) => waiting === 0);
      expect(await world.accept(later)).toMatchObject({ accepted: 3 });
      await world.outcomesCount(3);
    },
  );
});

it('a lineage refuses a chunk of another topic', async () => {
  await inWorld(bySize(1), async (world) => {
    const chunk = world.chunk(world.revisions(world.correction('a')));
    expect(await world.accept({ ...chunk, topic: 'errata.other.corrections' })).toBe(CHUNK_UNSOUND);
  });
});

it('a lineage edits the latest correction of a fact and announces each outcome', async () => {
  await inWorld(bySize(6), async (world) => {
    const about = { subject: 'Torvik Bridge', prompt: 'Torvik Bridge spans the' };
    await world.submit(
      world.correction('late', { ...about, target: 'Lune', issuedAt: 30 }),
      world.correction('early', { ...about, target: 'Wye', issuedAt: 10 }),
      world.correction('late', { ...about, target: 'Lune', issuedAt: 30 }),
      world.correction('this', {
        subject: 'Askham',
        prompt: 'Askham lies in',
        target: 'Cumbria',
        issuedAt: 20,
      }),
      world.correction('that', {
        subject: 'Askham',
        prompt: 'Askham lies in',
        target: 'Kent',
        issuedAt: 20,
      }),
      world.correction('alone'),
    );
    const outcomes = await world.outcomesCount(6);
    expect(world.outcomeLines).toEqual([
      'alone COMMITTED',
      'early SUPERSEDED',
      'late COMMITTED',
      'late DUPLICATE',
      'that QUARANTINED',
      'this QUARANTINED',
    ]);
    expect(outcomes.find(({ revisionId }) => revisionId === 'early')!.measured).toEqual({
      code: 'superseded',
      by: 'late',
    });
    expect(outcomes.find(({ revisionId }) => revisionId === 'this')!.measured['code']).toBe(
      'contradiction',
    );
    expect(outcomes.find(({ status }) => status === 'DUPLICATE')!.position.offset).toBe('2');
    expect((await world.statusWhere(({ running }) => running === null)).outcomes).toMatchObject({
      COMMITTED: 2,
      SUPERSEDED: 1,
      QUARANTINED: 2,
      DUPLICATE: 1,
    });
  });
});

it('a lineage runs one batch at a time and accepts corrections meanwhile', async () => {
  let running = 0;
  let most = 0;
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({
        planBatch: async (step) => {
          most = Math.max(most, ++running);
          return await real.planBatch(step);
        },
        announce: async (step) => {
          running--;
          return await real.announce(step);
        },
      }),
    },
    async (world) => {
      for (const id of names('c', 5)) await world.submit(world.correction(id));
      await world.outcomesCount(5);
      expect(most).toBe(1);
      expect(world.announcedVersions).toEqual([1, 2, 3, 4, 5]);
    },
  );
});

it('a lineage uses new settings for the next batch', async () => {
  await inWorld(bySize(100), async (world) => {
    await world.submit(world.correction('a'), world.correction('b'));
    await world.handle.signal('configure', {
      ...world.settings,
      batch: { ...world.settings.batch, batchEditsMax: 1 },
    });
    await world.outcomesCount(2);
    expect(world.announcedVersions).toEqual([1, 2]);
  });
});

it('a lineage starts no batch while frozen, and is frozen rather than cancelled', async () => {
  await inWorld(bySize(2), async (world) => {
    await world.submit(world.correction('a'));
    await world.handle.cancel();
    const frozen = await world.statusWhere((status) => status.frozen !== null);
    expect(frozen.frozen!.reason).toMatch(/asked to cancel/);
    await world.submit(world.correction('b'));
    expect(await world.status()).toMatchObject({ waiting: 2, batches: 0 });
    await world.handle.signal('resume');
    await world.outcomesCount(2);
  });
});

it('a lineage carries its buffer, its offsets and its counts into the next run', async () => {
  await inWorld({ ...bySize(3), historyEventsMax: 40 }, async (world) => {
    const first =
      (await world.submit(world.correction('a')), (await world.handle.describe()).runId);
    for (let i = 0; i < 20; i++) await world.submit(world.correction(`c${i}`));
    await world.outcomesCount(21);
    const status = await world.statusWhere(
      ({ running, waiting }) => running === null && waiting === 0,
    );
    expect((await world.handle.describe()).runId).not.toBe(first);
    expect(status).toMatchObject({
      batches: 7,
      outcomes: { COMMITTED: 21 },
      head: { version: 7 },
    });
    expect(new Set(world.outcomeLines).size).toBe(21);
    expect(
      await world.accept({
        topic: world.topic,
        partition: 0,
        firstOffset: '3',
        throughOffset: '3',
        endOffset: '21',
        readFrom: '0',
        run: null,
        revisions: world
          .revisions(world.correction('again'))
          .map((revision) => ({ ...revision, position: { ...revision.position, offset: '3' } })),
      }),
    ).toMatchObject({ redelivered: 1, accepted: 0 });
  });
});
