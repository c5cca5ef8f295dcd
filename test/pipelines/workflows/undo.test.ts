import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  UNDOS_FULL,
  UNDOS_WAITING_MAX,
  UNDO_UNSOUND,
  rollbackMoveId,
  undoWorkflowId,
  type UndoOrder,
} from '../../../pipelines/workflows/contract.ts';
import { undoSignal } from '../../../pipelines/workflows/messages.ts';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
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

async function versionsOf(world: World, ...ids: string[]): Promise<void> {
  for (const id of ids) await world.submit(world.correction(id));
  await world.outcomesCount(ids.length);
  await world.statusWhere(({ running }) => running === null);
}

const holds = async (world: World): Promise<string[]> =>
  [...(await world.log.read()).active.keys()].sort();

it('an undo reverts a middle version by a new version, and announces it', async () => {
  await inWorld(bySize(1), async (world) => {
    await versionsOf(world, 'a', 'b', 'c');
    const result = await world.undo('u1', { kind: 'version', version: 2 });
    expect(result).toMatchObject({
      kind: 'undone',
      version: 4,
      removed: 1,
      restored: 0,
      kept: [],
    });
    expect(await holds(world)).toEqual(['a', 'c']);
    expect(world.announcedVersions).toEqual([1, 2, 3, 4]);
    const { entry } = await world.log.entry(4);
    expect(entry).toMatchObject({
      batchId: 'undo-u1',
      undo: { id: 'u1', reason: 'it was wrong', requestedBy: 'test' },
      workflow: { workflowId: undoWorkflowId(world.lineage, 'u1') },
    });
    expect(await world.status()).toMatchObject({
      head: { version: 4 },
      undos: {
        running: null,
        waiting: [],
        ended: [{ id: 'u1', kind: 'undone', version: 4, reason: null }],
      },
    });
    // The next edit builds on it.
    await versionsOf(world, 'd', 'e');
    expect(await holds(world)).toEqual(['a', 'c', 'd', 'e']);
  });
});

it('an undo runs once, however often its id is submitted', async () => {
  await inWorld(bySize(1), async (world) => {
    await versionsOf(world, 'a');
    await world.undo('u1', { kind: 'version', version: 1 });
    expect(
      await world.requestUndo(world.order('u1', { kind: 'version', version: 1 })),
    ).toMatchObject({ known: true });
    expect(await world.undo('u2', { kind: 'version', version: 1 })).toMatchObject({
      kind: 'nothing',
    });
    expect((await world.log.read()).head.version).toBe(2);
  });
});

it('an undo runs while the lineage is frozen, but not while a batch runs', async () => {
  let probing!: () => void;
  const begun = new Promise<void>((resolve) => (probing = resolve));
  let goOn!: () => void;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  let hold = false;
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({
        runProbes: async (step) => {
          if (hold) {
            probing();
            await held;
          }
          return await real.runProbes(step);
        },
      }),
    },
    async (world) => {
      await versionsOf(world, 'a');
      hold = true;
      await world.submit(world.correction('b'));
      await begun;
      await world.handle.signal('freeze', 'looking at it');
      expect(
        await world.requestUndo(world.order('u1', { kind: 'version', version: 1 })),
      ).toMatchObject({ known: false, waiting: 0 });
      expect(await world.status()).toMatchObject({
        running: { revisions: 1 },
        undos: { running: null, waiting: [{ id: 'u1' }] },
      });
      goOn();
      await world.statusWhere(({ undos }) => undos.ended.length === 1);
      expect(await holds(world)).toEqual(['b']);
      expect(await world.status()).toMatchObject({
        frozen: { reason: 'looking at it' },
        head: { version: 3 },
      });
    },
  );
});

it('an undo that fails its probes is refused with the reasons, and writes nothing', async () => {
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({
        probeUndo: async (step) => {
          const report = await real.probeUndo(step);
          return {
            ...report,
            verdict: {
              pass: false,
              reasons: ["perplexity 1.2 of the base model's, at most 1.01 is allowed"],
              failing: [],
            },
          };
        },
      }),
    },
    async (world) => {
      await versionsOf(world, 'a');
      await world.log.moveAlias({
        alias: STABLE_ALIAS,
        version: 0,
        reason: 'safe',
        by: 'test',
        id: rollbackMoveId('u1'),
      });
      expect(await world.undo('u1', { kind: 'rollback', version: 0 }, STABLE_ALIAS)).toMatchObject({
        kind: 'refused',
        reasons: [expect.stringContaining('perplexity')],
      });
      expect((await world.log.read()).head.version).toBe(1);
      // The served version does not change.
      expect((await world.log.aliases()).current.get(STABLE_ALIAS)).toMatchObject({
        version: 0,
      });
      for await (const name of world.store.list(`lineages/${world.lineage}/staging/`))
        expect.unreachable(name);
    },
  );
});

