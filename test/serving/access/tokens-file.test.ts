import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../../infra/config/home.ts';
import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { changeTokens, readTokens, TokensUnreadable } from '../../../serving/access/tokens-file.ts';
import { recordNamed } from './token-record.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-tokens-'));
  path = join(folder, 'tokens.json');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const add = (name: string) =>
  changeTokens(path, (tokens) => [...(tokens ?? []), recordNamed(name)], holdExclusively);
const names = () => readTokens(path)?.map(({ name }) => name);

test('the file belongs to its owner alone, whatever the umask', async () => {
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

test('changes by several processes at the same time are all kept', async () => {
  const ends = await Promise.all(['a', 'b', 'c'].map(addThirtyTokens));
  expect(ends).toEqual([0, 0, 0]);
  expect(names()).toHaveLength(90);
});

test('a refused change leaves the file as it was', async () => {
  await add('one');
  const before = readFileSync(path, 'utf8');
  const refuse = () => {
    throw new Error('no');
  };
  await expect(changeTokens(path, refuse, holdExclusively)).rejects.toThrow('no');
  writeFileSync(`${path}.half`, 'left by a process that died', { mode: 0o666 });
  expect(readFileSync(path, 'utf8')).toBe(before);
  await add('two');
  expect(names()).toEqual(['one', 'two']);
});

test.each([
  ['that is not JSON', '{ "tokens": [ hunter-two', /not JSON/],
  ['without a list', '{}', /tokens/],
  [
    'with a misspelt bound',
    JSON.stringify({ tokens: [{ ...recordNamed('a'), lineage: ['news'] }] }),
    /lineage/,
  ],
  [
    'with a repeated name',
    JSON.stringify({ tokens: [recordNamed('a'), recordNamed('a')] }),
    /twice/,
  ],
])('a file %s is refused without repeating it', (_, text, reason) => {
  writeFileSync(path, text, { mode: 0o600 });
  expect(() => readTokens(path)).toThrow(TokensUnreadable);
  expect(() => readTokens(path)).toThrow(reason);
  expect(() => readTokens(path)).not.toThrow(/hunter/);
});

test('a file that others may write to is refused', async () => {
  await add('one');
  for (const mode of [0o600, 0o400, 0o644]) {
    chmodSync(path, mode);
    expect(names()).toEqual(['one']);
  }
  for (const mode of [0o660, 0o602, 0o666]) {
    chmodSync(path, mode);
    expect(() => readTokens(path)).toThrow(/may write/);
  }
});

/** Adds thirty tokens in a process of its own; resolves to its exit code. */
function addThirtyTokens(who: string): Promise<number | null> {
  const module = (file: string) =>
    JSON.stringify(new URL(`../../../${file}`, import.meta.url).href);
  const program = `
    import { changeTokens } from ${module('serving/access/tokens-file.ts')};
    import { holdExclusively } from ${module('infra/setup/exclusive.mjs')};
    const token = (name) => ({
      name,
      sha256: Buffer.from(name.padEnd(32, '.')).toString('hex'),
      roles: ['read'],
      createdAt: '2026-01-01T00:00:00Z',
    });
    const [, path, who] = process.argv;
    for (let i = 0; i < 30; i += 1)
      await changeTokens(path, (all) => [...(all ?? []), token(who + i)], holdExclusively);`;
  return new Promise((resolve, reject) => {
    const args = ['--import', 'tsx', '--input-type=module', '-e', program, path, who];
    spawn(process.execPath, args, { cwd: PROJECT_ROOT, stdio: 'inherit' })
      .on('error', reject)
      .on('close', resolve);
  });
}
