/**
 * An installed part: a folder that is complete or absent. It is made in a staging folder on the
 * same disk, stamped with its inputs, and moved into place in one step. A killed set-up leaves only
 * staging, which the next one removes.
 */
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Home } from '../../config/home.ts';

/** The inputs of a folder: names and versions, with digests. */
export type Stamp = Readonly<Record<string, string>>;

const STAMP_FILE = 'provisioned.json';
const OTHERS_STAGING_MS = 24 * 3_600_000;

/** Tells whether the folder was made from exactly these inputs. */
export function isInstalled(folder: string, stamp: Stamp): boolean {
  try {
    return readFileSync(path.join(folder, STAMP_FILE), 'utf8') === stampText(stamp);
  } catch {
    return false;
  }
}

/** Replaces the folder with one filled by `make`, which starts with an empty folder. */
export async function install(
  home: Home,
  folder: string,
  stamp: Stamp,
  make: (folder: string) => Promise<void>,
): Promise<void> {
  const half = stagingFolder(home);
  try {
    await make(half);
    writeFileSync(path.join(half, STAMP_FILE), stampText(stamp));
    mkdirSync(path.dirname(folder), { recursive: true });
    // A folder cannot be moved over a non-empty one, so the old one is moved away first.
    const old = existsSync(folder) ? stagingFolder(home) : undefined;
    if (old !== undefined) renameSync(folder, path.join(old, 'replaced'));
    try {
      renameSync(half, folder);
    } catch (error) {
      // Another machine sharing the data folder may have finished first; its result is equivalent.
      if (!isInstalled(folder, stamp)) throw error;
    }
    if (old !== undefined) rmSync(old, { recursive: true, force: true });
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
}

/** Makes an empty folder on the data folder's disk. */
function stagingFolder(home: Home): string {
  const name = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  const folder = path.join(home.staging, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Removes leftovers of killed set-ups. The caller must hold the set-up lock. */
export function sweepStaging(home: Home): void {
  if (!existsSync(home.staging)) return;
  for (const name of readdirSync(home.staging)) {
    const folder = path.join(home.staging, name);
    // The lock does not cover other machines, so their folders are kept for a day.
    const ours = name.startsWith(`${hostname()}-`);
    if (ours || Date.now() - statSync(folder).mtimeMs > OTHERS_STAGING_MS)
      rmSync(folder, { recursive: true, force: true });
  }
}

function stampText(stamp: Stamp): string {
  return `${JSON.stringify(stamp, null, 2)}\n`;
}
