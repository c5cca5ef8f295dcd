import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { VersionLogDamaged } from '../../../versions/log/failures.ts';
import { MISBEHAVING } from '../../harness/fake-engine.ts';
import { TimeSkippingServer } from '../../harness/time-skipping.ts';
import { World, type Activities, type WorldOptions } from '../../harness/world.ts';

let server: TimeSkippingServer;
beforeAll(async () => {
  server = await TimeSkippingServer.start();
});
afterAll(() => server.stop());

/** Starts a batch as soon as `size` corrections have arrived. */
async function inWorld(
  size: number,
  test: (world: World) => Promise<void>,
  options: WorldOptions = {},
): Promise<void> {
  const world = new World(server, {
    ...options,
    settings: {
      ...options.settings,
      batch: { batchEditsMax: size, batchWaitMs: 3_600_000, ...options.settings?.batch },
    },
  });
  await world.run(() => test(world));
}

/** Commits a version by another writer. */
async function commitElsewhere(real: Activities, world: World): Promise<void> {
  const { lineage } = world;
  const { head, edits, removals } = await real.planBatch({
    lineage,
    batchId: 'elsewhere',
    revisions: world.revisions(world.correction('elsewhere')),
  });
  const step = { lineage, batchId: 'elsewhere', head, edits, removals };
  const staged = await real.stageUpdate({ ...step, shards: [await real.computeTargets(step)] });
  const probes = await real.runProbes({ ...step, staged, settings: world.settings.verdict });
  await real.commitVersion({
    ...step,
    withdrawals: [],
    staged,
    probes,
    workflow: { workflowId: 'elsewhere', runId: 'r' },
  });
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `c${i}`);

it('a batch becomes one version and an outcome for each correction', async () => {
  await inWorld(3, async (world) => {
    await world.submit(...names(3).map((id) => world.correction(id)));
    const outcomes = await world.outcomesCount(3);
    expect(world.outcomeLines).toEqual(['c0 COMMITTED', 'c1 COMMITTED', 'c2 COMMITTED']);
    expect(outcomes.map(({ version }) => version)).toEqual([1, 1, 1]);
    expect(world.announced[0]!.version).toBe(1);
    expect((await world.log.entry(1)).entry.workflow.workflowId).toBe(
      `edit-batch/${world.lineage}/0`,
    );
  });
});

it('a batch is sharded', async () => {
  await inWorld(
    7,
    async (world) => {
      await world.submit(...names(7).map((id) => world.correction(id)));
      await world.outcomesCount(7);
      expect(world.engine.calls.filter((call) => call === 'computeTargets')).toHaveLength(3);
      expect(world.announcedVersions).toEqual([1]);
    },
    { settings: { batch: { shardEditsMax: 3 } } },
  );
});

it('a batch quarantines corrections that fail on their own, and commits the rest', async () => {
  await inWorld(5, async (world) => {
    const targets = [
      'Lyon',
      MISBEHAVING.refusedTarget,
      MISBEHAVING.refusedUpdate,
      MISBEHAVING.ineffective,
      'Oslo',
    ];
    await world.submit(...targets.map((target, i) => world.correction(`c${i}`, { target })));
    const outcomes = await world.outcomesCount(5);
    expect(world.outcomeLines).toEqual([
      'c0 COMMITTED',
      'c1 QUARANTINED',
      'c2 QUARANTINED',
      'c3 QUARANTINED',
      'c4 COMMITTED',
    ]);
    expect(
      Object.fromEntries(outcomes.map((outcome) => [outcome.revisionId, outcome.measured['code']])),
    ).toMatchObject({ c1: 'not-finite', c2: 'singular-update', c3: 'not-effective' });
    expect(world.announcedVersions).toEqual([1]);
    expect([...(await world.log.read()).active.keys()]).toEqual(['c0', 'c4']);
  });
});

it('a batch that does harm as a whole is halved until the harmful one is found', async () => {
  await inWorld(8, async (world) => {
    await world.submit(
      ...names(8).map((id) =>
        world.correction(id, { target: id === 'c5' ? MISBEHAVING.gibberish : 'Lyon' }),
      ),
    );
    const outcomes = await world.outcomesCount(8);
    expect(world.outcomeLines).toEqual(
      names(8).map((id) => `${id} ${id === 'c5' ? 'QUARANTINED' : 'COMMITTED'}`),
    );
    const poison = outcomes.find(({ revisionId }) => revisionId === 'c5')!;
    expect(poison.reason).toMatch(/perplexity/);
    expect(poison.measured).toMatchObject({ code: 'harms-ordinary-text', canaryRatio: 3 });
    expect(world.engine.calls.filter((call) => call === 'computeTargets')).toHaveLength(1);
    expect((await world.log.read()).active.size).toBe(7);
  });
});

