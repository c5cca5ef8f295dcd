/**
 * Records the histories that `replay.test.ts` replays: `node --import tsx test/pipelines/histories/record.ts`.
 *
 * A history is what a deployed version left behind in running workflows, so it is recorded anew only when a release
 * drains its lineages first; otherwise a change of the workflows has to replay the old ones (Temporal's patching).
 */
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { writeFileSync } from 'node:fs';
import { MISBEHAVING } from '../../fake-engine.ts';
import { TimeSkippingServer, World } from '../world.ts';

const server = await TimeSkippingServer.start();
const world = new World(server, { settings: { batch: { batchEditsMax: 4, batchWaitMs: 60_000 } } });
await world.run(async () => {
  const [a, b] = [world.correction('a'), world.correction('b')];
  await world.submit(a, b, world.correction('b'), world.correction('poison', { target: MISBEHAVING.gibberish }), world.correction('weak', { target: MISBEHAVING.ineffective }));
  await world.outcomesCount(5);
  await world.handle.signal('freeze', 'looking at it');
  await world.submit(world.correction('a2', { subject: a.subject, target: 'Oslo', issuedAt: 2_000 }), { retract: b, issuedAt: 2_000 });
  await world.handle.signal('resume');
  await world.handle.signal('flush');
  await world.outcomesCount(9);
  await world.statusWhere(({ running }) => running === null);
  await record('lineage', `lineage/${world.lineage}`);
  await record('edit-batch-split', `edit-batch/${world.lineage}/0`);
  await record('edit-batch-supersede-retract', `edit-batch/${world.lineage}/1`);
});
await server.stop();

async function record(name: string, workflowId: string): Promise<void> {
  const history = await server.environment.client.workflow.getHandle(workflowId).fetchHistory();
  // Who ran it is nobody's business.
  const json = JSON.stringify(JSON.parse(historyToJSON(history)), (key, value: unknown) => (key === 'identity' ? 'recorder' : value));
  writeFileSync(new URL(`./${name}.json`, import.meta.url), `${json}\n`);
}
