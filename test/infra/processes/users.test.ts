import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigurationError, readConfiguration } from '../../../infra/config/configuration.ts';
import { PROJECT_ROOT } from '../../../infra/config/home.ts';
import { changeTokens, readTokens, TokensUnreadable } from '../../../infra/config/tokens-file.ts';
import { knownUsers, requireKnownUsers } from '../../../infra/processes/users.ts';
import { digestOf, newToken, type TokenRecord } from '../../../serving/access/access.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-users-'));
  path = join(folder, 'tokens.json');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const configurationOf = (environment: NodeJS.ProcessEnv = {}) =>
  readConfiguration({ ERRATA_HOME: folder, ...environment }, folder);
const record = (name: string): TokenRecord => ({
  name,
  sha256: digestOf(newToken()),
  roles: ['read'],
  createdAt: '2026-01-01T00:00:00.000Z',
});
const add = (name: string) => changeTokens(path, (tokens) => [...(tokens ?? []), record(name)]);
const names = () => readTokens(path)?.map(({ name }) => name);

describe('the tokens file', () => {
  it('is made for its owner alone, whatever the umask', async () => {
    for (const umask of [0o000, 0o077, 0o277]) {
      const before = process.umask(umask);
      try {
        await add(`under-${umask}`);
      } finally {
        process.umask(before);
      }
      expect(statSync(path).mode & 0o777).toBe(0o600);
    }
    expect(names()).toHaveLength(3);
  });

  it('keeps every change of several processes that make them at the same time', async () => {
    const program = `import { changeTokens } from ${JSON.stringify(new URL('../../../infra/config/tokens-file.ts', import.meta.url).href)};
      const token = (name) => ({ name, sha256: Buffer.from(name.padEnd(32, '.')).toString('hex'), roles: ['read'], createdAt: '2026-01-01T00:00:00Z' });
      for (let i = 0; i < 30; i += 1) await changeTokens(process.argv[1], (tokens) => [...(tokens ?? []), token(process.argv[2] + i)]);`;
    const ends = await Promise.all(
      ['a', 'b', 'c'].map((who) => run(['--input-type=module', '-e', program, path, who])),
    );
    expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(names()).toHaveLength(90);
  });

  it('stays as it was where a change is refused', async () => {
    await add('one');
    const before = readFileSync(path, 'utf8');
    await expect(
      changeTokens(path, () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    writeFileSync(`${path}.half`, 'left by a process that died', { mode: 0o666 });
    expect(readFileSync(path, 'utf8')).toBe(before);
    await add('two');
    expect(names()).toEqual(['one', 'two']);
  });

  it.each([
    ['no JSON', '{ "tokens": [ hunter-two', /no JSON/],
    ['no list', '{}', /tokens/],
    [
      'a misspelt bound',
      JSON.stringify({ tokens: [{ ...record('a'), lineage: ['news'] }] }),
      /lineage/,
    ],
    ['one name twice', JSON.stringify({ tokens: [record('a'), record('a')] }), /twice/],
  ])('is refused with %s, without repeating it', (_, text, reason) => {
    writeFileSync(path, text, { mode: 0o600 });
    expect(() => readTokens(path)).toThrow(TokensUnreadable);
    expect(() => readTokens(path)).toThrow(reason);
    expect(() => readTokens(path)).not.toThrow(/hunter/);
  });

  it('is refused where others may write to it', async () => {
    await add('one');
    for (const [mode, allowed] of [
      [0o600, true],
      [0o400, true],
      [0o644, true],
      [0o660, false],
      [0o602, false],
      [0o666, false],
    ] as const) {
      chmodSync(path, mode);
      if (allowed) expect(names()).toEqual(['one']);
      else expect(() => readTokens(path)).toThrow(/may write/);
    }
  });
});

describe('without tokens', () => {
  it.each([['127.0.0.1'], ['localhost'], ['::1']])('%s may be bound', (host) =>
    expect(() => requireKnownUsers(configurationOf({ ERRATA_HOST: host }))).not.toThrow(),
  );

  it.each(['0.0.0.0', '::', '192.0.2.1', 'errata.example'])(
    '%s may not be bound, unless something in front knows the users',
    (host) => {
      expect(() => requireKnownUsers(configurationOf({ ERRATA_HOST: host }))).toThrow(
        ConfigurationError,
      );
      expect(() => requireKnownUsers(configurationOf({ ERRATA_HOST: host }))).toThrow(
        /ERRATA_HOST is .*errata token create.*ERRATA_HTTP_OPEN=true/,
      );
      expect(() =>
        requireKnownUsers(configurationOf({ ERRATA_HOST: host, ERRATA_HTTP_OPEN: 'true' })),
      ).not.toThrow();
    },
  );

  it('a file that is named and absent is a fault, also where nobody else could ask', () => {
    expect(() => requireKnownUsers(configurationOf({ ERRATA_TOKENS: 'absent.json' }))).toThrow(
      /ERRATA_TOKENS is/,
    );
    expect(() =>
      requireKnownUsers(
        configurationOf({ ERRATA_TOKENS: 'absent.json', ERRATA_HTTP_OPEN: 'true' }),
      ),
    ).toThrow(/ERRATA_TOKENS is/);
  });

  it('serve refuses to bind other addresses, before it loads anything', async () => {
    const { code, output } = await serve({ ERRATA_HOST: '0.0.0.0' });
    expect(code).toBe(1);
    expect(output).toContain('ERRATA_HOST is \\"0.0.0.0\\"');
  });
});

it('with tokens any address may be bound, but not with a file that cannot be read', async () => {
  await add('one');
  expect(() => requireKnownUsers(configurationOf({ ERRATA_HOST: '0.0.0.0' }))).not.toThrow();
  chmodSync(path, 0o666);
  expect(() => requireKnownUsers(configurationOf({ ERRATA_HOST: '0.0.0.0' }))).toThrow(/may write/);
  expect(() => requireKnownUsers(configurationOf({ ERRATA_HTTP_OPEN: 'true' }))).toThrow(
    /may write/,
  );
});

describe('the users', () => {
  function watched(environment: NodeJS.ProcessEnv = {}) {
    const lines: string[] = [];
    const note = (...parts: unknown[]) => void lines.push(JSON.stringify(parts));
    return {
      lines,
      users: knownUsers(configurationOf(environment), { info: note, warn: note, error: note }),
    };
  }

  it('are those of the file as it is at that moment', async () => {
    const { users, lines } = watched();
    expect(users()).toEqual({ kind: 'open', hosts: 'loopback' });
    await add('one');
    expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'one' }] });
    await add('two');
    expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'one' }, { name: 'two' }] });
    await changeTokens(path, (tokens) => tokens!.slice(1));
    expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'two' }] });
    await changeTokens(path, () => []);
    expect(users()).toEqual({ kind: 'tokens', tokens: [] });
    for (let i = 0; i < 10; i += 1) users();
    expect(lines).toHaveLength(5);
  });

  it('are unknown, and not anybody, when a file that was there is gone or broken; and known again when it is back', async () => {
    const { users } = watched();
    await add('one');
    expect(users().kind).toBe('tokens');
    const text = readFileSync(path, 'utf8');
    for (const breakIt of [
      () => rmSync(path),
      () => writeFileSync(path, '{'),
      () => writeFileSync(path, text.replace('"read"', '"everything"')),
      () => chmodSync(path, 0o606),
    ]) {
      breakIt();
      expect(users()).toEqual({ kind: 'unknown' });
      rmSync(path, { force: true });
      writeFileSync(path, text, { mode: 0o600 });
      expect(users().kind).toBe('tokens');
    }
  });

  it('are unknown where the file went between the start and the first request, if strangers could ask', () => {
    expect(watched({ ERRATA_HOST: '0.0.0.0' }).users()).toEqual({ kind: 'unknown' });
    expect(watched({ ERRATA_TOKENS: path }).users()).toEqual({ kind: 'unknown' });
    expect(watched({ ERRATA_HOST: '0.0.0.0', ERRATA_HTTP_OPEN: 'true' }).users()).toEqual({
      kind: 'open',
      hosts: 'any',
    });
  });

  it('are asked for tokens where there are some, although something in front knows them', async () => {
    await add('one');
    expect(watched({ ERRATA_HTTP_OPEN: 'true' }).users().kind).toBe('tokens');
  });
});

/** The real process, until it ends. */
const serve = (environment: NodeJS.ProcessEnv) => run(['infra/processes/serve.ts'], environment);

function run(
  args: string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', ...args], {
      cwd: PROJECT_ROOT,
      env: { PATH: process.env['PATH'], ERRATA_HOME: folder, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject).on('close', (code) => resolve({ code, output }));
  });
}
