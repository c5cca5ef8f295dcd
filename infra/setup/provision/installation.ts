/**
 * One installed thing: a folder that is whole or absent. It is made in a staging folder beside it,
 * stamped with what it was made from, and moved into place in one step; a set-up that is killed
 * leaves only staging, swept by the next one.
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

/** What a folder holds: name and version or digest of all that went into it. */
export type Stamp = Readonly<Record<string, string>>;

/** Whether the folder was made from exactly this. */
export function isInstalled(folder: string, stamp: Stamp): boolean {
  try {
    return readFileSync(path.join(folder, STAMP_FILE), 'utf8') === stampText(stamp);
  } catch {
    return false;
  }
}

/**
 * Makes the folder with `make`, which fills an empty one; whatever was there before is replaced.
 */
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
    replace(home, half, folder, stamp);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
}

/** A new empty folder on the home's own disk, for work that may be lost. */
export function stagingFolder(home: Home): string {
  const folder = path.join(
    home.staging,
    `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`,
  );
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Removes what killed set-ups left. Only for who holds the set-up lock, which says that no other is
 * at work here.
 */
export function sweepStaging(home: Home): void {
  if (!existsSync(home.staging)) return;
  for (const name of readdirSync(home.staging)) {
    const folder = path.join(home.staging, name);
    // The lock reaches as far as this machine: in a shared home, what others left gets a day.
    const ours = name.startsWith(`${hostname()}-`);
    if (ours || Date.now() - statSync(folder).mtimeMs > OTHERS_STAGING_MS) {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

const STAMP_FILE = 'provisioned.json';
const OTHERS_STAGING_MS = 24 * 3_600_000;

function stampText(stamp: Stamp): string {
  return `${JSON.stringify(stamp, null, 2)}\n`;
}

function replace(home: Home, half: string, folder: string, stamp: Stamp): void {
  // A folder cannot be moved over another that is not empty: the old one is moved out of the way
  // first.
  const old = existsSync(folder) ? stagingFolder(home) : undefined;
  if (old !== undefined) renameSync(folder, path.join(old, 'replaced'));
  try {
    renameSync(half, folder);
  } catch (error) {
    // Somebody on another machine with the same home was faster: theirs is as good.
    if (!isInstalled(folder, stamp)) throw error;
  }
  if (old !== undefined) rmSync(old, { recursive: true, force: true });
}
