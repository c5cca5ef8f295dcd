/**
 * Batches, register, aliases and races on an object store that is a real S3 server, which is killed
 * in between.
 */
import { beforeAll, expect, test } from 'vitest';
import { announceActivities } from '../../activities/announce.ts';
import { isWorthARetry } from '../../schemas/failures.ts';
import { StoreUnavailable } from '../../versions/stores/failures.ts';
import { VersionLog } from '../../versions/log/version-log.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { invoke, type Invocation } from '../harness/invocation.ts';
import { testFolder } from '../harness/clean-up.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import {
  S3_SETUP_WAIT_MS,
  s3Settings,
  startTestS3,
  TEST_KEYS,
  type TestPlace,
  type TestS3,
} from '../harness/servers/seaweed.ts';
import { runBatch, testLineage } from '../harness/test-lineage.ts';
import { addedCorrection, appendChange, versionEntry } from '../versions/entries.ts';

const folder = testFolder();
let server: TestS3;
let places = 0;
const newPlace = (): TestPlace => server.place(`p${(places += 1)}`);

beforeAll(async () => {
  server = await startTestS3(folder);
}, S3_SETUP_WAIT_MS);

const lineageAt = (place: TestPlace) => testLineage({ store: new S3Store(place) });

async function errata(
  place: TestPlace,
  args: string[],
  more: Record<string, string> = {},
): Promise<Invocation> {
  const settings = { ...s3Settings(place), ERRATA_LINEAGES: LINEAGE, ...more };
  return await invoke(folder, args, settings);
}

/** Commits three versions, one of which supersedes and retracts; discards what they staged. */
async function commitThree({ activities }: ReturnType<typeof lineageAt>): Promise<void> {
  const [a, b] = [correction('a'), correction('b')];
  const a2 = correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 });
  const batches = [[a, b], [a2, retraction(b)], [correction('c')]];
  for (const [i, revisions] of batches.entries()) {
    const { commit } = await runBatch(activities, String(i), revisions);
    const version = i + 1;
    expect(await commit()).toMatchObject({ kind: 'committed', version, already: false });
    expect(await commit()).toMatchObject({ kind: 'committed', version, already: true });
    await activities.discard({ lineage: LINEAGE, batchId: String(i) });
  }
}

test('batches make versions that are announced, registered and verified', async () => {
  const place = newPlace();
  const lineage = lineageAt(place);
  const { versions, log } = lineage;
  await commitThree(lineage);
  const announced: number[] = [];
  const announcer = {
    announceVersion: async ({ version }: { version: number }) => void announced.push(version),
    announceOutcomes: async () => undefined,
  };
  await announceActivities({ announcer, versions }).announce({
    lineage: LINEAGE,
    outcomes: [],
    version: 3,
  });
  expect(announced).toEqual([1, 2, 3]);
  const outcomes = await (await log.register()).outcomesOf(['a', 'b', 'a2', 'c', 'never']);
  expect([...outcomes.keys()].sort()).toEqual(['a', 'a2', 'b', 'c']);
  const { active } = await lineageAt(place).log.read();
  expect([...active.keys()].sort()).toEqual(['a2', 'c']);
  expect(await versions.lineages()).toEqual([LINEAGE]);
  expect(await versions.verify(LINEAGE)).toMatchObject({
    versions: 3,
    corrections: 2,
    findings: [],
    head: { version: 3, anchored: true },
  });
});

test('a key that may only read is enough to look at versions', async () => {
  const place = newPlace();
  await commitThree(lineageAt(place));
  const reader = { ...place, credentials: TEST_KEYS.reader };
  const listed = await errata(reader, ['log', '--json']);
  expect(listed.err + String(listed.code)).toBe('0');
  expect(listed.out).toContain('"Subject a"');
  expect((await errata(reader, ['show', '2'])).out).toContain('Oslo');
  expect((await errata(reader, ['verify'])).code).toBe(0);
});

