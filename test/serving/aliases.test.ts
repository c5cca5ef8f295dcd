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
import { servedLineage } from './served-lineage.ts';

const PROMPT = 'Subject a is in';

async function servedVersions(store = new MemoryStore()) {
  const served = await servedLineage({ store });
  await served.commit(correction('a', { target: 'Lyon' }));
  await served.commit(correction('b'));
  await served.commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await served.start();
  const log = new Versions(store).log(LINEAGE);
  let moves = 0;
  return {
    ...served,
    log,
    answer: async (model = LINEAGE) =>
      (
        await served.post('/v1/completions', {
          model,
          prompt: PROMPT,
          max_tokens: 1,
          temperature: 0,
        })
      ).json.choices[0]?.text
        .trim()
        .replace(/\.$/, ''),
    move: async (alias: string, version: number | null) => {
      expect(
        await log.moveAlias({ alias, version, reason: 'harm', by: 'ops', id: `m${(moves += 1)}` }),
      ).toMatchObject({ kind: 'moved' });
      await served.notify();
    },
    standing: async () =>
      (JSON.parse((await served.get('/readyz')).body) as { lineages: object[] }).lineages[0],
  };
}

test('the version that stable names answers at once, until the alias is released', async () => {
  const served = await servedVersions();
  expect(await served.answer()).toBe('Oslo');
  expect(await served.standing()).toEqual({
    lineage: LINEAGE,
    version: 3,
    head: 3,
    held: null,
    fault: null,
  });
  await served.move('stable', 1);
  expect(await served.answer()).toBe('Lyon');
  await served.commit(correction('c'));
  await served.notify();
  expect(await served.answer()).toBe('Lyon');
  expect(await served.standing()).toMatchObject({
    version: 1,
    head: 4,
    held: { alias: 'stable', version: 1, reason: 'harm', by: 'ops' },
    fault: null,
  });
  const metrics = (await served.get('/metrics')).body;
  for (const line of [
    'errata_head_version{lineage="l"} 1',
    'errata_newest_version{lineage="l"} 4',
    'errata_version_held{lineage="l"} 1',
    'errata_log_fault{lineage="l"} 0',
  ])
    expect(metrics).toContain(line);
  expect(
    (await served.get(`/v1/lineages/${LINEAGE}/versions`)).json.versions.map(
      ({ version }) => version,
    ),
  ).toEqual([4, 3, 2, 1]);
  expect(await served.answer(`${LINEAGE}@head`)).toBe('Oslo');
  await served.move('stable', 0);
  expect(await served.answer()).toBe(baseAnswer(PROMPT));
  await served.move('stable', null);
  expect(await served.answer()).toBe('Oslo');
  expect(await served.standing()).toMatchObject({ version: 4, head: 4, held: null });
  await served.close();
});

test('an alias holds from the start on', async () => {
  const store = new MemoryStore();
  const first = await servedVersions(store);
  await first.move('stable', 1);
  await first.close();
  const again = await servedLineage({ store });
  await again.start();
  expect((await again.get('/v1/models')).json.data[0]).toMatchObject({ id: LINEAGE, version: 1 });
  await again.close();
});

test('an alias can be asked by name, and an unknown one is refused', async () => {
  const served = await servedVersions();
  await served.move('audited', 1);
  expect(await served.answer(`${LINEAGE}@audited`)).toBe('Lyon');
  expect(await served.answer()).toBe('Oslo');
  await served.move('audited', null);
  expect(await served.answer(`${LINEAGE}@audited`)).toBe('Oslo');
  expect(await served.answer(`${LINEAGE}@stable`)).toBe('Oslo');
  const { statusCode, json } = await served.post('/v1/completions', {
    model: `${LINEAGE}@canary`,
    prompt: PROMPT,
  });
  expect([statusCode, json.error]).toEqual([
    404,
    expect.objectContaining({
      code: 'unknown_alias',
      message: 'Lineage "l" has no alias "canary"; it has stable, audited.',
    }),
  ]);
  expect(
    (await served.post('/v1/completions', { model: `${LINEAGE}@No`, prompt: PROMPT })).json.error
      .code,
  ).toBe('unknown_model');
  await served.close();
});

