import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EXIT } from '../../cli/terminal/exit-code.ts';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { knownUsers } from '../../serving/access/users.ts';
import { digestOf } from '../../serving/access/access.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { servedLineage } from '../serving/served-lineage.ts';
import { testFolder } from '../harness/clean-up.ts';
import { invoke } from '../harness/invocation.ts';

let folder: string;
const closing: { close(): Promise<void> }[] = [];
beforeEach(() => void (folder = testFolder()));
afterEach(async () => {
  for (const one of closing.splice(0)) await one.close();
});

const errata = (args: string | string[], environment: NodeJS.ProcessEnv = {}) =>
  invoke(folder, args, environment);
const file = () => join(folder, 'home', 'tokens.json');
const create = async (...args: string[]) =>
  JSON.parse((await errata(['token', 'create', '--json', ...args])).out) as {
    token: string;
    name: string;
    expiresAt?: string;
    createdAt: string;
  };

test('prints a token once and keeps only its digest, readable only by its owner', async () => {
  const { code, out, err } = await errata('token create --name reader --role read');
  expect(code).toBe(EXIT.ok);
  expect(out).toMatch(/^errata_[A-Za-z0-9_-]{43}\n$/);
  expect(err).toContain('From now on');
  const kept = readFileSync(file(), 'utf8');
  expect(kept).not.toContain(out.trim().slice(7));
  expect(JSON.parse(kept)).toMatchObject({
    tokens: [{ name: 'reader', sha256: digestOf(out.trim()), roles: ['read'] }],
  });
  expect(statSync(file()).mode & 0o777).toBe(0o600);
  for (const args of [
    ['token', 'list'],
    ['token', 'list', '--json'],
  ])
    expect((await errata(args)).out).not.toMatch(/errata_|[0-9a-f]{64}/);
});

test('keeps roles, limits and expiry, and lists them', async () => {
  const made = await create(
    '--name',
    'desk',
    '--role',
    'submit',
    '--role',
    'read',
    '--lineage',
    'news',
    '--lineage',
    'default',
    '--subject',
    'Mira *',
    '--subject',
    'Lake Baikal',
    '--expires',
    '90d',
  );
  expect(made).toMatchObject({
    name: 'desk',
    roles: ['submit', 'read'],
    lineages: ['news', 'default'],
    subjects: ['Mira *', 'Lake Baikal'],
  });
  expect(Date.parse(made.expiresAt!) - Date.parse(made.createdAt)).toBe(90 * 86_400_000);
  const listed = JSON.parse((await errata('token list --json')).out) as object;
  const { token: _, ...record } = made;
  expect(listed).toEqual({ path: file(), asked: true, tokens: [record] });
  expect((await errata('token list', { COLUMNS: '200' })).out).toMatch(
    /desk.*submit, read.*news, default.*Mira \*, Lake Baikal/,
  );
});

test.each([
  ['no name', ['--role', 'read']],
  ['no role', ['--name', 'a']],
  ['an unknown role', ['--name', 'a', '--role', 'admin']],
  ['a name with a colon', ['--name', 'a:b', '--role', 'read']],
  ['a lineage that is no name', ['--name', 'a', '--role', 'read', '--lineage', '../x']],
  ['an empty subject', ['--name', 'a', '--role', 'submit', '--subject', ' ']],
  ['a bound on what is not submitted', ['--name', 'a', '--role', 'read', '--subject', 'x']],
  ['a time without a unit', ['--name', 'a', '--role', 'read', '--expires', '90']],
  ['no time', ['--name', 'a', '--role', 'read', '--expires', '0d']],
  ['a time over the bound', ['--name', 'a', '--role', 'read', '--expires', '4000d']],
])('exits with 2 for %s, and creates nothing', async (_, args) => {
  expect((await errata(['token', 'create', ...args])).code).toBe(EXIT.usage);
  expect((await errata('token list')).out).toContain('asks for no token');
});

