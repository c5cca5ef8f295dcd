import { readFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { newToken, OPEN, ROLES } from '../../../serving/access/access.ts';
import { admit, forAnyone, RouteWithoutAdmission } from '../../../serving/access/admission.ts';
import { bearer, guarded, isGood, OTHER, REQUESTS } from './guarded.ts';
import { codeOf, rawPost } from '../served-lineage.ts';

/** The roles of the routes, as docs/access.md has them. */
const documented = new Map(
  [
    ...readFileSync(new URL('../../../docs/access.md', import.meta.url), 'utf8').matchAll(
      /^\| `((?:GET|POST) \S+)` +\| (\w+) +\|/gm,
    ),
  ].map(([, route, role]) => [route!, role!]),
);

test('every route is documented with its role and has a request in this test', async () => {
  const { routes } = await guarded();
  const declared = routes
    .filter(({ method }) => method !== 'HEAD')
    .map(({ method, url, admission }): [string, string] => [
      `${method} ${url}`,
      admission === 'anyone' ? admission : admission.role,
    ]);
  expect(new Map(declared)).toEqual(documented);
  expect(Object.keys(REQUESTS).sort()).toEqual([...documented.keys()].sort());
});

test.each([...documented])(
  '%s lets in who has the role %s, and nobody else',
  async (route, role) => {
    const { ask, tokenOf } = await guarded();
    const stranger = await ask(route);
    expect(stranger.statusCode).toBe(role === 'anyone' ? 200 : 401);
    if (role !== 'anyone')
      expect(stranger.headers['www-authenticate']).toBe('Bearer realm="errata"');
    for (const one of ROLES) {
      const reply = await ask(route, bearer(tokenOf([one])));
      expect(
        role === 'anyone' || one === role ? isGood(reply) : reply.statusCode === 403,
        `${one}: ${reply.statusCode}`,
      ).toBe(true);
      const others = await ask(route, bearer(tokenOf(ROLES.filter((other) => other !== one))));
      expect(
        role === 'anyone' || one !== role ? isGood(others) : others.statusCode === 403,
        `all but ${one}: ${others.statusCode}`,
      ).toBe(true);
    }
    expect(isGood(await ask(route, bearer(tokenOf([...ROLES]))))).toBe(true);
    expect(isGood(await ask(route, bearer(newToken())))).toBe(role === 'anyone');
  },
);

test('every route answers HEAD to those to whom it answers GET', async () => {
  const { ask, tokenOf } = await guarded();
  expect((await ask('HEAD /v1/models')).statusCode).toBe(401);
  expect((await ask('HEAD /v1/models', bearer(tokenOf(['submit'])))).statusCode).toBe(403);
  expect((await ask('HEAD /v1/models', bearer(tokenOf(['read'])))).statusCode).toBe(200);
});

test('every route admits everybody where no tokens are required', async () => {
  const { ask, setUsers } = await guarded();
  setUsers(OPEN);
  for (const route of documented.keys()) expect(isGood(await ask(route)), route).toBe(true);
});

test('every guarded route admits nobody while the tokens cannot be read', async () => {
  const { ask, setUsers, tokenOf } = await guarded();
  const token = tokenOf([...ROLES]);
  setUsers({ kind: 'unknown' });
  for (const [route, role] of documented)
    expect((await ask(route, bearer(token))).statusCode, route).toBe(role === 'anyone' ? 200 : 503);
});

test('a route that does not declare who may use it keeps the server from starting', async () => {
  const server = fastify();
  onTestFinished(() => server.close());
  admit(server, () => OPEN);
  server.get('/declared', forAnyone(), async () => 'x');
  expect(() => server.get('/undeclared', async () => 'x')).toThrow(RouteWithoutAdmission);
});

test('a token that was revoked or expired is refused at once', async () => {
  const { ask, tokenOf, tokens } = await guarded();
  const token = tokenOf(['read']);
  expect((await ask('GET /v1/models', bearer(token))).statusCode).toBe(200);
  tokens[0] = { ...tokens[0]!, expiresAt: '2026-01-02T00:00:00Z' };
  expect(await ask('GET /v1/models', bearer(token))).toMatchObject({
    statusCode: 401,
    json: { error: { code: 'expired_token', type: 'authentication_error' } },
    headers: { 'www-authenticate': 'Bearer realm="errata", error="invalid_token"' },
  });
  tokens.length = 0;
  expect(codeOf(await ask('GET /v1/models', bearer(token)))).toBe('401 unknown_token');
});

test.each(['', 'Bearer', 'Basic dXNlcjpwYXNz', 'Bearer errata_short'])(
  'a token is asked for after the header "%s"',
  async (authorization) => {
    const { ask } = await guarded();
    expect(codeOf(await ask('GET /v1/models', { authorization }))).toBe('401 malformed_token');
  },
);

test('a token counts only in the header, not in the URL, a cookie or the body', async () => {
  const { ask, tokenOf } = await guarded();
  const token = tokenOf([...ROLES]);
  for (const name of ['token', 'access_token', 'api_key', 'key'])
    expect((await ask(`GET /v1/models?${name}=${token}`)).statusCode).toBe(401);
  for (const headers of [
    { cookie: `token=${token}` },
    { 'x-api-key': token },
    { 'proxy-authorization': `Bearer ${token}` },
  ])
    expect((await ask('GET /v1/models', headers as Record<string, string>)).statusCode).toBe(401);
  expect((await ask('POST /v1/corrections', {}, { access_token: token })).statusCode).toBe(401);
});

test('a token appears in no log line and no answer', async () => {
  const { ask, tokenOf, lines } = await guarded();
  const tokens = [
    newToken(),
    tokenOf(['read']),
    tokenOf(['submit', 'operate'], { expiresAt: '2026-01-02T00:00:00Z' }),
    tokenOf([...ROLES], { lineages: [OTHER] }),
  ];
  const bodies: string[] = [];
  for (const token of tokens) {
    for (const route of [...documented.keys(), 'GET /nowhere', 'GET /%zz'])
      bodies.push(JSON.stringify(await ask(route, bearer(token))));
    const refused = await ask('POST /v1/completions', bearer(token), { model: 7, max_tokens: 'x' });
    bodies.push(JSON.stringify(refused));
  }
  expect(lines.some((line) => line.includes('A caller was refused'))).toBe(true);
  for (const token of tokens)
    expect([...lines, ...bodies].filter((text) => text.includes(token.slice(7)))).toEqual([]);
});

test('a token is required before a body is read', async () => {
  const { server, tokenOf, ask } = await guarded({ limits: { bodyBytesMax: 2_000 } });
  const long = { source: 'x'.repeat(3_000) };
  const submitter = bearer(tokenOf(['submit']));
  expect((await ask('POST /v1/corrections', {}, long)).statusCode).toBe(401);
  expect((await ask('POST /v1/corrections', submitter, long)).statusCode).toBe(413);
  await server.listen({ port: 0, host: '127.0.0.1' });
  // The body of this request never arrives, so waiting for it would give no answer.
  for (const [path, status] of [
    ['/v1/corrections', 401],
    ['/nowhere', 404],
  ] as const) {
    const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
    socket.write(rawPost(path, ['content-type: application/json', 'content-length: 1000'], '{'));
    const answer = await new Promise<string>((resolve) =>
      socket.once('data', (data) => resolve(data.toString())),
    );
    socket.destroy();
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  }
});
