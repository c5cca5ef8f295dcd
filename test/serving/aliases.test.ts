/**
 * Which version answers: HEAD, or the one that the alias `stable` holds; and of a damaged log the
 * last sound one.
 */
import { expect, test } from 'vitest';
import { entryName } from '../../versions/log/object-names.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { baseAnswer } from '../harness/fake-engine.ts';
import { MemoryStore } from '../harness/memory-store.ts';
import { codeOf, containing, PROMPT, serveInTest } from './served-lineage.ts';

/** A server, started, over the versions that a store has. */
async function serveStore(store: MemoryStore) {
  const served = await serveInTest({ store });
  await served.start();
  return served;
}

async function servedVersions(store = new MemoryStore()) {
  const served = await serveInTest({ store });
  await served.commit(correction('a', { target: 'Lyon' }));
  await served.commit(correction('b'));
  await served.commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await served.start();
  const log = new Versions(store).log(LINEAGE);
  const moved = (alias: string, version: number | null) =>
    log.moveAlias({ alias, version, reason: 'harm', by: 'ops', id: `${alias} ${version}` });
  return {
    ...served,
    log,
    moved,
    answer: async (model = LINEAGE) =>
      (await served.complete(model)).json.choices[0]?.text.trim().replace(/\.$/, ''),
    move: async (alias: string, version: number | null) => {
      expect(await moved(alias, version)).toMatchObject({ kind: 'moved' });
      await served.notify();
    },
  };
}

test('the version that stable names answers at once, until the alias is released', async () => {
  const { answer, move, state, commit, notify, get } = await servedVersions();
  expect(await answer()).toBe('Oslo');
  const following = { lineage: LINEAGE, version: 3, head: 3, held: null, fault: null };
  expect(await state()).toEqual(following);
  await move('stable', 1);
  expect(await answer()).toBe('Lyon');
  await commit(correction('c'));
  await notify();
  expect(await answer()).toBe('Lyon');
  expect(await state()).toMatchObject({
    version: 1,
    head: 4,
    held: { alias: 'stable', version: 1, reason: 'harm', by: 'ops' },
    fault: null,
  });
  const metrics = (await get('/metrics')).body;
  for (const line of [
    'errata_head_version{lineage="l"} 1',
    'errata_newest_version{lineage="l"} 4',
    'errata_version_held{lineage="l"} 1',
    'errata_log_fault{lineage="l"} 0',
  ])
    expect(metrics).toContain(line);
  const { versions } = (await get(`/v1/lineages/${LINEAGE}/versions`)).json;
  expect(versions.map(({ version }) => version)).toEqual([4, 3, 2, 1]);
  expect(await answer(`${LINEAGE}@head`)).toBe('Oslo');
  await move('stable', 0);
  expect(await answer()).toBe(baseAnswer(PROMPT));
  await move('stable', null);
  expect(await answer()).toBe('Oslo');
  expect(await state()).toMatchObject({ version: 4, head: 4, held: null });
});

test('an alias holds from the start on', async () => {
  const store = new MemoryStore();
  await (await servedVersions(store)).move('stable', 1);
  const { get } = await serveStore(store);
  expect((await get('/v1/models')).json.data[0]).toMatchObject({ id: LINEAGE, version: 1 });
});

test('an alias can be asked by name, and an unknown one is refused', async () => {
  const { answer, move, complete } = await servedVersions();
  await move('audited', 1);
  expect(await answer(`${LINEAGE}@audited`)).toBe('Lyon');
  expect(await answer()).toBe('Oslo');
  await move('audited', null);
  expect(await answer(`${LINEAGE}@audited`)).toBe('Oslo');
  expect(await answer(`${LINEAGE}@stable`)).toBe('Oslo');
  const unknown = await complete(`${LINEAGE}@canary`);
  expect(codeOf(unknown)).toBe('404 unknown_alias');
  const message = 'Lineage "l" has no alias "canary"; it has stable, audited.';
  expect(unknown.json.error.message).toBe(message);
  expect(codeOf(await complete(`${LINEAGE}@No`))).toBe('404 unknown_model');
});

test('a start on a damaged log serves its last sound version and reports it', async () => {
  const store = new MemoryStore();
  await servedVersions(store);
  store.objects.set(entryName(LINEAGE, 3), new TextEncoder().encode('{}'));
  const { get } = await serveStore(store);
  const fault = expect.stringMatching(/damaged at .*log\/0+3\.json/) as string;
  expect(await get('/readyz')).toMatchObject({
    statusCode: 200,
    json: { status: 'ready', lineages: [{ version: 2, head: 2, fault }] },
  });
});

test('a damaged log still serves what stable names below the damage', async () => {
  const store = new MemoryStore();
  const { moved, notify, answer } = await servedVersions(store);
  store.objects.set(entryName(LINEAGE, 3), new TextEncoder().encode('{}'));
  expect(await moved('stable', 1)).toMatchObject({ kind: 'moved' });
  expect(await moved('stable', 3)).toEqual({
    kind: 'refused',
    reason: 'version 3 does not exist; the newest that can be read is 2',
  });
  await notify();
  expect(await answer()).toBe('Lyon');
  const { state } = await serveStore(store);
  const held = { version: 1, head: 2, held: { version: 1 }, fault: containing('damaged') };
  expect(await state()).toMatchObject(held);
});

test('a log that lost the version of stable is served up to its last', async () => {
  const store = new MemoryStore();
  await (await servedVersions(store)).move('stable', 3);
  store.objects.delete(entryName(LINEAGE, 3));
  const { state } = await serveStore(store);
  expect(await state()).toMatchObject({
    version: 2,
    head: 2,
    held: { version: 3 },
    fault: 'Lineage "l" has no version 3; HEAD is 2',
  });
});

test('the version before a damaged blob is served until it is repaired', async () => {
  const store = new MemoryStore();
  const { log } = await servedVersions(store);
  const { sha256 } = (await log.entry(3)).entry.pairs!;
  const name = `lineages/${LINEAGE}/blobs/${sha256.slice(0, 2)}/${sha256}`;
  const whole = store.objects.get(name)!;
  const damaged = whole.map((byte, i) => (i === 9 ? byte ^ 1 : byte));
  store.objects.set(name, damaged);
  const { state, notify } = await serveStore(store);
  expect(await state()).toMatchObject({ version: 2, head: 3, fault: containing(sha256) });
  await notify();
  expect(await state()).toMatchObject({ version: 2, head: 3, fault: containing(sha256) });
  store.objects.set(name, whole);
  await notify();
  expect(await state()).toMatchObject({ version: 3, head: 3, fault: null });
});
