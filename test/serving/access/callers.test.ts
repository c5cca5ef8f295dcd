import { connect, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { newToken, OPEN, ROLES } from '../../../serving/access/access.ts';
import { LINEAGE } from '../../harness/corrections.ts';
import { codeOf } from '../served-lineage.ts';
import { bearer, guarded, isGood, OTHER } from './guarded.ts';

test('readiness shows details only to the role operate, and only of its lineages', async () => {
  const { ask, tokenOf } = await guarded();
  for (const headers of [{}, bearer(newToken()), bearer(tokenOf(['read', 'submit']))])
    expect((await ask('GET /readyz', headers as Record<string, string>)).json).toEqual({
      status: 'ready',
    });
  expect((await ask('GET /healthz')).json).toEqual({ status: 'ok' });
  expect((await ask('GET /readyz', bearer(tokenOf(['operate'])))).json).toMatchObject({
    status: 'ready',
    lineages: [{ lineage: LINEAGE, version: 1 }, { lineage: OTHER }],
    waiting: 0,
  });
  expect(
    (await ask('GET /readyz', bearer(tokenOf(['operate'], { lineages: [OTHER] })))).json,
  ).toMatchObject({ lineages: [{ lineage: OTHER }] });
});

test('a token for one lineage sees only that lineage in lists', async () => {
  const { ask, tokenOf } = await guarded();
  const headers = bearer(tokenOf(['read'], { lineages: [OTHER] }));
  expect((await ask('GET /v1/models', headers)).json.data.map(({ id }) => id)).toEqual([
    OTHER,
    `${OTHER}@base`,
  ]);
  expect((await ask('GET /v1/lineages', headers)).json).toMatchObject({
    lineages: [{ lineage: OTHER }],
  });
});

test.each([
  ['POST /v1/completions', { model: LINEAGE }],
  ['POST /v1/completions', { model: `${LINEAGE}@base` }],
  ['POST /v1/completions', { model: `${LINEAGE}@1`, stream: true }],
  ['POST /v1/compare', {}],
  ['POST /v1/corrections', {}],
  ['POST /v1/retractions', {}],
  ['POST /v1/lineages/:lineage/freeze', {}],
  ['POST /v1/lineages/:lineage/resume', {}],
  ['POST /v1/lineages/:lineage/revert', {}],
  ['POST /v1/lineages/:lineage/rollback', {}],
  ['GET /v1/lineages/:lineage/undos/:id', {}],
  ['GET /v1/lineages/:lineage/versions', {}],
  ['GET /v1/lineages/:lineage/versions/:version', {}],
  ['GET /metrics', {}],
])('a token for one lineage is refused %s of another (%o)', async (route, change) => {
  const { ask, tokenOf, submitted } = await guarded();
  const reply = await ask(route, bearer(tokenOf([...ROLES], { lineages: [OTHER] })), change);
  expect(reply).toMatchObject({
    statusCode: 403,
    json: { error: { code: 'not_permitted', type: 'permission_error' } },
  });
  expect(submitted).toEqual([]);
  expect(
    isGood(await ask(route, bearer(tokenOf([...ROLES], { lineages: [OTHER, LINEAGE] })), change)),
  ).toBe(route !== 'GET /metrics');
});

test('a missing lineage is refused like one that the token is not for', async () => {
  const { ask, tokenOf } = await guarded();
  const headers = bearer(tokenOf([...ROLES], { lineages: [OTHER] }));
  const messageFor = async (lineage: string) => {
    const { error } = (await ask(`GET /v1/lineages/${lineage}/versions`, headers)).json;
    return error.message.replace(`"${lineage}"`, '');
  };
  expect(await messageFor('absent')).toBe(await messageFor(LINEAGE));
});

test('a token for one lineage does not avoid the checks of a body', async () => {
  const { ask, tokenOf } = await guarded();
  const headers = bearer(tokenOf([...ROLES], { lineages: [OTHER] }));
  for (const lineage of [null, 7, [LINEAGE], { toString: LINEAGE }]) {
    for (const route of ['POST /v1/compare', 'POST /v1/corrections'])
      expect((await ask(route, headers, { lineage })).statusCode).toBe(400);
    expect((await ask('POST /v1/completions', headers, { model: lineage })).statusCode).toBe(400);
  }
});

test('names in URLs lead nowhere outside the lineages', async () => {
  const { server, tokenOf } = await guarded();
  const token = tokenOf([...ROLES]);
  await server.listen({ port: 0, host: '127.0.0.1' });
  const { port } = server.server.address() as AddressInfo;
  // Over a socket, since clients normalise an address before they send it.
  const statusOf = (path: string, header: string) =>
    new Promise<number>((resolve, reject) => {
      let answer = '';
      const socket = connect(port, '127.0.0.1', () =>
        socket.write(
          `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${header}\r\n`,
        ),
      );
      socket
        .on('data', (data) => (answer += data.toString()))
        .on('error', reject)
        .on('close', () => resolve(Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1])));
    });
  for (const name of [
    '..',
    '%2e%2e',
    '../..',
    '..%2f..%2fetc%2fpasswd',
    '..%5c..',
    '.tmp',
    'a%00b',
    `${LINEAGE}%2f..%2f${OTHER}`,
    `..%2f${LINEAGE}`,
    '%2fetc',
    'x'.repeat(300),
  ]) {
    for (const path of [
      `/v1/lineages/${name}/versions`,
      `/v1/lineages/${name}/versions/1`,
      `/v1/lineages/${LINEAGE}/versions/${name}`,
      `/page/${name}`,
      `/${name}/page.js`,
      `/../${name}`,
    ]) {
      expect([400, 404, 414], path).toContain(
        await statusOf(path, `authorization: Bearer ${token}\r\n`),
      );
      expect([400, 401, 404, 414], path).toContain(await statusOf(path, ''));
    }
  }
});

