/**
 * Records the histories that `replay.test.ts` replays, into the folder of the release that is in
 * package.json: `node --import tsx test/pipelines/histories/record.ts`.
 *
 * A history is what a deployed version left behind in running workflows. Those of earlier releases
 * are never recorded anew: a change of the workflows has to replay them (Temporal's patching),
 * until a release that drains its lineages first removes their folder.
 */
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { ApplicationFailure } from '@temporalio/common';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
import { MISBEHAVING } from '../../harness/fake-engine.ts';
import { startTestTemporal } from '../../harness/servers/local.ts';
import { TimeSkippingServer, World, type WorldOptions } from '../../harness/world.ts';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };
const target = new URL(`./${version}/`, import.meta.url);
if (existsSync(target)) throw new Error(`the histories of ${version} are recorded; remove the folder only while ${version} is not released`);
mkdirSync(target);

const folder = mkdtempSync(path.join(tmpdir(), 'errata-record-'));
const temporal = await startTestTemporal(folder);
// A real server: the test server knows no search attributes.
const server = await TimeSkippingServer.inPlaceOf(temporal);

await recorded({ settings: { batch: { batchEditsMax: 5, batchWaitMs: 60_000 }, failures: {} }, findable: true }, async (world) => {
  const [a, b] = [world.correction('a'), world.correction('b')];
  await world.submit(a, b, world.correction('b'), world.correction('poison', { target: MISBEHAVING.gibberish }), world.correction('weak', { target: MISBEHAVING.ineffective }));
  await world.outcomesCount(5);
  await world.handle.signal('freeze', 'looking at it');
  await world.undo('u1', { kind: 'version', version: 1 });
  await world.log.moveAlias({ alias: STABLE_ALIAS, version: 0, reason: 'safe', by: 'recorder', id: 'rollback:u2' });
  await world.undo('u2', { kind: 'rollback', version: 0 }, STABLE_ALIAS);
  await world.undo('u3', { kind: 'correction', id: 'weak' });
  await world.submit(world.correction('a2', { subject: a.subject, target: 'Oslo', issuedAt: 2_000 }), { retract: b, issuedAt: 2_000 });
  await world.handle.signal('resume');
  await world.handle.signal('flush');
  await world.outcomesCount(7);
  await world.statusWhere(({ running }) => running === null);
  await record('lineage-undo', `lineage/${world.lineage}`);
  await record('edit-batch-split', `edit-batch/${world.lineage}/0`);
  await record('edit-batch-supersede-retract', `edit-batch/${world.lineage}/1`);
  await record('undo-version', `undo/${world.lineage}/u1`);
  await record('undo-rollback', `undo/${world.lineage}/u2`);
});

let isDamaged = true;
const damaged: NonNullable<WorldOptions['replace']> = (real) => ({
  commitVersion: async (step) => {
    if (isDamaged) throw ApplicationFailure.create({ message: 'entry 1 is not what it was', type: 'VersionLogDamaged' });
    return await real.commitVersion(step);
  },
});
await recorded({ settings: { batch: { batchEditsMax: 1 }, failures: { batchAttemptsMax: 2, retryWaitMs: 100, whenUsedUp: 'quarantine', quarantinedMax: 0 } }, replace: damaged }, async (world) => {
  await world.submit(world.correction('a'));
  await world.outcomesCount(1);
  await world.statusWhere(({ running }) => running === null);
  await record('lineage-given-up', `lineage/${world.lineage}`);
  await record('edit-batch-given-up', `edit-batch/${world.lineage}/0`);
});
await recorded({ settings: { batch: { batchEditsMax: 1 }, failures: { batchAttemptsMax: 2, retryWaitMs: 100 } }, replace: damaged }, async (world) => {
  await world.submit(world.correction('a'));
  await world.statusWhere(({ frozen }) => frozen !== null);
  await world.until(() => world.alerts.length === 2);
  isDamaged = false;
  await world.handle.signal('resume');
  await world.outcomesCount(1);
  await world.statusWhere(({ running }) => running === null);
  await record('lineage-frozen', `lineage/${world.lineage}`);
});

await server.stop();
await temporal.stop();
rmSync(folder, { recursive: true });

async function recorded(options: WorldOptions, work: (world: World) => Promise<void>): Promise<void> {
  const world = new World(server, options);
  await world.run(() => work(world));
}

async function record(name: string, workflowId: string): Promise<void> {
  const history = await server.environment.client.workflow.getHandle(workflowId).fetchHistory();
  // Who ran it, and where, is nobody's business.
  const json = JSON.stringify(JSON.parse(historyToJSON(history)), (key, value: unknown) => (key === 'identity' ? 'recorder' : key === 'stackTrace' ? '' : typeof value === 'string' ? value.replaceAll(hostname(), 'recorder') : value));
  writeFileSync(new URL(`./${name}.json`, target), `${json}\n`);
}
