import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import { announceActivities } from '../../../activities/announce.ts';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import { verifyLineage } from '../../../versions/audit/verify.ts';
import { aliasRecordName } from '../../../versions/log/object-names.ts';
import { canonicalJson } from '../../../versions/log/canonical-json.ts';
import { decodePairs, encodePairs } from '../../../versions/log/pairs.ts';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import { entryName } from '../../../versions/log/object-names.ts';
import { Versions } from '../../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { runBatch } from '../../harness/test-lineage.ts';
import { runUndo, undoRequest } from '../../harness/undo-run.ts';
import { FakeEngine, MISBEHAVING } from '../../harness/fake-engine.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

/** Versions made by batches, with register, aliases, undos and an archived history. */
async function filledStore(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const versions = new Versions(store);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  const [a, b] = [correction('a'), correction('b')];
  for (const [i, revisions] of [
    [a, b, correction('c')],
    [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }), retraction(b)],
    [correction('d')],
  ].entries()) {
    await (await runBatch(activities, String(i), revisions)).commit();
    if (i < 2) await activities.discard({ lineage: LINEAGE, batchId: String(i) });
  }
  // Announcing leaves objects of its own in the register.
  const announcing = announceActivities({
    announcer: { announceVersion: async () => undefined, announceOutcomes: async () => undefined },
    versions,
  });
  await announcing.announce({ lineage: LINEAGE, outcomes: [], version: 3 });
  // An operator undoes the second batch, undoes that, moves an alias; a history is archived.
  await runUndo(activities, undoRequest('u1', { kind: 'version', version: 2 }));
  await runUndo(activities, undoRequest('u2', { kind: 'version', version: 4 }));
  for (const [id, version] of [
    ['1', 1],
    ['2', null],
    ['3', 5],
  ] as const)
    await versions
      .log(LINEAGE)
      .moveAlias({ alias: 'stable', version, reason: 'why', by: 'ops', id });
  await versions.histories(LINEAGE).put({
    workflowId: 'edit-batch/l/1',
    runId: '0198c2f5-0000-7000-8000-000000000001',
    type: 'editBatch',
    status: 'COMPLETED',
    startedAt: 1,
    closedAt: 2,
    history: '{"events":[]}',
    omitted: null,
  });
  await announcing.announce({ lineage: LINEAGE, outcomes: [], version: 5 });
  await runBatch(activities, 'refused', [correction('x', { target: MISBEHAVING.ineffective })]);
  await (
    await versions.log(LINEAGE).register()
  ).settle([
    {
      lineage: LINEAGE,
      revisionId: 'x',
      factKey: 'x|',
      status: 'QUARANTINED',
      version: null,
      reason: 'no',
      measured: { code: 'not-effective' },
      position: { topic: 't', partition: 0, offset: '3' },
      batchId: 'refused',
      decidedAt: 1,
    },
  ]);
  return store;
}

let store: MemoryStore;
let whole: Map<string, Uint8Array>;
beforeAll(async () => {
  store = await filledStore();
  whole = new Map(store.objects);
});
const damaged = async (damage: (objects: Map<string, Uint8Array>) => void) => {
  store.objects.clear();
  for (const [name, bytes] of [...whole].sort()) store.objects.set(name, bytes);
  damage(store.objects);
  return await verifyLineage(store, LINEAGE);
};
const problems = async (damage: Parameters<typeof damaged>[0]) =>
  (await damaged(damage)).findings.map(
    ({ object, problem }) => `${object.split('/').slice(2, 4).join('/')}: ${problem}`,
  );

it('verifying a lineage finds nothing in a sound lineage', async () => {
  expect(await damaged(() => {})).toMatchObject({
    versions: 5,
    corrections: 3,
    objects: whole.size,
    findings: [],
    head: { version: 5, anchored: true },
  });
});

it('verifying a lineage finds any changed byte of any object', async () => {
  const names = [...whole.keys()];
  await fc.assert(
    fc.asyncProperty(
      fc.nat(names.length - 1),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.integer({ min: 1, max: 255 }),
      async (which, at, change) => {
        const name = names[which]!;
        const verification = await damaged((objects) => {
          const bytes = Uint8Array.from(objects.get(name)!);
          bytes[Math.floor(at * bytes.length)]! ^= change;
          objects.set(name, bytes);
        });
        expect(verification.findings.length, name).toBeGreaterThan(0);
      },
    ),
    { numRuns: 300 },
  );
});

