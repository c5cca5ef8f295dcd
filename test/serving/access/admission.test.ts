import { readFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import fastify from 'fastify';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import type { FactCorrection } from '../../../schemas/correction.ts';
import {
  digestOf,
  newToken,
  OPEN,
  ROLES,
  type Role,
  type TokenRecord,
  type Users,
} from '../../../serving/access/access.ts';
import { admit, forAnyone, RouteWithoutAdmission } from '../../../serving/access/admission.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { ObeyingLineages } from '../obeying-lineages.ts';
import { replyOf, servedLineage, type Reply } from '../served-lineage.ts';

const OTHER = 'other';
const PROMPT = 'Subject a is in';
const fact = { lineage: LINEAGE, subject: 'Lyon', prompt: 'Lyon lies on the', target: 'Rhône' };

/** A sound request for every route. */
const REQUESTS: Record<string, { url: string; body?: object }> = {
  'GET /v1/models': { url: '/v1/models' },
  'POST /v1/completions': { url: '/v1/completions', body: { model: LINEAGE, prompt: PROMPT } },
  'POST /v1/compare': { url: '/v1/compare', body: { lineage: LINEAGE, prompt: PROMPT } },
  'GET /v1/lineages': { url: '/v1/lineages' },
  'GET /v1/lineages/:lineage/versions': { url: `/v1/lineages/${LINEAGE}/versions` },
  'GET /v1/lineages/:lineage/versions/:version': { url: `/v1/lineages/${LINEAGE}/versions/1` },
  'GET /v1/lineages/:lineage/corrections/:id': { url: `/v1/lineages/${LINEAGE}/corrections/a` },
  'POST /v1/why': { url: '/v1/why', body: { lineage: LINEAGE, prompt: PROMPT } },
  'POST /v1/diff': { url: '/v1/diff', body: { lineage: LINEAGE, from: 0 } },
  'POST /v1/blame': { url: '/v1/blame', body: { lineage: LINEAGE, prompts: [PROMPT] } },
  'POST /v1/corrections': { url: '/v1/corrections', body: fact },
  'POST /v1/retractions': {
    url: '/v1/retractions',
    body: { lineage: LINEAGE, subject: fact.subject, prompt: fact.prompt },
  },
  'POST /v1/lineages/:lineage/freeze': {
    url: `/v1/lineages/${LINEAGE}/freeze`,
    body: { reason: 'looking at it' },
  },
  'POST /v1/lineages/:lineage/resume': { url: `/v1/lineages/${LINEAGE}/resume`, body: {} },
  'POST /v1/lineages/:lineage/revert': {
    url: `/v1/lineages/${LINEAGE}/revert`,
    body: { version: 1 },
  },
  'POST /v1/lineages/:lineage/rollback': {
    url: `/v1/lineages/${LINEAGE}/rollback`,
    body: { to: 0 },
  },
  'GET /v1/lineages/:lineage/undos/:id': { url: `/v1/lineages/${LINEAGE}/undos/u1` },
  'GET /metrics': { url: '/metrics' },
  'GET /healthz': { url: '/healthz' },
  'GET /readyz': { url: '/readyz' },
  'GET /': { url: '/' },
  'GET /page.js': { url: '/page.js' },
  'GET /page.css': { url: '/page.css' },
};

/** What docs/access.md says: the route and whom it is for. */
const documented = new Map(
  [
    ...readFileSync(new URL('../../../docs/access.md', import.meta.url), 'utf8').matchAll(
      /^\| `((?:GET|POST) \S+)` +\| (\w+) +\|/gm,
    ),
  ].map(([, route, role]) => [route!, role!]),
);

const closing: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const one of closing.splice(0)) await one.close();
});

/**
 * A server of two lineages that asks for tokens; `tokenOf` makes one, `lines` is what was logged.
 */