test('refuses a second token with a name, and refuses to revoke an unknown one', async () => {
  await create('--name', 'a', '--role', 'read');
  expect(await errata('token create --name a --role read')).toMatchObject({
    code: EXIT.failure,
    out: '',
    err: expect.stringContaining('errata token revoke a') as string,
  });
  expect(await errata('token revoke b')).toMatchObject({
    code: EXIT.failure,
    err: expect.stringContaining('no token "b"') as string,
  });
  expect((await errata('token revoke a')).code).toBe(EXIT.ok);
  expect((await errata('token list')).out).toContain('refuses every request');
  expect((await errata('token revoke a')).code).toBe(EXIT.failure);
  expect((await errata('token')).code).toBe(EXIT.usage);
});

test('leaves an unreadable file unchanged', async () => {
  await create('--name', 'a', '--role', 'read');
  writeFileSync(file(), '{ "tokens": [] ');
  expect(await errata('token create --name b --role read')).toMatchObject({
    code: EXIT.failure,
    err: expect.stringContaining('not JSON') as string,
  });
  expect(readFileSync(file(), 'utf8')).toBe('{ "tokens": [] ');
});

/** A server with the tokens of this folder. */
async function served() {
  const users = knownUsers(readConfiguration({ ERRATA_HOME: join(folder, 'home') }, folder).serve, {
    info() {},
    warn() {},
    error() {},
  });
  const serving = await servedLineage({ users });
  closing.push(serving);
  await serving.commit(correction('a', { target: 'Lyon' }));
  await serving.start();
  await serving.server.listen({ port: 0, host: '127.0.0.1' });
  const where = {
    ERRATA_SERVE_URL: `http://127.0.0.1:${(serving.server.server.address() as AddressInfo).port}`,
    ERRATA_LINEAGES: LINEAGE,
  };
  return (environment: NodeJS.ProcessEnv = {}) =>
    errata(['ask', 'Subject a is in'], { ...where, ...environment });
}

test('`ask` sends the token of ERRATA_TOKEN or its file, once there are tokens', async () => {
  const ask = await served();
  expect(await ask()).toMatchObject({
    code: EXIT.ok,
    out: expect.stringContaining('Lyon') as string,
  });
  const { token } = await create('--name', 'reader', '--role', 'read');
  expect(await ask()).toMatchObject({
    code: EXIT.usage,
    err: expect.stringMatching(/Send a token[^]*ERRATA_TOKEN/) as string,
  });
  expect((await ask({ ERRATA_TOKEN: token })).code).toBe(EXIT.ok);
  writeFileSync(join(folder, 'secret'), `${token}\n`);
  expect((await ask({ ERRATA_TOKEN_FILE: 'secret' })).code).toBe(EXIT.ok);
});

test('`ask` does not follow a redirect with its token', async () => {
  const reached: string[] = [];
  const elsewhere = await listening(
    (request, response) => void response.end(String(reached.push(request.url ?? ''))),
  );
  const sending = await listening(
    (_, response) => void response.writeHead(307, { location: `${elsewhere}/v1/compare` }).end(),
  );
  const { code, err } = await errata('ask x', {
    ERRATA_SERVE_URL: sending,
    ERRATA_TOKEN: 'errata_x',
  });
  expect(code).toBe(EXIT.failure);
  expect(err).toContain(sending);
  expect(reached).toEqual([]);
});

test('`ask` explains what is wrong with its token without printing it', async () => {
  const ask = await served();
  const { token } = await create('--name', 'desk', '--role', 'submit');
  const refused = await ask({ ERRATA_TOKEN: token });
  expect(refused).toMatchObject({
    code: EXIT.usage,
    err: expect.stringMatching(/"desk" lacks the role "read"[^]*errata token list/) as string,
  });
  await errata('token revoke desk');
  const unknown = await ask({ ERRATA_TOKEN: token });
  expect(unknown).toMatchObject({
    code: EXIT.usage,
    err: expect.stringContaining('revoked') as string,
  });
  expect(refused.err + unknown.err).not.toContain(token.slice(7));
});

/** Starts a server that gives these answers; returns its address. */
async function listening(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  closing.push({ close: () => new Promise<void>((resolve) => server.close(() => resolve())) });
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1' }, resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