it('verifying finds every object that is truncated or missing, except staged ones', async () => {
  for (const [name, bytes] of whole) {
    expect(
      (await problems((objects) => objects.set(name, bytes.subarray(0, -1)))).length,
      name,
    ).toBeGreaterThan(0);
    if (/\/(log|blobs)\//.test(name) && name !== entryName(LINEAGE, 5))
      expect((await problems((objects) => objects.delete(name))).length, name).toBeGreaterThan(0);
  }
});

it('verifying reports whether the register vouches for the last entry', async () => {
  const marker = [...whole.keys()].find((name) =>
    name.endsWith('/register/versions/00000000000000000005.json'),
  )!;
  expect(await damaged((objects) => objects.delete(marker))).toMatchObject({
    findings: [],
    head: { version: 5, anchored: false },
  });
  expect(await problems((objects) => objects.delete(entryName(LINEAGE, 5)))).toEqual([
    expect.stringMatching(
      /^register\/versions: version 5 was registered with hash .*, its entry hashes to nothing$/,
    ),
    expect.stringMatching(/^aliases\/0+3.json: it moves "stable" to version 5 of 4$/),
  ]);
});

it('verifying a lineage finds objects in the wrong place', async () => {
  expect(await problems((objects) => objects.delete(entryName(LINEAGE, 2)))).toContainEqual(
    expect.stringMatching(/^log\/0{19}3\.json: is in the place of version 2; /),
  );
  expect(await problems((objects) => objects.delete(aliasRecordName(LINEAGE, 2)))).toEqual([
    expect.stringMatching(/^aliases\/0{19}3\.json: is in the place of alias record 2; /),
  ]);
  expect(
    await problems((objects) =>
      objects.set(aliasRecordName(LINEAGE, 4), objects.get(aliasRecordName(LINEAGE, 3))!),
    ),
  ).toEqual([expect.stringMatching(/^aliases\/0+4\.json: it repeats the id "3"$/)]);
  const history = [...whole.keys()].find((name) => name.includes('/histories/'))!;
  expect(
    await problems((objects) =>
      objects.set(history.replace(/1\.json$/, '2.json'), objects.get(history)!),
    ),
  ).toEqual([
    expect.stringMatching(/is run 0198c2f5-0000-7000-8000-000000000001 of edit-batch\/l\/1$/),
  ]);
  const fate = [...whole.keys()].find((name) => /\/fates\/.*\/0+5\.json$/.test(name))!;
  expect(
    await problems((objects) =>
      objects.set(fate.replace(/5\.json$/, '9.json'), objects.get(fate)!),
    ),
  ).toEqual([expect.stringMatching(/^register\/fates: is about ".*" in version 5$/)]);
  expect(
    await problems((objects) => objects.set(`lineages/${LINEAGE}/notes/a`, new Uint8Array(1))),
  ).toEqual(['notes/a: does not belong to a version log']);
});

it('finds corrections that an undo restores differently', async () => {
  const store = await filledStore();
  const read = <Content>(name: string) =>
    JSON.parse(new TextDecoder().decode(store.objects.get(name))) as Content;
  const entry = read<VersionEntry>(entryName(LINEAGE, 5));
  const [restored] = entry.added;
  const first = read<VersionEntry>(entryName(LINEAGE, restored!.origin!.version));
  // The last entry: no hash names it, so only its content can show a fault.
  const problems = async (added: VersionEntry['added'], pairs = entry.pairs) => {
    store.objects.set(entryName(LINEAGE, 5), canonicalJson({ ...entry, added, pairs }));
    return (await verifyLineage(store, LINEAGE)).findings
      .map(({ problem }) => problem)
      .filter((problem) => !problem.includes('registered'));
  };
  expect(await problems(entry.added)).toEqual([]);
  const id = restored!.correctionId;
  expect(await problems([{ ...restored!, target: 'Rome' }])).toEqual([
    `it restores "${id}" differently from version ${first.version}`,
  ]);
  expect(await problems([{ ...restored!, origin: { version: 3, row: 0 } }])).toEqual([
    `it restores "${id}" differently from version 3`,
  ]);
  const pairs = decodePairs(
    store.objects.get(
      `lineages/${LINEAGE}/blobs/${entry.pairs!.sha256.slice(0, 2)}/${entry.pairs!.sha256}`,
    )!,
  );
  pairs.changes[1]![3]! += 1;
  const bytes = encodePairs(pairs);
  const changed = await new Versions(store).log(LINEAGE).blobs.put(bytes);
  expect(await problems(entry.added, changed)).toEqual([
    `the pairs of "${id}" differ from those of version ${first.version}`,
  ]);
  const { origin: _, ...unmarked } = restored!;
  expect((await problems([unmarked]))[0]).toBe(`it is an undo, and adds "${id}" as new`);
});
