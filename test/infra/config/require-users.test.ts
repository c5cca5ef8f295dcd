import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ConfigurationError, readConfiguration } from '../../../infra/config/configuration.ts';
import { PROJECT_ROOT } from '../../../infra/config/home.ts';
import { requireUsers } from '../../../infra/config/require-users.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-users-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const required = (environment: NodeJS.ProcessEnv) => () =>
  requireUsers(readConfiguration({ ERRATA_HOME: folder, ...environment }, folder));

test.each(['127.0.0.1', 'localhost', '::1'])('%s may be bound without tokens', (host) => {
  expect(required({ ERRATA_HOST: host })).not.toThrow();
});

test.each(['0.0.0.0', '::', '192.0.2.1', 'errata.example'])(
  '%s may be bound without tokens only behind a proxy that authenticates',
  (host) => {
    expect(required({ ERRATA_HOST: host })).toThrow(ConfigurationError);
    expect(required({ ERRATA_HOST: host })).toThrow(
      /ERRATA_HOST is .*errata token create.*ERRATA_HTTP_OPEN=true/,
    );
    expect(required({ ERRATA_HOST: host, ERRATA_HTTP_OPEN: 'true' })).not.toThrow();
  },
);

test('a named tokens file must exist, even on loopback or behind a proxy', () => {
  expect(required({ ERRATA_TOKENS: 'absent.json' })).toThrow(/ERRATA_TOKENS is/);
  expect(required({ ERRATA_TOKENS: 'absent.json', ERRATA_HTTP_OPEN: 'true' })).toThrow(
    /ERRATA_TOKENS is/,
  );
});

test('any address may be bound with tokens, but only if their file can be trusted', () => {
  const path = join(folder, 'tokens.json');
  writeFileSync(path, '{ "tokens": [] }', { mode: 0o600 });
  expect(required({ ERRATA_HOST: '0.0.0.0' })).not.toThrow();
  chmodSync(path, 0o666);
  expect(required({ ERRATA_HOST: '0.0.0.0' })).toThrow(/may write/);
  expect(required({ ERRATA_HTTP_OPEN: 'true' })).toThrow(/may write/);
});

test('serve refuses to bind other addresses before it loads anything', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', 'infra/processes/serve.ts'], {
    cwd: PROJECT_ROOT,
    env: { PATH: process.env['PATH'], ERRATA_HOME: folder, ERRATA_HOST: '0.0.0.0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  expect(await new Promise((resolve) => child.on('close', resolve))).toBe(1);
  expect(output).toContain('ERRATA_HOST is \\"0.0.0.0\\"');
});
