/**
 * Everything that stands on the object store, on a real S3 server: batches, register, aliases,
 * races, and a server that is killed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { announceActivities } from '../../activities/announce.ts';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { isWorthARetry } from '../../schemas/failures.ts';
import { StoreUnavailable } from '../../versions/stores/failures.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import type { S3Place } from '../../versions/stores/s3-connection.ts';
import { VersionLog } from '../../versions/log/version-log.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { invoke, type Invocation } from '../cli/invocation.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import {
  S3_SETUP_WAIT_MS,
  startTestS3,
  TEST_KEYS,
  type TestS3,
} from '../harness/servers/seaweed.ts';
import { addedCorrection, appendChange, versionEntry } from '../versions/entries.ts';

const folder = mkdtempSync(join(tmpdir(), 'errata-versions-on-s3-'));
let server: TestS3;
let places = 0;
const newPlace = () => server.place(`p${(places += 1)}`);

beforeAll(async () => {
  server = await startTestS3(folder);
}, S3_SETUP_WAIT_MS);

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

function at(place: S3Place) {
  const versions = new Versions(new S3Store(place));
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  const announced: number[] = [];
  const announcing = announceActivities({
    announcer: {
      announceVersion: async ({ version }) => void announced.push(version),
      announceOutcomes: async () => undefined,
    },
    versions,
  });
  return { versions, log: versions.log(LINEAGE), activities, announcing, announced };
}

async function errata(
  place: S3Place,
  args: string[],
  more: NodeJS.ProcessEnv = {},
): Promise<Invocation> {
  return await invoke(folder, args, {
    ERRATA_VERSIONS: `s3://${place.bucket}/${place.prefix}`,
    ERRATA_S3_ENDPOINT: place.endpoint!,
    ERRATA_S3_ACCESS_KEY_ID: place.credentials!.accessKeyId,
    ERRATA_S3_SECRET_ACCESS_KEY: place.credentials!.secretAccessKey,
    ERRATA_LINEAGES: LINEAGE,
    ...more,
  });
}

describe('versions on S3', () => {
  it('are made by batches, announced, discarded of what was staged, found sound, and looked at with a key that may only read', async () => {
    const place = newPlace();
    const { versions, log, activities, announcing, announced } = at(place);
    const [a, b] = [correction('a'), correction('b')];
    for (const [i, revisions] of [
      [a, b],
      [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }), retraction(b)],
      [correction('c')],
    ].entries()) {
      const { commit } = await runBatch(activities, String(i), revisions);
      const first = await commit();
      expect(first).toMatchObject({ kind: 'committed', version: i + 1, already: false });
      expect(await commit()).toMatchObject({ kind: 'committed', version: i + 1, already: true });
      await activities.discard({ lineage: LINEAGE, batchId: String(i) });
    }
    await announcing.announce({ lineage: LINEAGE, outcomes: [], version: 3 });
    expect(announced).toEqual([1, 2, 3]);
    expect(
      [...(await (await log.register()).outcomesOf(['a', 'b', 'a2', 'c', 'never'])).keys()].sort(),
    ).toEqual(['a', 'a2', 'b', 'c']);
    expect(
      [...(await new Versions(new S3Store(place)).log(LINEAGE).read()).active.keys()].sort(),
    ).toEqual(['a2', 'c']);
    expect(await versions.lineages()).toEqual([LINEAGE]);
    expect(await versions.verify(LINEAGE)).toMatchObject({
      versions: 3,
      corrections: 2,
      findings: [],
      head: { version: 3, anchored: true },
    });

    const reader = { ...place, credentials: TEST_KEYS.reader };
    const listed = await errata(reader, ['log', '--json']);
    expect(listed.err + String(listed.code)).toBe('0');
    expect(listed.out).toContain('"Subject a"');
    expect((await errata(reader, ['show', '2'])).out).toContain('Oslo');
    expect((await errata(reader, ['verify'])).code).toBe(0);
    const doctor = JSON.parse((await errata(reader, ['doctor', '--json'])).out) as {
      versions: unknown;
      protection: { of: string }[];
    };
    expect(doctor.versions).toMatchObject({
      where: `s3://${place.bucket}/${place.prefix}`,
      state: 'low',
      found: expect.stringContaining('not written') as unknown,
    });
    expect(JSON.parse((await errata(place, ['doctor', '--json'])).out)).toMatchObject({
      versions: { state: 'ok', found: expect.stringContaining('refuses a second put') as unknown },
    });
  });

  it('are refused in the words of the settings, by commands and by doctor', async () => {
    const place = newPlace();
    const wrong = { ERRATA_S3_SECRET_ACCESS_KEY: 'hunter-two' };
    const log = await errata(place, ['log'], wrong);
    expect(log.code).toBe(1);
    expect(log.err).toMatch(
      /refuses to get: SignatureDoesNotMatch.*\n.*ERRATA_S3_SECRET_ACCESS_KEY/,
    );
    const doctor = await errata(place, ['doctor'], { ERRATA_VERSIONS: 's3://no-such-bucket' });
    expect(doctor.code).toBe(1);
    expect(doctor.out).toMatch(/✗ s3:\/\/no-such-bucket .*NoSuchBucket.*\n.*Errata makes none/);
    expect(log.out + log.err + doctor.out).not.toContain('hunter');
  });

  it('have one winner where writers race for the next version, and the others see it', async () => {
    const place = newPlace();
    const writers = Array.from({ length: 6 }, () => new VersionLog(new S3Store(place), 'l'));
    for (let version = 1; version <= 3; version += 1) {
      const { head } = await writers[0]!.read();
      const results = await Promise.all(
        writers.map(
          async (log, i) =>
            await log.append(
              versionEntry(version, head.hash, {
                batchId: `batch-${version}-of-${i}`,
                added: [addedCorrection(`c${version}-${i}`)],
                corrections: version,
              }),
            ),
        ),
      );
      const won = results.flatMap((result, i) =>
        result.kind === 'appended' ? [`batch-${version}-of-${i}`] : [],
      );
      expect(won).toHaveLength(1);
      for (const result of results)
        if (result.kind === 'exists') expect(result.entry.batchId).toBe(won[0]);
    }
    expect((await writers[5]!.read()).active.size).toBe(3);
  });

  it('lose nothing and double nothing where the server is killed in the middle of a commit: what fails is worth a retry, and the retry finds what was written', async () => {
    const place = newPlace();
    const { activities, log, versions } = at(place);
    await (await runBatch(activities, 'before', [correction('before')])).commit();
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

  it('are read side by side, so that a long log is read and verified in few of its answers’ times', async () => {
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
    expect((await new VersionLog(counted, 'l').read()).head.version).toBe(20);
    expect(most).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(16);
  });
});
