import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-summary-'));
  mkdirSync(path.join(folder, 'node_modules'));
  for (const name of ['vitest', 'vite']) {
    symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name));
  }
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Runs vitest on test files of ours and returns the line that the reporter wrote. */
function summaryOf(files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(
      path.join(folder, name),
      `import { test, expect, beforeAll } from 'vitest';\n${text}`,
    );
  }
  const summary = path.join(folder, 'summary');
  spawnSync(
    process.execPath,
    [
      path.join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      ...[
        'run',
        '--root',
        folder,
        '--passWithNoTests',
        '--reporter',
        path.join(root, 'test', 'summary-reporter.ts'),
      ],
    ],
    { cwd: folder, env: { ...process.env, ERRATA_TEST_SUMMARY: summary, VITEST: undefined } },
  );
  return readFileSync(summary, 'utf8');
}

test('passed, failed and skipped tests are counted', () => {
  const line = summaryOf({
    'a.test.ts': `test('a', () => {}); test('b', () => {}); test.skip('c', () => {}); test.todo('d');`,
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

test('no tests at all are a failure', () => {
  expect(summaryOf({})).toBe('0 passed, 1 failed, 0 skipped\n');
});
