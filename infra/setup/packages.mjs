/**
 * Installs the npm packages that package-lock.json names, unless they are there. Plain JavaScript:
 * it runs before them.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';
import { holdExclusively } from './exclusive.mjs';

/** Resolves when the packages are there; throws when npm cannot bring them. */
export async function ensurePackages({ development }) {
  if (packagesAreThere(development)) return;
  const turn = await holdExclusively(`packages of ${ROOT}`, INSTALL_WAIT_MS, () => {
    process.stderr.write('Another process is installing the packages: waiting for it.\n');
  });
  try {
    if (!packagesAreThere(development)) await installPackages();
  } finally {
    await turn.release();
  }
}

/**
 * npm writes what it installed into node_modules/.package-lock.json as its last act, so that file
 * is the proof: an installation that was killed has none.
 */
export function packagesAreThere(development, root = ROOT) {
  let wanted;
  let installed;
  try {
    wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
    installed = JSON.parse(
      readFileSync(path.join(root, 'node_modules', '.package-lock.json'), 'utf8'),
    ).packages;
  } catch {
    return false;
  }
  return Object.entries(wanted).every(([folder, entry]) => {
    if (folder === '') return true;
    const there = installed[folder];
    if (there !== undefined)
      return there.version === entry.version && there.integrity === entry.integrity;
    // Packages for other platforms are left out on purpose; those for development matter only to
    // developers.
    return (
      entry.optional === true || entry.devOptional === true || (entry.dev === true && !development)
    );
  });
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INSTALL_WAIT_MS = 1_800_000;
const LINE_EVERY_MS = 5_000;

async function installPackages() {
  const startedMs = performance.now();
  const seconds = () => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
  process.stderr.write('Install npm packages …\n');
  // On a terminal npm has a display of its own.
  const timer = setInterval(() => {
    if (!process.stderr.isTTY)
      process.stderr.write(`Install npm packages: ${unpackedCount()} so far, ${seconds()}\n`);
  }, LINE_EVERY_MS);
  try {
    // Install scripts stay off: one of them downloads an outdated TensorFlow, and none is needed.
    const options = [
      '--ignore-scripts',
      '--include=dev',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
    ];
    const code = await runChild(...npmCommand(['ci', ...options]), { cwd: ROOT });
    if (code !== 0) {
      throw new Error(
        `npm ci ended with code ${code}. npm takes its registry and proxy from its own settings (npm config list).`,
      );
    }
  } finally {
    clearInterval(timer);
  }
  process.stderr.write(`Install npm packages: done, ${seconds()}\n`);
}

/** The npm that runs us, if one does; another may be first on the path. */
function npmCommand(args) {
  const running = process.env.npm_execpath;
  return running !== undefined && path.basename(running) === 'npm-cli.js'
    ? [process.execPath, [running, ...args]]
    : ['npm', args];
}

/** npm makes all folders first and fills them as the downloads come in. */
function unpackedCount() {
  const { packages } = JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8'));
  return Object.keys(packages).filter(
    (folder) => folder !== '' && existsSync(path.join(ROOT, folder, 'package.json')),
  ).length;
}
