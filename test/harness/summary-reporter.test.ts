import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { testFolder } from './clean-up.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const reporter = fileURLToPath(new URL('./summary-reporter.ts', import.meta.url));

/** Runs vitest on these test files and returns the line that the reporter wrote. */
function summaryOf(files: Record<string, string>): string {
  const folder = testFolder();
  mkdirSync(path.join(folder, 'node_modules'));
  for (const name of ['vitest', 'vite'])
    symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name));
  for (const [name, text] of Object.entries(files))
    writeFileSync(
      path.join(folder, name),
      `import { test, expect, beforeAll } from 'vitest';\n${text}`,
    );
  const summary = path.join(folder, 'summary');
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const args = ['run', '--root', folder, '--passWithNoTests', '--reporter', reporter];
  const env = { ...process.env, ERRATA_TEST_SUMMARY: summary, VITEST: undefined };
  spawnSync(process.execPath, [vitest, ...args], { cwd: folder, env });
  return readFileSync(summary, 'utf8');
}

test('passed, failed and skipped tests are counted', () => {
  const line = summaryOf({
    'a.test.ts': `
      test('a', () => {});
      test('b', () => {});
      test.skip('c', () => {});
      test.todo('d');`,
    'b.test.ts': `test('e', () => { expect(1).toBe(2); });`,
  });
  expect(line).toBe('2 passed, 1 failed, 2 skipped\n');
});

test('a file that cannot be read and a hook that fails count as failures', () => {
  const line = summaryOf({
    'a.test.ts': `test('a', () => {});`,
    'b.test.ts': `import './nowhere.ts'; test('b', () => {});`,
    'c.test.ts': `beforeAll(() => { throw new Error('no'); }); test('c', () => {});`,
  });
  expect(line).toMatch(/^1 passed, 2 failed, /);
});

test('a run without tests counts as a failure', () => {
  expect(summaryOf({})).toBe('0 passed, 1 failed, 0 skipped\n');
});
