import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { knownUsers, type AccessSettings } from '../../../serving/access/users.ts';
import { recordNamed } from './token-record.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-users-'));
  path = join(folder, 'tokens.json');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Replaces the file, as every change of the tokens does. */
function write(...names: string[]): void {
  rmSync(path, { force: true });
  writeFileSync(path, JSON.stringify({ tokens: names.map(recordNamed) }), { mode: 0o600 });
}

function watched(settings: Partial<AccessSettings> = {}) {
  const lines: string[] = [];
  const log = (...parts: unknown[]) => void lines.push(JSON.stringify(parts));
  const users = knownUsers(
    { host: '127.0.0.1', tokensPath: path, tokensRequired: false, open: false, ...settings },
    { info: log, warn: log, error: log },
  );
  return { lines, users };
}

test('the users are those in the file at that moment, and each change is logged once', () => {
  const { users, lines } = watched();
  expect(users()).toEqual({ kind: 'open', hosts: 'loopback' });
  write('one');
  expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'one' }] });
  write('one', 'two');
  expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'one' }, { name: 'two' }] });
  write('two');
  expect(users()).toMatchObject({ kind: 'tokens', tokens: [{ name: 'two' }] });
  write();
  expect(users()).toEqual({ kind: 'tokens', tokens: [] });
  for (let i = 0; i < 10; i += 1) users();
  expect(lines).toHaveLength(5);
});

test('nobody is admitted while a file that existed is gone or broken', () => {
  const { users } = watched();
  write('one');
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
    write('one');
    expect(users().kind).toBe('tokens');
  }
});

test('nobody is admitted without tokens where strangers could connect', () => {
  expect(watched({ host: '0.0.0.0' }).users()).toEqual({ kind: 'unknown' });
  expect(watched({ tokensRequired: true }).users()).toEqual({ kind: 'unknown' });
  expect(watched({ host: '0.0.0.0', open: true }).users()).toEqual({ kind: 'open', hosts: 'any' });
});

test('tokens are required if there are some, even behind a proxy that authenticates', () => {
  write('one');
  expect(watched({ open: true }).users().kind).toBe('tokens');
});
