/**
 * What the npm scripts call: makes sure that this machine's Node.js and the npm packages are right,
 * then becomes the program that was asked for. Plain JavaScript that any Node.js can read, because
 * nothing is installed yet.
 *
 *   node infra/setup/bootstrap.mjs start|errata|bench|bench-audit|bench-load|study|test|test-faults|test-gpu-build [arguments]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runChild } from './child.mjs';
import { ensurePackages } from './packages.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NOTHING_TESTED = '0 passed, 1 failed, 0 skipped';
/** First minor version of each line of Node.js that all packages run on. */
const NODE_MINIMUM = JSON.parse(
  readFileSync(new URL('./node-minimum.json', import.meta.url), 'utf8'),
);

const [command = '', ...args] = process.argv.slice(2);
try {
  checkNode();
  await ensurePackages({ development: command.startsWith('test') || command === 'study' });
  switch (command) {
    case 'start':
      await become('cli/main.ts', ['up', '--demo', ...args]);
      break;
    case 'errata':
      await become('cli/main.ts', args);
      break;
    case 'bench':
      await become('bench/main.ts', args);
      break;
    case 'bench-audit':
      await become('bench/audit/main.ts', args);
      break;
    case 'bench-load':
      await become('bench/load/main.ts', args);
      break;
    case 'study':
      await become('bench/study/main.ts', args);
      break;
    case 'test':
      process.exitCode = await test(args);
      break;
    case 'test-faults':
      process.env.ERRATA_DEVICE = 'cpu';
      await become('test/faults/main.ts', args);
      break;
    case 'test-gpu-build':
      process.env.ERRATA_DEVICE = 'gpu';
      await become('infra/setup/provision/gpu-build.ts', args);
      break;
    default:
      throw new Error(
        `There is no "${command}": start, errata, bench, bench-audit, bench-load, study, test, test-faults, test-gpu-build.`,
      );
  }
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
  if (command === 'test') process.stdout.write(`${NOTHING_TESTED}\n`);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const minimum = NODE_MINIMUM[major];
  if (minimum !== undefined && minor >= minimum) return;
  // A version between or past the supported ones may well do.
  const text = `Node.js is ${process.version}; supported are 20 (from 20.19), 22 (from 22.13), 24 and 26.`;
  if (major < 20 || minimum !== undefined) throw new Error(`${text} Install one of them.`);
  process.stderr.write(`${text} Going on.\n`);
}

/**
 * Runs a TypeScript program in this very process, so that signals and its exit code need nobody to
 * pass them on.
 */
async function become(program, programArgs) {
  const file = path.join(ROOT, program);
  process.argv = [process.execPath, file, ...programArgs];
  const { register } = await import('tsx/esm/api');
  register();
  await import(pathToFileURL(file).href);
}

/**
 * Sets up what the tests use, runs them, and ends the output with the count of the tests. Resolves
 * to the exit code.
 */
async function test(vitestArgs) {
  const setUp = await runChild(
    process.execPath,
    ['--import', 'tsx', path.join(ROOT, 'infra', 'setup', 'provision', 'main.ts')],
    { cwd: ROOT, env: { ...process.env, ERRATA_DEVICE: 'cpu' } },
  );
  let summary = NOTHING_TESTED;
  let code = setUp;
  if (setUp === 0) {
    const folder = mkdtempSync(path.join(tmpdir(), 'errata-test-summary-'));
    const file = path.join(folder, 'summary');
    try {
      code = await runChild(
        process.execPath,
        [path.join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...vitestArgs],
        { cwd: ROOT, env: { ...process.env, ERRATA_DEVICE: 'cpu', ERRATA_TEST_SUMMARY: file } },
      );
      summary = readFileSync(file, 'utf8').trim();
    } catch {
      // vitest ended before it could count.
      code = code === 0 ? 1 : code;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  // No test that passed is no success, and neither is a failure that vitest did not report by its
  // exit code.
  if (code === 0 && !/^[1-9]\d* passed, 0 failed, /.test(summary)) code = 1;
  process.stdout.write(`${summary}\n`);
  return code;
}