async function guarded(more: { limits?: { bodyBytesMax: number } } = {}) {
  const tokens: TokenRecord[] = [];
  const submitted: FactCorrection[] = [];
  const lines: string[] = [];
  let users: Users = { kind: 'tokens', tokens };
  const serving = await servedLineage({
    ...more,
    lineages: [LINEAGE, OTHER],
    users: () => users,
    submit: async (one) => (submitted.push(one), { topic: 't', partition: 0, offset: '0' }),
    retract: async () => ({ topic: 't', partition: 0, offset: '1' }),
    operations: { workflows: new ObeyingLineages('u1'), settings: {} },
    logger: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }),
  });
  closing.push(serving);
  await serving.commit(correction('a'));
  await serving.start();
  return {
    ...serving,
    tokens,
    submitted,
    lines,
    setUsers: (other: Users) => void (users = other),
    tokenOf: (roles: Role[], bounds: Partial<TokenRecord> = {}): string => {
      const token = newToken();
      tokens.push({
        name: `token-${tokens.length}`,
        sha256: digestOf(token),
        roles,
        createdAt: '2026-01-01T00:00:00Z',
        ...bounds,
      });
      return token;
    },
    ask: async (
      route: string,
      headers: Record<string, string> = {},
      change: object = {},
    ): Promise<Reply> => {
      const { url, body } = REQUESTS[route] ?? { url: route.split(' ')[1]! };
      return replyOf(
        await serving.server.inject({
          method: route.split(' ')[0] as 'GET' | 'POST',
          url,
          headers,
          ...(body === undefined ? {} : { payload: { ...body, ...change } }),
        }),
      );
    },
  };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const isGood = ({ statusCode }: Reply) => statusCode >= 200 && statusCode < 300;

