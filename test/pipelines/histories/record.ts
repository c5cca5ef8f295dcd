/**
 * Records the histories for `replay.test.ts` into the folder of the release in package.json:
 * `node --import tsx test/pipelines/histories/record.ts`.
 *
 * A history is the trace of a deployed version in running workflows. Those of a release are never
 * recorded again: changed workflows must replay them (Temporal's patching), until a release that
 * drains its lineages first removes their folder.
 */
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { ApplicationFailure } from '@temporalio/common';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import {
  configureSignal,
  flushSignal,
  forgetPositionsSignal,
  freezeSignal,
  resumeSignal,
} from '../../../pipelines/workflows/messages.ts';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
import { MISBEHAVING } from '../../harness/fake-engine.ts';
import { startTestTemporal } from '../../harness/servers/local.ts';
import { TimeSkippingServer } from '../../harness/time-skipping.ts';
import { World, type WorldOptions } from '../../harness/world.ts';

const { version } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string };
const target = new URL(`./${version}/`, import.meta.url);
if (existsSync(target))
  throw new Error(
    `the histories of ${version} are recorded; ` +
      `remove the folder only while ${version} is not released`,
  );
mkdirSync(target);

const folder = mkdtempSync(path.join(tmpdir(), 'errata-record-'));
const temporal = await startTestTemporal(folder);
// A real server is needed: the test server does not know search attributes.
const server = await TimeSkippingServer.inPlaceOf(temporal);
await editedAndUndone();
await halvedSearch();
await continued();
await failingBatches();
await server.stop();
await temporal.stop();
rmSync(folder, { recursive: true });

async function editedAndUndone(): Promise<void> {
  const settings = { batch: { batchEditsMax: 5, batchWaitMs: 60_000 }, failures: {} };
  await recorded({ settings, findable: true }, async (world) => {
    const [a, b] = [world.correction('a'), world.correction('b')];
    const poison = world.correction('poison', { target: MISBEHAVING.gibberish });
    const weak = world.correction('weak', { target: MISBEHAVING.ineffective });
    await world.submit(a, b, world.correction('b'), poison, weak);
    await world.outcomesCount(5);
    await world.handle.signal(freezeSignal, 'looking at it');
    await world.undo('u1', { kind: 'version', version: 1 });
    const id = 'rollback:u2';
    await world.log.moveAlias({ alias: STABLE_ALIAS, version: 0, reason: 'safe', by: 'ops', id });
    await world.undo('u2', { kind: 'rollback', version: 0 }, STABLE_ALIAS);
    await world.undo('u3', { kind: 'correction', id: 'weak' });
    const tied = ['Oslo', 'Rome'].map((answer, i) =>
      world.correction(`c${i}`, { subject: 'Subject c', target: answer }),
    );
    const a2 = world.correction('a2', { subject: a.subject, target: 'Oslo', issuedAt: 2_000 });
    await world.submit(a2, { retract: b, issuedAt: 2_000 }, ...tied);
    await world.handle.signal(resumeSignal);
    await world.handle.signal(flushSignal);
    await world.outcomesCount(9);
    await world.handle.signal(configureSignal, { ...world.settings, findable: false });
    await world.handle.signal(forgetPositionsSignal);
    await world.statusWhere(({ running, settings: now }) => running === null && !now.findable);
    await record('lineage-undo', `lineage/${world.lineage}`);
    await record('edit-batch-split', `edit-batch/${world.lineage}/0`);
    await record('edit-batch-supersede-retract', `edit-batch/${world.lineage}/1`);
    await record('undo-version', `undo/${world.lineage}/u1`);
    await record('undo-rollback', `undo/${world.lineage}/u2`);
    await record('undo-nothing', `undo/${world.lineage}/u3`);
  });
}

async function halvedSearch(): Promise<void> {
  const replace: WorldOptions['replace'] = (real) => ({
    computeTargets: async (step) => {
      if (step.edits.some(({ correction }) => correction.id === 'b'))
        throw ApplicationFailure.create({ message: 'no factor', type: 'NotPositiveDefinite' });
      return await real.computeTargets(step);
    },
  });
  await recorded({ settings: { batch: { batchEditsMax: 3 } }, replace }, async (world) => {
    await world.submit(...['a', 'b', 'c'].map((id) => world.correction(id)));
    await world.outcomesCount(3);
    await world.statusWhere(({ running }) => running === null);
    await record('edit-batch-halved-search', `edit-batch/${world.lineage}/0`);
  });
}

async function continued(): Promise<void> {
  const settings = { batch: { batchEditsMax: 1, batchWaitMs: 0 } };
  await recorded({ settings, historyEventsMax: 10 }, async (world) => {
    await world.submit(world.correction('a'));
    await world.outcomesCount(1);
    await world.submit(world.correction('b'));
    await world.outcomesCount(2);
    await world.statusWhere(({ running, head }) => running === null && head?.version === 2);
    await record('lineage-continued', `lineage/${world.lineage}`);
  });
}

async function failingBatches(): Promise<void> {
  let isDamaged = true;
  const replace: WorldOptions['replace'] = (real) => ({
    commitVersion: async (step) => {
      if (isDamaged)
        throw ApplicationFailure.create({
          message: 'entry 1 is not what it was',
          type: 'VersionLogDamaged',
        });
      return await real.commitVersion(step);
    },
  });
  const batch = { batchEditsMax: 1 };
  const failures = { batchAttemptsMax: 2, retryWaitMs: 100 };
  const givenUp = { batch, failures: { ...failures, whenUsedUp: 'quarantine' as const } };
  await recorded({ settings: givenUp, replace }, async (world) => {
    await world.submit(world.correction('a'));
    await world.outcomesCount(1);
    await world.statusWhere(({ running }) => running === null);
    await record('lineage-given-up', `lineage/${world.lineage}`);
    await record('edit-batch-given-up', `edit-batch/${world.lineage}/0`);
  });
  await recorded({ settings: { batch, failures }, replace }, async (world) => {
    await world.submit(world.correction('a'));
    await world.statusWhere(({ frozen }) => frozen !== null);
    await world.until(() => world.alerts.length === 2);
    isDamaged = false;
    await world.handle.signal(resumeSignal);
    await world.outcomesCount(1);
    await world.statusWhere(({ running }) => running === null);
    await record('lineage-frozen', `lineage/${world.lineage}`);
  });
}

async function recorded(
  options: WorldOptions,
  work: (world: World) => Promise<void>,
): Promise<void> {
  const world = new World(server, options);
  await world.run(() => work(world));
}

async function record(name: string, workflowId: string): Promise<void> {
  const { workflow } = server.environment.client;
  const fetched = await workflow.getHandle(workflowId).fetchHistory();
  const history: unknown = JSON.parse(historyToJSON(fetched));
  // The worker and machine that ran it are omitted.
  const json = JSON.stringify(history, (key, value: unknown) => {
    if (key === 'identity') return 'recorder';
    if (key === 'stackTrace') return '';
    return typeof value === 'string' ? value.replaceAll(hostname(), 'recorder') : value;
  });
  writeFileSync(new URL(`./${name}.json`, target), `${json}\n`);
}
