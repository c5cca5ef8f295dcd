import { join } from 'node:path';
import type { HubOptions } from '../../model/checkpoint/hub.ts';
import type { Configuration } from '../config/configuration.ts';
import { homeAt } from '../config/home.ts';
import { holdExclusively } from './exclusive.mjs';
import type { Progress, ProgressStep } from './progress.ts';

/** Allows for a large model over a slow link. */
const OTHER_FETCH_WAIT_MS = 24 * 3_600_000;
const BYTES_PER_MB = 1_000_000;

/**
 * Downloads a Hugging Face model into the data folder, unless it is there. If two processes need
 * it, one downloads and the other waits. Throws `ExclusiveTimeout`, and the errors of
 * `fetchFromHub`.
 */
export async function fetchModel(
  { home, hubToken }: Pick<Configuration, 'home' | 'hubToken'>,
  id: string,
  progress: Progress,
  options: Pick<HubOptions, 'fetch'> = {},
): Promise<void> {
  const { fetchFromHub } = await import('../../model/checkpoint/hub.ts');
  const folder = homeAt(home).hubModels;
  const turn = await holdExclusively(`fetch of ${join(folder, id)}`, OTHER_FETCH_WAIT_MS, () =>
    progress.note(`Another process is downloading ${id} into the same folder: waiting for it.`),
  );
  let step = null as ProgressStep | null;
  try {
    await fetchFromHub(id, folder, {
      ...options,
      ...(hubToken === null ? {} : { accessToken: hubToken.reveal() }),
      progress(doneBytes, totalBytes) {
        const amount = Math.ceil(totalBytes / BYTES_PER_MB);
        step ??= progress.step(`Download ${id}`, { amount, unit: 'MB' });
        step.at(Math.floor(doneBytes / BYTES_PER_MB));
      },
    });
    step?.done();
  } catch (error) {
    step?.failed();
    throw error;
  } finally {
    await turn.release();
  }
}