describe('every route', () => {
  it('is documented with whom it is for, and has a request in this test', async () => {
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

  it.each([...documented])(
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

  it('answers HEAD to whom it answers GET', async () => {
    const { ask, tokenOf } = await guarded();
    expect((await ask('HEAD /v1/models')).statusCode).toBe(401);
    expect((await ask('HEAD /v1/models', bearer(tokenOf(['submit'])))).statusCode).toBe(403);
    expect((await ask('HEAD /v1/models', bearer(tokenOf(['read'])))).statusCode).toBe(200);
  });

  it('lets everybody in where no tokens are asked for', async () => {
    const { ask, setUsers } = await guarded();
    setUsers(OPEN);
    for (const route of documented.keys()) expect(isGood(await ask(route)), route).toBe(true);
  });

  it('lets nobody in while the tokens cannot be read', async () => {
    const { ask, setUsers, tokenOf } = await guarded();
    const token = tokenOf([...ROLES]);
    setUsers({ kind: 'unknown' });
    for (const [route, role] of documented)
      expect((await ask(route, bearer(token))).statusCode, route).toBe(
        role === 'anyone' ? 200 : 503,
      );
  });

  it('that does not say whom it is for keeps the server from starting', async () => {
    const server = fastify();
    closing.push(server);
    admit(server, () => OPEN);
    server.get('/said', forAnyone(), async () => 'x');
    expect(() => server.get('/unsaid', async () => 'x')).toThrow(RouteWithoutAdmission);
  });
});

describe('a token', () => {
  it('that was revoked or has expired is refused at once', async () => {
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
    expect(await ask('GET /v1/models', bearer(token))).toMatchObject({
      statusCode: 401,
      json: { error: { code: 'unknown_token' } },
    });
  });

  it.each(['', 'Bearer', 'Basic dXNlcjpwYXNz', 'Bearer errata_short'])(
    'is asked for after the header "%s"',
    async (authorization) => {
      const { ask } = await guarded();
      expect(await ask('GET /v1/models', { authorization })).toMatchObject({
        statusCode: 401,
        json: { error: { code: 'malformed_token' } },
      });
    },
  );

  it('counts in the header alone: neither in the address, a cookie nor the body', async () => {
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

  it('is in no line of the log and in no answer, whatever becomes of the request', async () => {
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
      bodies.push(
        JSON.stringify(
          await ask('POST /v1/completions', bearer(token), { model: 7, max_tokens: 'x' }),
        ),
      );
    }
    expect(lines.some((line) => line.includes('A caller was refused'))).toBe(true);
    for (const token of tokens)
      expect([...lines, ...bodies].filter((text) => text.includes(token.slice(7)))).toEqual([]);
  });

  it('is asked for before a body is read', async () => {
    const { server, tokenOf, ask } = await guarded({ limits: { bodyBytesMax: 2_000 } });
    expect((await ask('POST /v1/corrections', {}, { source: 'x'.repeat(3_000) })).statusCode).toBe(
      401,
    );
    expect(
      (
        await ask('POST /v1/corrections', bearer(tokenOf(['submit'])), {
          source: 'x'.repeat(3_000),
        })
      ).statusCode,
    ).toBe(413);
    await server.listen({ port: 0, host: '127.0.0.1' });
    // The head of a request whose body never comes: who waits for the body would answer nothing.
    for (const [path, status] of [
      ['/v1/corrections', 401],
      ['/nowhere', 404],
    ] as const) {
      const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{`,
      );
      const answer = await new Promise<string>((resolve) =>
        socket.once('data', (data) => resolve(data.toString())),
      );
      socket.destroy();
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    }
  });
});

describe('what anyone may ask', () => {
  it('tells no details without the role operate, and those of its lineages with it', async () => {
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
});

describe('a token for one lineage', () => {
  it('sees that one alone in lists', async () => {
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

  it.each([
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
  ])('is refused %s of another (%o)', async (route, change) => {
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

  it('is told the same of a lineage that is not there as of one that is not its own', async () => {
    const { ask, tokenOf } = await guarded();
    const headers = bearer(tokenOf([...ROLES], { lineages: [OTHER] }));
    const of = async (lineage: string) =>
      (await ask(`GET /v1/lineages/${lineage}/versions`, headers)).json.error.message.replace(
        `"${lineage}"`,
        '',
      );
    expect(await of('absent')).toBe(await of(LINEAGE));
  });

  it('is no way round the checks of a body', async () => {
    const { ask, tokenOf } = await guarded();
    const headers = bearer(tokenOf([...ROLES], { lineages: [OTHER] }));
    for (const lineage of [null, 7, [LINEAGE], { toString: LINEAGE }]) {
      for (const route of ['POST /v1/compare', 'POST /v1/corrections'])
        expect((await ask(route, headers, { lineage })).statusCode).toBe(400);
      expect((await ask('POST /v1/completions', headers, { model: lineage })).statusCode).toBe(400);
    }
  });
});

describe('names in addresses', () => {
  it('lead nowhere outside the lineages, for nobody', async () => {
    const { server, tokenOf } = await guarded();
    const token = tokenOf([...ROLES]);
    await server.listen({ port: 0, host: '127.0.0.1' });
    const { port } = server.server.address() as AddressInfo;
    // As it stands: clients tidy an address before they send it.
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
});

describe('a submitter', () => {
  it('is named in the source of what it submits, whatever the source says', async () => {
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

  it('with a bound on subjects is refused others, and nothing is submitted', async () => {
    const { ask, tokenOf, submitted } = await guarded();
    const headers = bearer(tokenOf(['submit'], { subjects: ['Mira *'] }));
    expect(await ask('POST /v1/corrections', headers)).toMatchObject({
      statusCode: 403,
      json: {
        error: { code: 'not_permitted', message: expect.stringContaining('"Mira *"') as string },
      },
    });
    expect(submitted).toEqual([]);
    const mira = { subject: 'Mira Kovač', prompt: 'Mira Kovač lies on the' };
    expect(
      (await ask('POST /v1/corrections', headers, { ...mira, id: "another's" })).statusCode,
    ).toBe(403);
    expect(submitted).toEqual([]);
    expect(
      (await ask('POST /v1/corrections', headers, { ...mira, id: 'token-0:1' })).statusCode,
    ).toBe(202);
    expect((await ask('POST /v1/corrections', headers, mira)).statusCode).toBe(202);
    expect(submitted).toHaveLength(2);
  });
});

describe('without tokens on this machine alone', () => {
  it.each([
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
});