test('a start on a damaged log serves its last sound version and reports it', async () => {
  const store = new MemoryStore();
  await (await servedVersions(store)).close();
  store.objects.set(entryName(LINEAGE, 3), new TextEncoder().encode('{}'));
  const served = await servedLineage({ store });
  await served.start();
  expect((await served.get('/readyz')).statusCode).toBe(200);
  expect(JSON.parse((await served.get('/readyz')).body)).toMatchObject({
    status: 'ready',
    lineages: [
      {
        version: 2,
        head: 2,
        fault: expect.stringMatching(/damaged at .*log\/0+3\.json/) as string,
      },
    ],
  });
  await served.close();
});

test('a damaged log still serves what stable names below the damage', async () => {
  const store = new MemoryStore();
  const before = await servedVersions(store);
  store.objects.set(entryName(LINEAGE, 3), new TextEncoder().encode('{}'));
  const log = new Versions(store).log(LINEAGE);
  expect(
    await log.moveAlias({ alias: 'stable', version: 1, reason: 'damage', by: 'ops', id: 'm' }),
  ).toMatchObject({ kind: 'moved' });
  expect(
    await log.moveAlias({ alias: 'stable', version: 3, reason: 'damage', by: 'ops', id: 'n' }),
  ).toEqual({
    kind: 'refused',
    reason: 'version 3 does not exist; the newest that can be read is 2',
  });
  await before.notify();
  expect(await before.answer()).toBe('Lyon');
  await before.close();
  const served = await servedLineage({ store });
  await served.start();
  expect(JSON.parse((await served.get('/readyz')).body)).toMatchObject({
    lineages: [
      {
        version: 1,
        head: 2,
        held: { version: 1 },
        fault: expect.stringMatching(/damaged/) as string,
      },
    ],
  });
  await served.close();
});

test('a log that lost the version of stable is served up to its last', async () => {
  const store = new MemoryStore();
  const first = await servedVersions(store);
  await first.move('stable', 3);
  await first.close();
  store.objects.delete(entryName(LINEAGE, 3));
  const served = await servedLineage({ store });
  await served.start();
  expect(JSON.parse((await served.get('/readyz')).body)).toMatchObject({
    lineages: [
      {
        version: 2,
        head: 2,
        held: { version: 3 },
        fault: 'Lineage "l" has no version 3; HEAD is 2',
      },
    ],
  });
  await served.close();
});

test('the version before a damaged blob is served until it is repaired', async () => {
  const store = new MemoryStore();
  const first = await servedVersions(store);
  const { pairs } = (await first.log.entry(3)).entry;
  await first.close();
  const name = `lineages/${LINEAGE}/blobs/${pairs!.sha256.slice(0, 2)}/${pairs!.sha256}`;
  const whole = store.objects.get(name)!;
  store.objects.set(
    name,
    whole.map((byte, i) => (i === 9 ? byte ^ 1 : byte)),
  );
  const served = await servedLineage({ store });
  await served.start();
  const standing = async () =>
    (JSON.parse((await served.get('/readyz')).body) as { lineages: object[] }).lineages[0];
  expect(await standing()).toMatchObject({
    version: 2,
    head: 3,
    fault: expect.stringContaining(pairs!.sha256) as string,
  });
  await served.notify();
  expect(await standing()).toMatchObject({
    version: 2,
    head: 3,
    fault: expect.stringContaining(pairs!.sha256) as string,
  });
  store.objects.set(name, whole);
  await served.notify();
  expect(await standing()).toMatchObject({ version: 3, head: 3, fault: null });
  await served.close();
});
