/** Tests the store in a bucket on a real server, and behind servers that fail on purpose. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { isWorthARetry } from '../../../schemas/failures.ts';
import { StoreRefused, StoreUnavailable, StoreUnfit } from '../../../versions/stores/failures.ts';
import { namesUnder, OBJECT_BYTES_MAX } from '../../../versions/stores/object-store.ts';
import { S3Store } from '../../../versions/stores/s3-store.ts';
import { S3_LIMITS, type S3Place } from '../../../versions/stores/s3-connection.ts';
import { Authority } from '../../harness/servers/certificates.ts';
import {
  S3_SETUP_WAIT_MS,
  startTestS3,
  TEST_BUCKET,
  TEST_KEYS,
  type TestS3,
} from '../../harness/servers/seaweed.ts';
import { conformsToObjectStore } from './object-store-conformance.ts';
import {
  closeServers,
  forwarded,
  inFront,
  isPutOf,
  lookAlike,
  refuse,
  served,
} from './s3-faults.ts';

const folder = mkdtempSync(join(tmpdir(), 'errata-s3-'));
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array | null) =>
  content === null ? null : new TextDecoder().decode(content);
const faultOf = async (work: Promise<unknown>): Promise<unknown> =>
  await work.then(
    () => null,
    (fault: unknown) => fault,
  );

let server: TestS3;
let places = 0;
const newPlace = () => server.place(`t${(places += 1)}/versions`);

beforeAll(async () => {
  server = await startTestS3(folder);
}, S3_SETUP_WAIT_MS);

afterEach(closeServers);

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

conformsToObjectStore('S3Store', async () => new S3Store(newPlace()));

it('S3Store keeps to its prefix', async () => {
  const { prefix, ...place } = newPlace();
  const [own, longer, whole] = [
    new S3Store({ ...place, prefix }),
    new S3Store({ ...place, prefix: `${prefix}x` }),
    new S3Store({ ...place, prefix: '' }),
  ];
  await own.putIfAbsent('a/1', bytes('own'));
  expect(await longer.putIfAbsent('a/1', bytes('longer'))).toBe('stored');
  expect(await namesUnder(own, '')).toEqual(['a/1']);
  expect(text(await longer.get('a/1'))).toBe('longer');
  expect(await namesUnder(whole, prefix)).toEqual([
    `${prefix}/.errata/put-if-absent`,
    `${prefix}/a/1`,
    `${prefix}x/.errata/put-if-absent`,
    `${prefix}x/a/1`,
  ]);
});

it('S3Store reports exactly one put as stored, although its answer was lost', async () => {
  const place = newPlace();
  const direct = new S3Store(place);
  await direct.putIfAbsent('before', bytes('0'));
  const lossy = await inFront(server.url, async (incoming, response, forward) => {
    if (!isPutOf('log/1', incoming) || lossy.seen > 0) return await forward();
    lossy.seen += 1;
    await forward({ answered: () => response.socket!.destroy() });
  });
  const results = await Promise.all([
    new S3Store({ ...place, endpoint: lossy.url }).putIfAbsent('log/1', bytes('mine')),
    new S3Store(place).putIfAbsent('log/1', bytes('theirs')),
  ]);
  expect([...results].sort()).toEqual(['exists', 'stored']);
  expect(text(await direct.get('log/1'))).toBe(results[0] === 'stored' ? 'mine' : 'theirs');
  expect(lossy.seen).toBe(1);
});

it('S3Store does not claim an object that another wrote while its answer was lost', async () => {
  const place = newPlace();
  const direct = new S3Store(place);
  const lossy = await inFront(server.url, async (incoming, response, forward) => {
    if (!isPutOf('log/1', incoming) || lossy.seen > 0) return await forward();
    lossy.seen += 1;
    await direct.putIfAbsent('log/1', bytes('the same'));
    response.socket!.destroy();
  });
  expect(
    await new S3Store({ ...place, endpoint: lossy.url }).putIfAbsent('log/1', bytes('the same')),
  ).toBe('exists');
  expect(lossy.seen).toBe(1);
});

it('S3Store tries again after a conflict, and when the server is busy', async () => {
  const place = newPlace();
  await new S3Store(place).putIfAbsent('before', bytes('0'));
  const answers = [
    [409, 'ConditionalRequestConflict'],
    [409, 'ConditionalRequestConflict'],
    [409, 'OperationAborted'],
    [409, 'ConditionalRequestConflict'],
    [503, 'SlowDown'],
    [500, 'InternalError'],
  ] as const;
  const busy = await inFront(server.url, async (incoming, response, forward) => {
    const answer = isPutOf('log/1', incoming) ? answers[busy.seen] : undefined;
    if (answer === undefined) return await forward();
    busy.seen += 1;
    refuse(response, answer[0], answer[1]);
  });
  expect(
    await new S3Store({ ...place, endpoint: busy.url }).putIfAbsent('log/1', bytes('mine')),
  ).toBe('stored');
  expect(busy.seen).toBe(answers.length);
});

it('S3Store gives up after so many conflicts, and that is worth a retry', async () => {
  const place = newPlace();
  await new S3Store(place).putIfAbsent('before', bytes('0'));
  const busy = await inFront(server.url, async (incoming, response, forward) => {
    if (!isPutOf('log/1', incoming)) return await forward();
    busy.seen += 1;
    refuse(response, 409, 'ConditionalRequestConflict');
  });
  const fault = await faultOf(
    new S3Store({ ...place, endpoint: busy.url }).putIfAbsent('log/1', bytes('mine')),
  );
  expect(fault).toBeInstanceOf(StoreUnavailable);
  expect(isWorthARetry(fault)).toBe(true);
  expect(busy.seen).toBe(S3_LIMITS.conflictsMax);
});

it('S3Store reads again after a truncated answer', async () => {
  const place = newPlace();
  const content = bytes('x'.repeat(100_000));
  await new S3Store(place).putIfAbsent('blobs/1', content);
  const cutting = await inFront(server.url, async (incoming, response, forward) => {
    if (incoming.method !== 'GET' || cutting.seen > 0) return await forward();
    cutting.seen += 1;
    response.writeHead(200, { 'content-length': content.byteLength });
    response.write(content.slice(0, 70_000), () => response.socket!.destroy());
  });
  expect((await new S3Store({ ...place, endpoint: cutting.url }).get('blobs/1'))?.byteLength).toBe(
    content.byteLength,
  );
  expect(cutting.seen).toBe(1);
});

it('S3Store does not read an object over the bound', async () => {
  const { url } = await served((_, response) => {
    response.writeHead(200, { 'content-length': OBJECT_BYTES_MAX + 1 });
    response.write('the first of many');
  });
  await expect(new S3Store({ ...newPlace(), endpoint: url }).get('large')).rejects.toThrow(
    RangeError,
  );
});

it('S3Store is unavailable where nobody answers, and that is worth a retry', async () => {
  const { url } = await served(() => undefined);
  closeServers();
  const store = new S3Store({ ...newPlace(), endpoint: url });
  for (const work of [
    () => store.get('a'),
    () => store.putIfAbsent('a', bytes('a')),
    () => store.delete('a'),
    () => namesUnder(store, ''),
  ]) {
    const fault = await faultOf(work());
    expect(fault).toBeInstanceOf(StoreUnavailable);
    expect(isWorthARetry(fault)).toBe(true);
    expect((fault as StoreUnavailable).message).toContain('ECONNREFUSED');
    expect((fault as StoreUnavailable).facts).toMatchObject({
      endpoint: url,
      attempts: S3_LIMITS.attemptsMax,
    });
    expect((fault as StoreUnavailable).hint).toContain('ERRATA_S3_ENDPOINT');
  }
});

it.each<[string, Partial<S3Place>, string, RegExp]>([
  [
    'a secret that is wrong',
    { credentials: { ...TEST_KEYS.writer, secretAccessKey: 'hunter-two' } },
    'SignatureDoesNotMatch',
    /ERRATA_S3_SECRET_ACCESS_KEY/,
  ],
  [
    'an unknown key',
    { credentials: { accessKeyId: 'nobody', secretAccessKey: 'hunter-two' } },
    'InvalidAccessKeyId',
    /ERRATA_S3_ACCESS_KEY_ID/,
  ],
  [
    'a bucket that is not there',
    { bucket: 'not-there' },
    'NoSuchBucket',
    /ERRATA_VERSIONS names a bucket that does not exist/,
  ],
])(
  'S3Store is refused every call with %s, and names the setting to check',
  async (_, wrong, code, hint) => {
    const store = new S3Store({ ...newPlace(), ...wrong });
    for (const work of [
      () => store.get('lineages/l/log/1.json'),
      () => store.putIfAbsent('a', bytes('a')),
      () => namesUnder(store, ''),
    ]) {
      const fault = await faultOf(work());
      expect(fault).toBeInstanceOf(StoreRefused);
      expect((fault as StoreRefused).facts['code']).toBe(code);
      expect((fault as StoreRefused).hint).toMatch(hint);
      expect(isWorthARetry(fault)).toBe(true);
      expect(
        JSON.stringify([(fault as StoreRefused).facts, (fault as StoreRefused).message]),
      ).not.toContain('hunter');
    }
  },
);

it('S3Store does not take the 404 of something else for an absent object', async () => {
  const { url } = await served(
    (_, response) =>
      void response.writeHead(404, { 'content-type': 'text/html' }).end('<html>Not found</html>'),
  );
  expect(await faultOf(new S3Store({ ...newPlace(), endpoint: url }).get('a'))).toBeInstanceOf(
    StoreRefused,
  );
});

it('S3Store talks TLS to a server of the configured authority, and to no other', async () => {
  const authority = new Authority('the authority of the test');
  const { certificate, key } = authority.certify('localhost');
  const secured = await served(
    (incoming, response) =>
      void forwarded(server.url, incoming, response).catch(() => response.destroy()),
    { cert: certificate, key },
  );
  const place = { ...newPlace(), endpoint: secured.url };
  expect(
    await new S3Store({ ...place, ca: authority.certificate }).putIfAbsent('a', bytes('a')),
  ).toBe('stored');
  const fault = await faultOf(new S3Store(place).get('a'));
  expect(fault).toBeInstanceOf(StoreUnavailable);
  expect((fault as StoreUnavailable).hint).toContain('ERRATA_S3_CA');
});

it('S3Store reads with a key that may only read, and its writes are refused', async () => {
  const place = newPlace();
  await new S3Store(place).putIfAbsent('a', bytes('a'));
  const store = new S3Store({ ...place, credentials: TEST_KEYS.reader });
  expect(text(await store.get('a'))).toBe('a');
  expect(await store.get('b')).toBeNull();
  expect(await namesUnder(store, '')).toEqual(['a']);
  const fault = await faultOf(store.putIfAbsent('b', bytes('b')));
  expect(fault).toBeInstanceOf(StoreRefused);
  expect((fault as StoreRefused).hint).toContain('docs/security.md');
});

it("S3Store takes the SDK's own credentials where none are set", async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', TEST_KEYS.writer.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', TEST_KEYS.writer.secretAccessKey);
  expect(await new S3Store({ ...newPlace(), credentials: null }).putIfAbsent('a', bytes('a'))).toBe(
    'stored',
  );
  vi.unstubAllEnvs();
});

it('S3Store writes nothing to a server that overwrites, always or concurrently', async () => {
  for (const racing of [false, true]) {
    const place = newPlace();
    const unfit = await lookAlike(racing);
    const store = new S3Store({ ...place, endpoint: unfit.url });
    const fault = await faultOf(store.putIfAbsent('log/1', bytes('mine')));
    expect(fault).toBeInstanceOf(StoreUnfit);
    expect(isWorthARetry(fault)).toBe(false);
    expect((fault as StoreUnfit).hint).toContain('If-None-Match');
    // The second put fails as well.
    if (!racing)
      expect(await faultOf(store.putIfAbsent('log/1', bytes('mine')))).toBeInstanceOf(StoreUnfit);
    expect([...unfit.objects.keys()]).toEqual([
      `/${TEST_BUCKET}/${place.prefix}/.errata/put-if-absent`,
    ]);
  }
});

it('S3Store tests the server once', async () => {
  const place = newPlace();
  const counting = await inFront(server.url, async (incoming, _, forward) => {
    if (incoming.url!.includes('.errata')) counting.seen += 1;
    await forward();
  });
  const store = new S3Store({ ...place, endpoint: counting.url });
  await Promise.all(['a', 'b', 'c'].map((name) => store.putIfAbsent(name, bytes(name))));
  const first = counting.seen;
  await store.putIfAbsent('d', bytes('d'));
  expect(counting.seen).toBe(first);
  await new S3Store({ ...place, endpoint: counting.url }).putIfAbsent('e', bytes('e'));
  // The test object exists: it is read, and a put of it is refused once more.
  expect(counting.seen).toBe(first + 2);
});
