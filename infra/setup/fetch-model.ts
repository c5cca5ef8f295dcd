import { join } from 'node:path';
import type { HubOptions } from '../../model/checkpoint/hub.ts';
import type { Configuration } from '../config/configuration.ts';
import { homeAt } from '../config/home.ts';
import { holdExclusively } from './exclusive.mjs';
import type { Progress, ProgressStep } from './progress.ts';

/**
 * Brings a model of the Hugging Face hub into the data folder; at once when it is there. Of two
 * processes that want it, one fetches and the other waits. Throws what the hub's adapter throws,
 * and `ExclusiveTimeout`.
 */
export async function fetchModel(
  configuration: Pick<Configuration, 'home' | 'hubToken'>,
  id: string,
  progress: Progress,
  options: Pick<HubOptions, 'fetch'> = {},
): Promise<void> {
  const { fetchFromHub } = await import('../../model/checkpoint/hub.ts');
  const folder = homeAt(configuration.home).hubModels;
  const turn = await holdExclusively(`fetch of ${join(folder, id)}`, OTHER_FETCH_WAIT_MS, () =>
    progress.note(`Another process fetches ${id} into the same folder: waiting for it.`),
  );
  let step: ProgressStep | null = null;
  try {
    await fetchFromHub(id, folder, {
      ...options,
      ...(configuration.hubToken === null ? {} : { accessToken: configuration.hubToken.reveal() }),
      progress(doneBytes, totalBytes) {
        step ??= progress.step(`Fetch ${id}`, {
          amount: Math.ceil(totalBytes / BYTES_PER_MB),
          unit: 'MB',
        });
        step.at(Math.floor(doneBytes / BYTES_PER_MB));
      },
    });
    (step as ProgressStep | null)?.done();
  } catch (error) {
    (step as ProgressStep | null)?.failed();
    throw error;
  } finally {
    await turn.release();
  }
}

/** A large model over a slow link. */
const OTHER_FETCH_WAIT_MS = 24 * 3_600_000;
const BYTES_PER_MB = 1_000_000;