test('the source of a correction names its submitter, whatever it says', async () => {
  const { ask, tokenOf, submitted, setUsers } = await guarded();
  const token = tokenOf(['submit']);
  await ask('POST /v1/corrections', bearer(token), { source: 'boss: a memo' });
  await ask('POST /v1/corrections', bearer(token));
  setUsers(OPEN);
  await ask('POST /v1/corrections');
  expect(submitted.map(({ source }) => source)).toEqual([
    'token-0: boss: a memo',
    'token-0: http',
    'http',
  ]);
});

test('a submitter with a bound on subjects is refused others', async () => {
  const { ask, tokenOf, submitted } = await guarded();
  const headers = bearer(tokenOf(['submit'], { subjects: ['Mira *'] }));
  const submit = (change: object) => ask('POST /v1/corrections', headers, change);
  const refused = await submit({});
  expect(codeOf(refused)).toBe('403 not_permitted');
  expect(refused.json.error.message).toContain('"Mira *"');
  const mira = { subject: 'Mira Kovač', prompt: 'Mira Kovač lies on the' };
  expect((await submit({ ...mira, id: "another's" })).statusCode).toBe(403);
  expect(submitted).toEqual([]);
  expect((await submit({ ...mira, id: 'token-0:1' })).statusCode).toBe(202);
  expect((await submit(mira)).statusCode).toBe(202);
  expect(submitted).toHaveLength(2);
});

test.each([
  ['localhost:8080', 200],
  ['127.0.0.1:8080', 200],
  ['[::1]:8080', 200],
  ['evil.example:8080', 403],
  ['127.0.0.1.evil.example', 403],
  ['0.0.0.0:8080', 403],
])('a request to the host %s is answered with %d', async (host, status) => {
  const { ask, setUsers } = await guarded();
  setUsers({ kind: 'open', hosts: 'loopback' });
  expect((await ask('GET /v1/models', { host })).statusCode).toBe(status);
  expect(Object.keys((await ask('GET /readyz', { host })).json)).toEqual(
    status === 200 ? ['status', 'lineages', 'waiting'] : ['status'],
  );
  setUsers(OPEN);
  expect((await ask('GET /v1/models', { host })).statusCode).toBe(200);
});
