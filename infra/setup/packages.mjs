/**
 * Installs the npm packages of package-lock.json if needed. Plain JavaScript, since it runs first.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';
import { holdExclusively } from './exclusive.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INSTALL_WAIT_MS = 1_800_000;
const LINE_EVERY_MS = 5_000;
/** Install scripts are off: one downloads an outdated TensorFlow, and none is needed. */
const CI = [
  'ci',
  '--ignore-scripts',
  '--include=dev',
  '--no-audit',
  '--no-fund',
  '--loglevel=error',
];

/** Resolves when the packages are installed. Throws if npm cannot install them. */
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
 * Tells whether node_modules is a complete installation. npm writes node_modules/.package-lock.json
 * last, so a killed installation lacks it.
 */
export function packagesAreThere(development, root = ROOT) {
  let wanted;
  let installed;
  try {
    wanted = packagesIn(path.join(root, 'package-lock.json'));
    installed = packagesIn(path.join(root, 'node_modules', '.package-lock.json'));
  } catch {
    return false;
  }
  return Object.entries(wanted).every(([folder, entry]) => {
    if (folder === '') return true;
    const { version, integrity } = installed[folder] ?? {};
    if (installed[folder] !== undefined)
      return version === entry.version && integrity === entry.integrity;
    // Packages for other platforms are absent on purpose; only developers need development
    // packages.
    return entry.optional || entry.devOptional || (entry.dev && !development) || false;
  });
}

function packagesIn(lockFile) {
  return JSON.parse(readFileSync(lockFile, 'utf8')).packages;
}

async function installPackages() {
  const startedMs = performance.now();
  const seconds = () => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
  process.stderr.write('Install npm packages …\n');
  // On a terminal npm has its own display.
  const timer = setInterval(() => {
    if (!process.stderr.isTTY)
      process.stderr.write(`Install npm packages: ${unpackedCount()} so far, ${seconds()}\n`);
  }, LINE_EVERY_MS);
  try {
    // Use the npm that runs us, if any, because another may be first on the path.
    const npm = process.env.npm_execpath ?? '';
    const code =
      path.basename(npm) === 'npm-cli.js'
        ? await runChild(process.execPath, [npm, ...CI], { cwd: ROOT })
        : await runChild('npm', CI, { cwd: ROOT });
    if (code !== 0)
      throw new Error(
        `npm ci ended with code ${code}. npm takes its registry and proxy from its own settings ` +
          '(npm config list).',
      );
  } finally {
    clearInterval(timer);
  }
  process.stderr.write(`Install npm packages: done, ${seconds()}\n`);
}

/** Counts packages with content, since npm creates all folders first. */
function unpackedCount() {
  return Object.keys(packagesIn(path.join(ROOT, 'package-lock.json'))).filter(
    (folder) => folder !== '' && existsSync(path.join(ROOT, folder, 'package.json')),
  ).length;
}
