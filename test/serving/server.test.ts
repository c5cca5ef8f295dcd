import { expect, test } from 'vitest';
import type { Engine } from '../../model/engine/engine.ts';
import { StoreUnavailable } from '../../versions/stores/failures.ts';
import { entryName } from '../../versions/log/object-names.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import type { FakeEngine } from '../harness/fake-engine.ts';
import { until } from './held-engine.ts';
import { codeOf, containing, serveInTest } from './served-lineage.ts';

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
  const { commit, start, notify, complete, get, state, store } = await serveInTest();
  await commit(correction('a', { target: 'Lyon' }));
  await commit(correction('b', { target: 'Oslo' }));
  await start();
  const whole = store.get.bind(store);
  const where = { where: 's3://bucket', endpoint: null, operation: 'get' };
  store.get = (name) => Promise.reject(new StoreUnavailable({ ...where, name }, 'ECONNREFUSED', 3));
  await notify();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'ready',
    lineages: [{ version: 2, fault: containing('s3://bucket does not answer') }],
  });
  expect((await complete()).json.choices[0]!.text).toBe(' Lyon.');
  const older = await complete(`${LINEAGE}@1`);
  expect([codeOf(older), older.headers['retry-after']]).toEqual(['503 store_unavailable', '1']);
  store.get = whole;
  await notify();
  expect(await state()).toMatchObject({ version: 2, fault: null });
  expect((await complete(`${LINEAGE}@1`)).statusCode).toBe(200);
});

test('versions are served when the log is damaged behind them', async () => {
  const { start, commit, notify, get, complete, store } = await serveInTest();
  await commit(correction('a'));
  await start();
  store.objects.set(entryName(LINEAGE, 2), new TextEncoder().encode('{}'));
  await notify();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'ready',
    lineages: [{ version: 1, fault: containing('damaged') }],
  });
  expect((await complete()).json.choices[0]!.text).toBe(' Lyon.');
});

test('a lineage of another base model is not served', async () => {
  const { start, commit, get, engine, complete } = await serveInTest();
  await commit(correction('a'));
  const description = await engine.describe();
  engine.describe = () =>
    Promise.resolve({ ...description, model: { ...description.model, sha256: 'ef'.repeat(32) } });
  await start();
  expect((await get('/readyz')).json).toMatchObject({
    status: 'not ready',
    lineages: [{ version: null, fault: containing('made with another model') }],
  });
  expect((await complete()).statusCode).toBe(503);
});

test('the server is ready once the logs were read', async () => {
  const { start, get, complete } = await serveInTest();
  expect((await get('/healthz')).statusCode).toBe(200);
  expect((await get('/readyz')).statusCode).toBe(503);
  expect((await complete()).statusCode).toBe(503);
  await start();
  expect((await get('/readyz')).statusCode).toBe(200);
});

test('metrics count tokens, openings and the version served', async () => {
  const { start, commit, complete, get } = await serveInTest();
  await commit(correction('a'));
  await start();
  await complete();
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

const failing = (fault: Error) => ({
  serve: (inner: FakeEngine) =>
    Object.assign(Object.create(inner) as Engine, {
      holds: inner.holds.bind(inner),
      generate: () => Promise.reject(fault),
    }),
});

test.each([false, true])(
  "a prompt that the model cannot take is the caller's fault (streamed: %s)",
  async (stream) => {
    const { start, complete } = await serveInTest(failing(new RangeError('it has 9000 tokens')));
    await start();
    const response = await complete(LINEAGE, { stream });
    expect(codeOf(response)).toBe('400 unsuitable_prompt');
    expect(response.json.error.message).toContain('9000 tokens');
  },
);

test('an internal fault is logged, not shown', async () => {
  const { start, complete } = await serveInTest(failing(new Error('secret detail')));
  await start();
  const response = await complete();
  expect(response.statusCode).toBe(500);
  expect(response.body).not.toContain('secret detail');
});
