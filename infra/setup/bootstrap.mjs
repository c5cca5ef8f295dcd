/**
 * The entry point of the npm scripts: checks Node.js, installs the npm packages if needed, then
 * runs the requested program. Plain JavaScript, because nothing is installed yet.
 *
 *   node infra/setup/bootstrap.mjs <command> [arguments]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runChild } from './child.mjs';
import { ensurePackages } from './packages.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NOTHING_TESTED = '0 passed, 1 failed, 0 skipped';
/** First minor version of each Node.js line on which all packages run. */
const NODE_MINIMUM = JSON.parse(
  readFileSync(new URL('./node-minimum.json', import.meta.url), 'utf8'),
);

/** Each command's program, its first arguments, and its device if it requires one. */
const PROGRAMS = {
  start: ['cli/main.ts', ['up', '--demo']],
  errata: ['cli/main.ts'],
  bench: ['bench/main.ts'],
  'bench-audit': ['bench/audit/main.ts'],
  'bench-load': ['bench/load/main.ts'],
  study: ['bench/study/main.ts'],
  'test-faults': ['test/faults/main.ts', [], 'cpu'],
  'test-gpu-build': ['infra/setup/provision/gpu-build.ts', [], 'gpu'],
};

const [command = '', ...args] = process.argv.slice(2);
try {
  checkNode();
  await ensurePackages({ development: command.startsWith('test') || command === 'study' });
  if (command === 'test') process.exitCode = await test(args);
  else if (Object.hasOwn(PROGRAMS, command)) await become(...PROGRAMS[command]);
  else
    throw new Error(
      `Unknown command "${command}". The commands are: ${Object.keys(PROGRAMS).join(', ')}, test.`,
    );
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
  if (command === 'test') process.stdout.write(`${NOTHING_TESTED}\n`);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const minimum = NODE_MINIMUM[major];
  if (minimum !== undefined && minor >= minimum) return;
  const text =
    `Node.js is ${process.version}; ` +
    'supported are 20 (from 20.19), 22 (from 22.13), 24 and 26.';
  // A version between or after the supported ones may work.
  if (major < 20 || minimum !== undefined) throw new Error(`${text} Install one of them.`);
  process.stderr.write(`${text} Continuing anyway.\n`);
}

/** Runs the program in this process, so that signals and the exit code need no forwarding. */
async function become(program, firstArgs = [], device = process.env.ERRATA_DEVICE) {
  if (device !== undefined) process.env.ERRATA_DEVICE = device;
  const file = path.join(ROOT, program);
  process.argv = [process.execPath, file, ...firstArgs, ...args];
  const { register } = await import('tsx/esm/api');
  register();
  await import(pathToFileURL(file).href);
}

/** Installs test prerequisites, runs the tests, and prints their counts last. */
async function test(vitestArgs) {
  const folder = mkdtempSync(path.join(tmpdir(), 'errata-test-summary-'));
  const file = path.join(folder, 'summary');
  const env = { ...process.env, ERRATA_DEVICE: 'cpu', ERRATA_TEST_SUMMARY: file };
  const run = (...nodeArgs) => runChild(process.execPath, nodeArgs, { cwd: ROOT, env });
  const setUp = path.join(ROOT, 'infra', 'setup', 'provision', 'main.ts');
  const vitest = path.join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  let summary = NOTHING_TESTED;
  let code = await run('--import', 'tsx', setUp);
  try {
    if (code === 0) {
      code = await run(vitest, 'run', ...vitestArgs);
      summary = readFileSync(file, 'utf8').trim();
    }
  } catch {
    // vitest ended before it could count.
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  process.stdout.write(`${summary}\n`);
  // Success requires a passed test and no failure that the exit code might miss.
  const passed = /^[1-9]\d* passed, 0 failed, /.test(summary);
  return code === 0 && !passed ? 1 : code;
}