it('a rollback releases the alias when HEAD agrees, unless it was moved since', async () => {
  await inWorld(bySize(1), async (world) => {
    await versionsOf(world, 'a', 'b', 'c');
    const move = (version: number, id: string) =>
      world.log.moveAlias({ alias: STABLE_ALIAS, version, reason: 'safe', by: 'test', id });
    await move(1, rollbackMoveId('u1'));
    expect(await world.undo('u1', { kind: 'rollback', version: 1 }, STABLE_ALIAS)).toMatchObject({
      kind: 'undone',
      version: 4,
    });
    expect(await holds(world)).toEqual(['a']);
    expect((await world.log.aliases()).current.get(STABLE_ALIAS)).toMatchObject({
      version: null,
    });
    await move(0, rollbackMoveId('u2'));
    await move(3, 'somebody');
    expect(await world.undo('u2', { kind: 'rollback', version: 0 }, STABLE_ALIAS)).toMatchObject({
      kind: 'undone',
      version: 5,
    });
    expect((await world.log.aliases()).current.get(STABLE_ALIAS)).toMatchObject({
      version: 3,
      id: 'somebody',
    });
  });
});

it('an undo that lost a race or its answer is planned again', async () => {
  let commits = 0;
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({
        commitUndo: async (step) => {
          commits++;
          if (commits === 1) return { kind: 'head-moved', head: step.head };
          const result = await real.commitUndo(step);
          if (commits === 2) throw new Error('the answer was lost');
          return result;
        },
      }),
    },
    async (world) => {
      await versionsOf(world, 'a');
      expect(await world.undo('u1', { kind: 'correction', id: 'a' })).toMatchObject({
        kind: 'undone',
        version: 2,
      });
      expect((await world.log.read()).head.version).toBe(2);
      expect(commits).toBe(3);
    },
  );
});

it('an undo whose workflow fails is reported as failed, and may be repeated', async () => {
  let broken = true;
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({
        stageUndo: async (step) => {
          if (broken)
            throw ApplicationFailure.create({
              message: 'the statistics are no statistics',
              type: 'NotPositiveDefinite',
            });
          return await real.stageUndo(step);
        },
      }),
    },
    async (world) => {
      await versionsOf(world, 'a');
      await world.requestUndo(world.order('u1', { kind: 'version', version: 1 }));
      const { undos } = await world.statusWhere((status) => status.undos.ended.length === 1);
      expect(undos.ended).toMatchObject([
        { id: 'u1', kind: 'failed', reason: expect.stringContaining('statistics') as string },
      ]);
      await versionsOf(world, 'b', 'c');
      broken = false;
      expect(await world.undo('u1-again', { kind: 'version', version: 1 })).toMatchObject({
        kind: 'undone',
      });
      expect(
        await world.requestUndo(world.order('u1', { kind: 'version', version: 2 })),
      ).toMatchObject({ known: false });
      await world.statusWhere((status) =>
        status.undos.ended.some(({ id, kind }) => id === 'u1' && kind === 'undone'),
      );
    },
  );
});

it('an unsound undo or one past the bound is refused without a trace', async () => {
  await inWorld(bySize(100), async (world) => {
    await world.submit(world.correction('a'));
    const sound = world.order('u1', { kind: 'version', version: 1 });
    const unsound: unknown[] = [
      null,
      {},
      { ...sound, releaseAlias: 7 },
      ...[
        { id: 'Ü' },
        { target: { kind: 'version', version: 0 } },
        { target: { kind: 'all' } },
        { reason: 'x'.repeat(1_001) },
        { requestedAt: -1 },
      ].map((change) => ({ ...sound, request: { ...sound.request, ...change } })),
    ];
    for (const order of unsound)
      expect(await world.requestUndo(order as UndoOrder)).toBe(UNDO_UNSOUND);
    // A signal has no sender to refuse.
    await world.handle.signal(undoSignal, null as unknown as UndoOrder);
    expect((await world.status()).undos).toEqual({ running: null, waiting: [], ended: [] });
  });
  let goOn!: () => void;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  await inWorld(
    {
      ...bySize(1),
      replace: (real) => ({ planUndo: async (step) => (await held, await real.planUndo(step)) }),
    },
    async (world) => {
      await world.submit(world.correction('a'));
      await world.outcomesCount(1);
      for (let i = 0; i <= UNDOS_WAITING_MAX; i++)
        await world.requestUndo(world.order(`u${i}`, { kind: 'version', version: 1 }));
      expect(await world.requestUndo(world.order('late', { kind: 'version', version: 1 }))).toBe(
        UNDOS_FULL,
      );
      expect(
        await world.requestUndo(world.order('u3', { kind: 'version', version: 1 })),
      ).toMatchObject({ known: true });
      await world.handle.signal(undoSignal, world.order('late', { kind: 'version', version: 1 }));
      expect(
        (await world.statusWhere(({ undos }) => undos.ended.length === 1)).undos.ended,
      ).toMatchObject([{ id: 'late', kind: 'failed' }]);
      goOn();
      await world.statusWhere(
        (status) => status.undos.running === null && status.undos.waiting.length === 0,
      );
    },
  );
});

it('waiting and finished undos are carried into the next run', async () => {
  await inWorld({ ...bySize(1), historyEventsMax: 30 }, async (world) => {
    await versionsOf(world, 'a', 'b', 'c', 'd');
    const first = (await world.handle.describe()).runId;
    for (const [i, id] of ['d', 'c', 'b', 'a'].entries())
      await world.requestUndo(world.order(`u${i}`, { kind: 'correction', id }));
    const { undos } = await world.statusWhere((status) => status.undos.ended.length === 4);
    expect(undos.ended.map(({ id, version }) => `${id} ${version}`)).toEqual([
      'u0 5',
      'u1 6',
      'u2 7',
      'u3 8',
    ]);
    expect((await world.handle.describe()).runId).not.toBe(first);
    expect(await holds(world)).toEqual([]);
  });
});