it('a batch of harmful corrections alone is quarantined and makes no version', async () => {
  await inWorld(4, async (world) => {
    await world.submit(
      ...names(4).map((id) => world.correction(id, { target: MISBEHAVING.gibberish })),
    );
    await world.outcomesCount(4);
    expect(world.outcomeLines).toEqual(names(4).map((id) => `${id} QUARANTINED`));
    expect(world.announcedVersions).toEqual([]);
    expect((await world.log.read()).head.version).toBe(0);
  });
});

it('a batch supersedes and retracts committed corrections, and announces it', async () => {
  await inWorld(2, async (world) => {
    const [a, b] = [world.correction('a'), world.correction('b')];
    await world.submit(a, b);
    await world.outcomesCount(2);
    await world.submit(
      world.correction('a2', { subject: a.subject, target: 'Oslo', issuedAt: 2_000 }),
      { retract: b, issuedAt: 2_000 },
    );
    const outcomes = (await world.outcomesCount(6)).slice(2);
    expect(
      outcomes
        .map(({ revisionId, status, version }) => `${revisionId} ${status} ${version}`)
        .sort(),
    ).toEqual([
      'a SUPERSEDED 2',
      'a2 COMMITTED 2',
      'b RETRACTED 2',
      `retract:${world.topic}-0-3 RETRACTED 2`,
    ]);
    expect([...(await world.log.read()).active.keys()]).toEqual(['a2']);
  });
});

it('a batch keeps a predecessor in the hook if its successor is refused', async () => {
  await inWorld(1, async (world) => {
    await world.submit(world.correction('a'));
    await world.outcomesCount(1);
    await world.submit(
      world.correction('a2', {
        subject: 'Subject a.',
        target: MISBEHAVING.ineffective,
        issuedAt: 2_000,
      }),
    );
    await world.outcomesCount(2);
    expect(world.outcomeLines).toEqual(['a COMMITTED', 'a2 QUARANTINED']);
    expect([...(await world.log.read()).active.keys()]).toEqual(['a']);
  });
});

it('a batch reports that there is nothing to retract', async () => {
  await inWorld(1, async (world) => {
    await world.submit({ retract: world.correction('never'), issuedAt: 5 });
    await world.outcomesCount(1);
    expect(world.outcomeLines).toEqual([`retract:${world.topic}-0-0 NOTHING_TO_RETRACT`]);
  });
});

it('a batch is planned again when HEAD moved under it', async () => {
  let foreign = 0;
  await inWorld(
    2,
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      const outcomes = await world.outcomesCount(2);
      expect(outcomes.map(({ status, version }) => `${status} ${version}`)).toEqual([
        'COMMITTED 2',
        'COMMITTED 2',
      ]);
      expect(foreign).toBe(2);
      // On top of another's version the targets are different.
      expect(world.engine.calls.filter((call) => call === 'computeTargets').length).toBe(3);
    },
    {
      replace: (real, world) => ({
        commitVersion: async (step) => {
          // Another writer, such as an operator's revert, is faster once.
          if (foreign++ === 0) await commitElsewhere(real, world);
          return await real.commitVersion(step);
        },
      }),
    },
  );
});

it('a batch is committed once even if the answer of its commit is lost', async () => {
  let lost = 0;
  await inWorld(
    2,
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      const outcomes = await world.outcomesCount(2);
      expect(outcomes.map(({ status, version }) => `${status} ${version}`)).toEqual([
        'COMMITTED 1',
        'COMMITTED 1',
      ]);
      expect((await world.log.read()).head.version).toBe(1);
    },
    {
      replace: (real) => ({
        commitVersion: async (step) => {
          const result = await real.commitVersion(step);
          if (lost++ === 0) throw new Error('connection lost');
          return result;
        },
      }),
    },
  );
});

