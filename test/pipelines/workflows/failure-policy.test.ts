import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FailureSettings } from '../../../schemas/settings.ts';
import { MISBEHAVING } from '../../harness/fake-engine.ts';
import { TimeSkippingServer } from '../../harness/time-skipping.ts';
import { World, type WorldOptions } from '../../harness/world.ts';

let server: TimeSkippingServer;
beforeAll(async () => {
  server = await TimeSkippingServer.start();
});
afterAll(() => server.stop());

const HOUR_MS = 3_600_000;

async function inWorld(
  failures: Partial<FailureSettings>,
  replace: WorldOptions['replace'],
  test: (world: World) => Promise<void>,
): Promise<void> {
  const world = new World(server, {
    settings: { batch: { batchEditsMax: 2, batchWaitMs: HOUR_MS }, failures },
    ...(replace === undefined ? {} : { replace }),
  });
  await world.run(() => test(world));
}

/** A version log that is damaged for as long as the test chooses: every batch's workflow fails. */
function damaged(isDamaged: () => boolean): NonNullable<WorldOptions['replace']> {
  return (real) => ({
    commitVersion: async (step) => {
      if (isDamaged())
        throw ApplicationFailure.create({
          message: 'entry 1 is not what it was',
          type: 'VersionLogDamaged',
        });
      return await real.commitVersion(step);
    },
  });
}

it('a failing batch is retried as configured, then kept and the lineage frozen', async () => {
  await inWorld(
    { batchAttemptsMax: 2 },
    damaged(() => true),
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      const status = await world.statusWhere(({ frozen }) => frozen !== null);
      expect(status).toMatchObject({
        frozen: {
          reason: expect.stringMatching(/failed 2 times: entry 1 is not what it was/) as string,
        },
        held: { revisions: 2, attempts: 2 },
        outcomes: { QUARANTINED: 0 },
      });
      await world.until(() => world.alerts.length === 2);
      expect(
        world.alerts.map(({ kind, batchId, workflowId }) => `${kind} ${batchId} ${workflowId}`),
      ).toEqual(
        ['batch-failed', 'frozen'].map(
          (kind) => `${kind} ${status.held!.batchId} edit-batch/${world.lineage}/0`,
        ),
      );
      expect(new Set(world.alerts.map(({ id }) => id)).size).toBe(2);
    },
  );
});

it('a failing batch is quarantined if configured, and the lineage continues', async () => {
  let isDamaged = true;
  await inWorld(
    { batchAttemptsMax: 2, whenUsedUp: 'quarantine' },
    damaged(() => isDamaged),
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      const outcomes = await world.outcomesCount(2);
      for (const outcome of outcomes)
        expect(outcome).toMatchObject({
          status: 'QUARANTINED',
          reason: 'its batch failed 2 times: entry 1 is not what it was',
          measured: { code: 'given-up' },
        });
      isDamaged = false;
      await world.submit(world.correction('c'), world.correction('d'));
      await world.outcomesCount(4);
      expect(await world.statusWhere(({ running }) => running === null)).toMatchObject({
        frozen: null,
        held: null,
        head: { version: 1 },
        outcomes: { COMMITTED: 2, QUARANTINED: 2 },
      });
      await world.until(() => world.alerts.length === 3);
      expect(world.alerts.map(({ kind }) => kind)).toEqual([
        'batch-failed',
        'batch-failed',
        'quarantined',
      ]);
    },
  );
});

it('a batch that cannot be quarantined freezes the lineage until it is resumed', async () => {
  let isDown = true;
  await inWorld(
    { batchAttemptsMax: 1, whenUsedUp: 'quarantine' },
    (real) => ({
      planBatch: async (step) => {
        if (isDown)
          throw ApplicationFailure.create({
            message: 'no version log',
            type: 'VersionLogDamaged',
          });
        return await real.planBatch(step);
      },
    }),
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      await world.statusWhere(({ frozen }) => frozen !== null);
      isDown = false;
      await world.handle.signal('resume');
      await world.outcomesCount(2);
      expect(world.outcomeLines).toEqual(['a COMMITTED', 'b COMMITTED']);
    },
  );
});

it('a failing batch sends no alert if configured, and no alert delays it', async () => {
  await inWorld(
    { batchAttemptsMax: 1, alert: false },
    damaged(() => true),
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      await world.statusWhere(({ frozen }) => frozen !== null);
      expect(world.alerts).toEqual([]);
    },
  );
  let isDamaged = true;
  let tried = 0;
  await inWorld(
    { batchAttemptsMax: 1 },
    (real, world) => ({
      ...damaged(() => isDamaged)(real, world),
      alert: async () => {
        tried++;
        throw new Error('the webhook answers 500');
      },
    }),
    async (world) => {
      await world.submit(world.correction('a'), world.correction('b'));
      await world.statusWhere(({ frozen }) => frozen !== null);
      isDamaged = false;
      await world.handle.signal('resume');
      await world.outcomesCount(2);
      expect(world.outcomeLines).toEqual(['a COMMITTED', 'b COMMITTED']);
      expect(tried).toBeGreaterThan(0);
    },
  );
});

describe('a batch that fails its verdict', () => {
  it('is quarantined whole, without halving, if one try is configured', async () => {
    await inWorld({ editAttemptsMax: 1 }, undefined, async (world) => {
      await world.submit(
        world.correction('good'),
        world.correction('bad', { target: MISBEHAVING.gibberish }),
      );
      await world.outcomesCount(2);
      expect(world.outcomeLines).toEqual(['bad QUARANTINED', 'good QUARANTINED']);
    });
  });

  it('freezes the lineage and keeps nothing if too many are quarantined', async () => {
    await inWorld({ quarantinedMax: 1 }, undefined, async (world) => {
      await world.submit(
        world.correction('a', { target: MISBEHAVING.ineffective }),
        world.correction('b'),
      );
      await world.outcomesCount(2);
      await world.submit(
        world.correction('c', { target: MISBEHAVING.ineffective }),
        world.correction('d', { target: MISBEHAVING.ineffective }),
      );
      const { frozen, held } = await world.statusWhere((status) => status.frozen !== null);
      expect(frozen!.reason).toMatch(
        /2 revisions of batch .* were quarantined, and the lineage freezes past 1/,
      );
      expect(held).toBeNull();
      await world.until(() => world.alerts.length === 1);
      expect(world.alerts[0]).toMatchObject({ kind: 'frozen', lineage: world.lineage });
    });
  });
});
