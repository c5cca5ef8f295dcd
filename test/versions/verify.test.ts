import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { announceActivities } from '../../activities/announce.ts';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { verifyLineage } from '../../versions/verify.ts';
import { entryName } from '../../versions/version-log.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE, retraction, runBatch } from '../activities/corrections.ts';
import { FakeEngine, MISBEHAVING } from '../fake-engine.ts';
import { MemoryStore } from './memory-store.ts';

/** Versions as batches make them, with all that lies around them. */
async function filledStore(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const versions = new Versions(store);
  const activities = { ...createEditActivities({ engine: new FakeEngine(), versions }), ...createLedgerActivities({ versions }) };
  const [a, b] = [correction('a'), correction('b')];
  for (const [i, revisions] of [[a, b, correction('c')], [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }), retraction(b)], [correction('d')]].entries()) {
    await (await runBatch(activities, String(i), revisions)).commit();
    if (i < 2) await activities.discard({ lineage: LINEAGE, batchId: String(i) });
  }
  // As the workflow has it told: a correction that left, and versions that were announced, leave marks of their own.
  const announcing = announceActivities({ announcer: { announceVersion: async () => undefined, announceOutcomes: async () => undefined }, versions });
  await announcing.announce({ lineage: LINEAGE, outcomes: [], version: 3 });
  await runBatch(activities, 'refused', [correction('x', { target: MISBEHAVING.ineffective })]);
  await (await versions.log(LINEAGE).register()).settle([{ lineage: LINEAGE, revisionId: 'x', factKey: 'x|', status: 'QUARANTINED', version: null, reason: 'no', measured: { code: 'not-effective' }, position: { topic: 't', partition: 0, offset: '3' }, batchId: 'refused', decidedAt: 1 }]);
  return store;
}

describe('verifying a lineage', () => {
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
  const problems = async (damage: Parameters<typeof damaged>[0]) => (await damaged(damage)).findings.map(({ object, problem }) => `${object.split('/').slice(2, 4).join('/')}: ${problem}`);

  it('finds nothing where nothing is wrong', async () => {
    expect(await damaged(() => {})).toMatchObject({ versions: 3, corrections: 3, objects: whole.size, findings: [], head: { version: 3, anchored: true } });
  });

  it('finds any changed byte of any object', async () => {
    const names = [...whole.keys()];
    await fc.assert(
      fc.asyncProperty(fc.nat(names.length - 1), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.integer({ min: 1, max: 255 }), async (which, at, change) => {
        const name = names[which]!;
        const verification = await damaged((objects) => {
          const bytes = Uint8Array.from(objects.get(name)!);
          bytes[Math.floor(at * bytes.length)]! ^= change;
          objects.set(name, bytes);
        });
        expect(verification.findings.length, name).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });

  it('finds every object that is cut short or gone, but for what was only staged', async () => {
    for (const [name, bytes] of whole) {
      expect((await problems((objects) => objects.set(name, bytes.subarray(0, -1)))).length, name).toBeGreaterThan(0);
      if (/\/(log|blobs)\//.test(name) && name !== entryName(LINEAGE, 3)) expect((await problems((objects) => objects.delete(name))).length, name).toBeGreaterThan(0);
    }
  });

  it('says that nothing vouches for the last entry where the register has none of it, and that an entry is missing that it has', async () => {
    const marker = [...whole.keys()].find((name) => name.endsWith('/register/versions/00000000000000000003.json'))!;
    expect(await damaged((objects) => objects.delete(marker))).toMatchObject({ findings: [], head: { version: 3, anchored: false } });
    expect(await problems((objects) => objects.delete(entryName(LINEAGE, 3)))).toEqual([expect.stringMatching(/^register\/versions: version 3 was registered with hash .*, its entry hashes to nothing$/)]);
  });

  it('says what stands where it should not', async () => {
    expect(await problems((objects) => objects.delete(entryName(LINEAGE, 2)))).toContainEqual(expect.stringMatching(/^log\/0{19}3\.json: stands where version 2 is due/));
    expect(await problems((objects) => objects.set(`lineages/${LINEAGE}/notes/a`, new Uint8Array(1)))).toEqual(['notes/a: is no object of a version log']);
  });
});
