import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packagesAreThere } from '../../../infra/setup/packages.mjs';

interface LockEntry {
  version?: string;
  integrity?: string;
  optional?: boolean;
  dev?: boolean;
}

let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'errata-packages-'));
  mkdirSync(path.join(root, 'node_modules'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const WANTED: Record<string, LockEntry> = {
  '': {},
  'node_modules/needed': { version: '1.0.0', integrity: 'sha512-a' },
  'node_modules/other-platform': { version: '1.0.0', integrity: 'sha512-b', optional: true },
  'node_modules/for-development': { version: '1.0.0', integrity: 'sha512-c', dev: true },
};

function write(installed: Record<string, LockEntry> | undefined): void {
  writeFileSync(path.join(root, 'package-lock.json'), JSON.stringify({ packages: WANTED }));
  if (installed === undefined) return;
  writeFileSync(
    path.join(root, 'node_modules', '.package-lock.json'),
    JSON.stringify({ packages: installed }),
  );
}

const without = (...names: string[]): Record<string, LockEntry> =>
  Object.fromEntries(
    Object.entries(WANTED).filter(([name]) => name !== '' && !names.includes(name)),
  );

test('a killed installation does not count', () => {
  write(undefined);
  expect(packagesAreThere(false, root)).toBe(false);
});

test('an installation with all that this platform needs is complete', () => {
  write(without('node_modules/other-platform'));
  expect(packagesAreThere(true, root)).toBe(true);
});

test('another version in the lock file requires a new installation', () => {
  write({ ...without(), 'node_modules/needed': { version: '0.9.0', integrity: 'sha512-old' } });
  expect(packagesAreThere(false, root)).toBe(false);
});

test('packages for development matter only to the tests', () => {
  write(without('node_modules/for-development'));
  expect(packagesAreThere(false, root)).toBe(true);
  expect(packagesAreThere(true, root)).toBe(false);
});
