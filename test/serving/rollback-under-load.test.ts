import { expect, test } from 'vitest';
import { DEFAULT_SERVING_LIMITS } from '../../serving/server.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { heldEngine, until } from './held-engine.ts';
import { servedLineage } from './served-lineage.ts';

const QUESTION = { model: LINEAGE, prompt: 'Subject a is in', max_tokens: 8, temperature: 0 };

/** A server whose answers wait, with 32 requests in its queue behind one that has begun. */
async function serveBacklog() {
  let gate!: ReturnType<typeof heldEngine>;
  const served = await servedLineage({ serve: (inner) => (gate = heldEngine(inner)).engine });
  await served.commit(correction('a', { target: 'Lyon' }));
  await served.commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await served.start();
  const begun = served.post('/v1/completions', QUESTION);
  await gate.busy();
  const { waitingMax } = DEFAULT_SERVING_LIMITS;
  const waiting = Array.from({ length: waitingMax }, () =>
    served.post('/v1/completions', QUESTION),
  );
  await until(async () => (await served.get('/readyz')).json.waiting === waitingMax);
  return { ...served, gate, begun, waiting };
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
