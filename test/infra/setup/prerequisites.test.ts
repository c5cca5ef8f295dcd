import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { diagnose } from '../../../infra/setup/doctor/doctor.ts';
import { homeAt } from '../../../infra/config/home.ts';
import { readConfiguration } from '../../../infra/config/configuration.ts';
import { examine, PREREQUISITES } from '../../../infra/setup/prerequisites.ts';

let folder: string;
const environment = { ...process.env };

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-prerequisites-'));
  delete process.env['CXX'];
  delete process.env['JAVA_HOME'];
});

afterEach(() => {
  process.env = { ...environment };
  rmSync(folder, { recursive: true, force: true });
});

function putProgram(name: string, script: string): void {
  const file = path.join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

test('a missing program is reported with its requirement and a remedy', async () => {
  process.env['PATH'] = folder;
  const findings = await examine(
    ['npm', 'python', 'compiler', 'java', 'maven'],
    homeAt(folder),
    'cpu',
  );
  expect(findings.map(({ prerequisite, state, found }) => [prerequisite, state, found])).toEqual([
    ['npm', 'missing', 'none'],
    ['python', 'missing', 'none'],
    ['compiler', 'missing', 'none'],
    ['java', 'missing', 'none'],
    ['maven', 'missing', 'none'],
  ]);
  for (const { needed, mend } of findings) {
    expect(needed).not.toBe('');
    expect(mend).not.toBe('');
  }
});

test('a version that is too old is reported', async () => {
  putProgram('java', `echo 'openjdk version "11.0.22" 2024-01-16' >&2`);
  putProgram('mvn', `printf '\\033[1mApache Maven 3.5.4\\033[m (abc)\\n'`);
  process.env['PATH'] = `${folder}:/bin`;
  const [java, maven] = await examine(['java', 'maven'], homeAt(folder), 'cpu');
  expect(java).toMatchObject({ state: 'missing', found: '11', needed: '17 or newer' });
  expect(maven).toMatchObject({ state: 'missing', found: '3.5', needed: '3.6 or newer' });
});

test('Python without pip is not enough', async () => {
  putProgram('python3', `[ "$1" = --version ] && echo 'Python 3.12.1' || exit 1`);
  process.env['PATH'] = `${folder}:/bin`;
  const [python] = await examine(['python'], homeAt(folder), 'cpu');
  expect(python).toMatchObject({ state: 'missing', found: 'Python 3.12.1, without pip' });
});

test('a compiler without its standard library is not enough', async () => {
  putProgram('g++', `[ "$1" = --version ] && echo 'g++ 12.2.0' || exit 1`);
  process.env['PATH'] = `${folder}:/bin`;
  const [compiler] = await examine(['compiler'], homeAt(folder), 'cpu');
  expect(compiler).toMatchObject({ state: 'missing', found: 'g++ 12.2.0, cannot compile C++17' });
});

test('this machine passes, and the diagnosis lists what is installed', async () => {
  const diagnosis = await diagnose(
    readConfiguration({ ERRATA_HOME: path.join(folder, 'not', 'yet') }, folder),
  );
  expect(diagnosis.findings.filter(({ state }) => state === 'missing')).toEqual([]);
  expect(diagnosis.able).toBe(true);
  expect(diagnosis.findings.map(({ prerequisite }) => prerequisite)).toEqual([...PREREQUISITES]);
  expect(diagnosis.parts.every(({ installed }) => !installed)).toBe(true);
});