it('a batch waits out temporary failures', async () => {
  let failures = 0;
  await inWorld(
    1,
    async (world) => {
      await world.submit(world.correction('a'));
      await world.outcomesCount(1);
      expect(world.outcomeLines).toEqual(['a COMMITTED']);
    },
    {
      replace: (real) => ({
        computeTargets: async (step) => {
          if (failures++ < 2) throw new Error('no room on the device');
          return await real.computeTargets(step);
        },
      }),
    },
  );
});

it('a batch gives up only the correction whose targets fail permanently', async () => {
  await inWorld(
    4,
    async (world) => {
      await world.submit(...names(4).map((id) => world.correction(id)));
      const outcomes = await world.outcomesCount(4);
      expect(world.outcomeLines).toEqual([
        'c0 COMMITTED',
        'c1 COMMITTED',
        'c2 QUARANTINED',
        'c3 COMMITTED',
      ]);
      expect(outcomes.find(({ revisionId }) => revisionId === 'c2')!.reason).toBe(
        'not positive definite',
      );
    },
    {
      replace: (real) => ({
        computeTargets: async (step) => {
          if (step.edits.some(({ correction }) => correction.id === 'c2'))
            throw ApplicationFailure.create({
              type: 'NotPositiveDefinite',
              message: 'not positive definite',
            });
          return await real.computeTargets(step);
        },
      }),
    },
  );
});

it('a batch gives up only the correction whose staging fails permanently', async () => {
  await inWorld(
    4,
    async (world) => {
      await world.submit(...names(4).map((id) => world.correction(id)));
      const outcomes = await world.outcomesCount(4);
      expect(world.outcomeLines).toEqual([
        'c0 COMMITTED',
        'c1 QUARANTINED',
        'c2 COMMITTED',
        'c3 COMMITTED',
      ]);
      expect(outcomes.find(({ revisionId }) => revisionId === 'c1')!.measured).toEqual({
        activity: 'stageUpdate',
        code: 'NotPositiveDefinite',
      });
    },
    {
      replace: (real) => ({
        stageUpdate: async (step) => {
          if (step.edits.some(({ correction }) => correction.id === 'c1'))
            throw ApplicationFailure.create({
              type: 'NotPositiveDefinite',
              message: 'not positive definite',
            });
          return await real.stageUpdate(step);
        },
      }),
    },
  );
});

it('a batch keeps its corrections and freezes the lineage while the log is damaged', async () => {
  let damaged = true;
  await inWorld(
    1,
    async (world) => {
      await world.submit(world.correction('a'));
      const frozen = await world.statusWhere((status) => status.frozen !== null);
      expect(frozen.frozen!.reason).toMatch(/failed 3 times: .*damaged/);
      expect(frozen.waiting).toBe(1);
      expect(world.outcomeLines).toEqual([]);
      damaged = false;
      await world.handle.signal('resume');
      await world.outcomesCount(1);
      expect(world.outcomeLines).toEqual(['a COMMITTED']);
    },
    {
      replace: (real) => ({
        planBatch: async (step) => {
          if (!damaged) return await real.planBatch(step);
          throw new VersionLogDamaged(step.lineage, 'log/1', 'hash differs');
        },
      }),
    },
  );
});

it('a batch leaves nothing except what its versions name', async () => {
  await inWorld(4, async (world) => {
    await world.submit(
      world.correction('a'),
      world.correction('b', { target: MISBEHAVING.ineffective }),
      world.correction('c', { target: MISBEHAVING.gibberish }),
      world.correction('d'),
    );
    await world.outcomesCount(4);
    await world.statusWhere(({ running }) => running === null);
    const entries = await world.log.entries(1, 9);
    const named = entries.flatMap(({ entry }) => [
      entry.pairs!.sha256,
      ...(entry.searches ?? []).map(({ sha256 }) => sha256),
      entry.probes.details.sha256,
    ]);
    const left = [...world.store.objects.keys()]
      .filter((name) => !/\/(log|register)\//.test(name))
      .map((name) => name.split('/').at(-1));
    expect(left.sort()).toEqual([...new Set(named)].sort());
  });
});

it('a batch recomputes what an earlier run discarded', async () => {
  let probed = 0;
  await inWorld(
    2,
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      await world.outcomesCount(2);
      expect(world.outcomeLines).toEqual(['a COMMITTED', 'b COMMITTED']);
      expect(probed).toBe(2);
    },
    {
      replace: (real) => ({
        runProbes: async (step) => {
          const report = await real.runProbes(step);
          if (probed++ === 0) await real.discard(step);
          return report;
        },
      }),
    },
  );
});
