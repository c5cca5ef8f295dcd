import { expect, test } from 'vitest';
import { DEFAULT_SERVING_LIMITS } from '../../serving/server.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { serveHeld, until } from './held-engine.ts';

/** A server whose answers wait, with 32 requests in its queue behind one that has begun. */
async function serveBacklog() {
  const served = await serveHeld();
  const { commit, start, complete, gate, get } = served;
  await commit(correction('a', { target: 'Lyon' }));
  await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await start();
  const begun = complete();
  await gate.busy();
  const { waitingMax } = DEFAULT_SERVING_LIMITS;
  const waiting = Array.from({ length: waitingMax }, () => complete());
  await until(async () => (await get('/readyz')).json.waiting === waitingMax);
  return { ...served, begun, waiting };
}

test('a rollback precedes the waiting requests, which its version answers', async () => {
  const { store, notify, get, gate, begun, waiting } = await serveBacklog();
  expect(waiting).toHaveLength(32);
  const log = new Versions(store).log(LINEAGE);
  await log.moveAlias({ alias: 'stable', version: 1, reason: 'harm', by: 'ops', id: 'rollback' });
  const swapped = notify();
  await until(async () => (await get('/readyz')).json.waiting === 33);
  await gate.letGo();
  await swapped;
  expect((await begun).json.errata.version).toBe(2);
  for (const answer of waiting) {
    await gate.letGo();
    const { json } = await answer;
    expect([json.errata.version, json.choices[0]!.text]).toEqual([1, ' Lyon.']);
  }
});
