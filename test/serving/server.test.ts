import { expect, test } from 'vitest';
import type { Engine } from '../../model/engine/engine.ts';
import { StoreUnavailable } from '../../versions/stores/failures.ts';
import { entryName } from '../../versions/log/object-names.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { until } from './held-engine.ts';
import { completion, serveInTest } from './served-lineage.ts';

test('a version appears when it is notified, or by the clock', async () => {
  const { start, commit, notify, get } = await serveInTest();
  await start();
  await commit(correction('a'));
  expect((await get('/v1/models')).json.data[0]).toMatchObject({ id: LINEAGE, version: 0 });
  await notify();
  expect((await get('/v1/models')).json.data.map(({ id, version }) => [id, version])).toEqual([
    [LINEAGE, 1],
    [`${LINEAGE}@base`, 0],
  ]);
  const polled = await serveInTest({ limits: { pollEveryMs: 1 } });
  await polled.start();
  await polled.commit(correction('a'));
  await until(async () => (await polled.get('/v1/models')).json.data[0]!.version === 1);
});

test('versions are served while their store is away; what needs it is refused', async () => {
  const { commit, start, notify, post, get, store } = await serveInTest();
  await commit(correction('a', { target: 'Lyon' }));
  await commit(correction('b', { target: 'Oslo' }));
  await start();
  const whole = store.get.bind(store);
  store.get = async (name) =>
    await Promise.reject(
      new StoreUnavailable(
        { where: 's3://bucket', endpoint: null, operation: 'get', name },
        'ECONNREFUSED',
        3,
      ),
    );
  await notify();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'ready',
    lineages: [
      { version: 2, fault: expect.stringMatching(/s3:\/\/bucket does not answer/) as string },
    ],
  });
  expect((await post('/v1/completions', completion(LINEAGE))).json.choices[0]!.text).toBe(' Lyon.');
  const older = await post('/v1/completions', completion(`${LINEAGE}@1`));
  expect([older.statusCode, older.json.error.code, older.headers['retry-after']]).toEqual([
    503,
    'store_unavailable',
    '1',
  ]);
  store.get = whole;
  await notify();
  expect((await get('/readyz')).json).toMatchObject({ lineages: [{ version: 2, fault: null }] });
  expect((await post('/v1/completions', completion(`${LINEAGE}@1`))).statusCode).toBe(200);
});

test('versions are served when the log is damaged behind them', async () => {
  const { start, commit, notify, get, post, store } = await serveInTest();
  await commit(correction('a'));
  await start();
  store.objects.set(entryName(LINEAGE, 2), new TextEncoder().encode('{}'));
  await notify();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'ready',
    lineages: [{ version: 1, fault: expect.stringMatching(/damaged/) as string }],
  });
  expect((await post('/v1/completions', completion(LINEAGE))).json.choices[0]!.text).toBe(' Lyon.');
});

test('a lineage of another base model is not served', async () => {
  const { start, commit, get, engine, post } = await serveInTest();
  await commit(correction('a'));
  const description = await engine.describe();
  engine.describe = () =>
    Promise.resolve({ ...description, model: { ...description.model, sha256: 'ef'.repeat(32) } });
  await start();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'not ready',
    lineages: [
      { version: null, fault: expect.stringMatching(/made with another model/) as string },
    ],
  });
  expect((await post('/v1/completions', completion(LINEAGE))).statusCode).toBe(503);
});

test('the server is ready once the logs were read', async () => {
  const { start, get, post } = await serveInTest();
  expect((await get('/healthz')).statusCode).toBe(200);
  expect((await get('/readyz')).statusCode).toBe(503);
  expect((await post('/v1/completions', completion(LINEAGE))).statusCode).toBe(503);
  await start();
  expect((await get('/readyz')).statusCode).toBe(200);
});

test('metrics count tokens, openings and the version served', async () => {
  const { start, commit, post, get } = await serveInTest();
  await commit(correction('a'));
  await start();
  await post('/v1/completions', completion(LINEAGE));
  const text = (await get('/metrics')).body;
  expect(text).toContain(`errata_head_version{lineage="${LINEAGE}"} 1`);
  expect(text).toContain(`errata_tokens_total{lineage="${LINEAGE}",kind="generated"} 1`);
  expect(text).toContain(`errata_gate_openings_total{lineage="${LINEAGE}"} 1`);
  expect(text).toMatch(/errata_request_seconds_count\{route="\/v1\/completions",status="200"\} 1/);
});

test('the page loads nothing from elsewhere', async () => {
  const { get } = await serveInTest();
  const page = await get('/');
  expect(page.statusCode).toBe(200);
  expect(page.headers['content-security-policy']).toContain("default-src 'self'");
  for (const path of ['/', '/page.js', '/page.css']) {
    const { statusCode, body } = await get(path);
    expect(statusCode).toBe(200);
    expect(body).not.toMatch(/https?:\/\//);
  }
});

test.each([false, true])(
  "a prompt that the model cannot take is the caller's fault (streamed: %s)",
  async (stream) => {
    const { start, post } = await serveInTest({
      serve: (inner) =>
        Object.assign(Object.create(inner) as Engine, {
          holds: inner.holds.bind(inner),
          generate: () => Promise.reject(new RangeError('it has 9000 tokens')),
        }),
    });
    await start();
    const response = await post('/v1/completions', completion(LINEAGE, { stream }));
    expect(response.statusCode).toBe(400);
    expect(response.json.error).toMatchObject({
      code: 'unsuitable_prompt',
      message: expect.stringContaining('9000 tokens') as string,
    });
  },
);

test('an internal fault is logged, not shown', async () => {
  const { start, post } = await serveInTest({
    serve: (inner) =>
      Object.assign(Object.create(inner) as Engine, {
        holds: inner.holds.bind(inner),
        generate: () => Promise.reject(new Error('secret detail')),
      }),
  });
  await start();
  const response = await post('/v1/completions', completion(LINEAGE));
  expect(response.statusCode).toBe(500);
  expect(response.body).not.toContain('secret detail');
});