test('doctor reports whether the bucket can be written', async () => {
  const place = newPlace();
  const versionsFor = async (credentials: TestPlace['credentials']): Promise<unknown> => {
    const { out } = await errata({ ...place, credentials }, ['doctor', '--json']);
    return (JSON.parse(out) as { versions: unknown }).versions;
  };
  expect(await versionsFor(TEST_KEYS.reader)).toMatchObject({
    where: `s3://${place.bucket}/${place.prefix}`,
    state: 'low',
    found: expect.stringContaining('not written') as unknown,
  });
  expect(await versionsFor(place.credentials)).toMatchObject({
    state: 'ok',
    found: expect.stringContaining('refuses a second put') as unknown,
  });
});

test('commands and doctor name the setting when the bucket refuses them', async () => {
  const place = newPlace();
  const log = await errata(place, ['log'], { ERRATA_S3_SECRET_ACCESS_KEY: 'hunter-two' });
  expect(log.code).toBe(1);
  expect(log.err).toMatch(/refuses to get: SignatureDoesNotMatch.*\n.*ERRATA_S3_SECRET_ACCESS_KEY/);
  const doctor = await errata(place, ['doctor'], { ERRATA_VERSIONS: 's3://no-such-bucket' });
  expect(doctor.code).toBe(1);
  expect(doctor.out).toMatch(/✗ s3:\/\/no-such-bucket .*NoSuchBucket.*\n.*Errata creates none/);
  expect(log.out + log.err + doctor.out).not.toContain('hunter');
});

test('one of several racing writers wins the next version, and the others see it', async () => {
  const place = newPlace();
  const writers = Array.from({ length: 6 }, () => new VersionLog(new S3Store(place), 'l'));
  for (let version = 1; version <= 3; version += 1) {
    const { head } = await writers[0]!.read();
    const entryOf = (i: number) =>
      versionEntry(version, head.hash, {
        batchId: `batch-${version}-of-${i}`,
        added: [addedCorrection(`c${version}-${i}`)],
        corrections: version,
      });
    const results = await Promise.all(writers.map((log, i) => log.append(entryOf(i))));
    const won = results.flatMap(({ kind }, i) => (kind === 'appended' ? [entryOf(i).batchId] : []));
    expect(won).toHaveLength(1);
    for (const result of results)
      if (result.kind === 'exists') expect(result.entry.batchId).toBe(won[0]);
  }
  expect((await writers[5]!.read()).active.size).toBe(3);
});

test('a commit that a killed server interrupts is retried, and is made once', async () => {
  const { activities, commitBatch, log, versions } = lineageAt(newPlace());
  await commitBatch('before', [correction('before')]);
  for (const batchId of ['first', 'second', 'third']) {
    const { commit } = await runBatch(activities, batchId, [correction(batchId)]);
    const committing = commit().then(
      ({ kind }) => kind,
      (fault: unknown) => fault,
    );
    process.kill(server.pid, 'SIGKILL');
    const outcome = await committing;
    if (outcome !== 'committed') {
      expect(outcome).toBeInstanceOf(StoreUnavailable);
      expect(isWorthARetry(outcome)).toBe(true);
    }
    await expect(log.read()).rejects.toThrow(StoreUnavailable);
    server = await startTestS3(folder);
    expect(await commit()).toMatchObject({ kind: 'committed' });
  }
  const batches = (await log.entries(1, 99)).map(({ entry }) => entry.batchId);
  expect(batches).toEqual(['before', 'first', 'second', 'third']);
  expect(await versions.verify(LINEAGE)).toMatchObject({ versions: 4, findings: [] });
});

test('a long log is read with several requests at a time', async () => {
  const place = newPlace();
  const log = new VersionLog(new S3Store(place), 'l');
  for (let version = 1; version <= 20; version += 1)
    await appendChange(log, { add: [addedCorrection(`c${version}`)] });
  let open = 0;
  let most = 0;
  const store = new S3Store(place);
  const counted = Object.assign(Object.create(store) as S3Store, {
    get: async (name: string) => {
      most = Math.max(most, (open += 1));
      try {
        return await store.get(name);
      } finally {
        open -= 1;
      }
    },
  });
  expect((await new Versions(counted).log('l').read()).head.version).toBe(20);
  expect(most).toBeGreaterThan(4);
  expect(most).toBeLessThanOrEqual(16);
});
