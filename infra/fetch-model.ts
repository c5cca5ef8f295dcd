import type { Configuration } from './configuration.ts';
import { hubModelsFolder } from './engine-options.ts';
import type { Progress, ProgressStep } from './progress.ts';

/** Brings a model of the Hugging Face hub into the data folder; at once when it is there. Throws what the hub's adapter throws. */
export async function fetchModel(configuration: Pick<Configuration, 'home' | 'hubToken'>, id: string, progress: Progress): Promise<void> {
  const { fetchFromHub } = await import('../model/checkpoint/hub.ts');
  let step: ProgressStep | null = null;
  try {
    await fetchFromHub(id, hubModelsFolder(configuration.home), {
      ...(configuration.hubToken === null ? {} : { accessToken: configuration.hubToken.reveal() }),
      progress(doneBytes, totalBytes) {
        step ??= progress.step(`Fetch ${id}`, { amount: Math.ceil(totalBytes / BYTES_PER_MB), unit: 'MB' });
        step.at(Math.floor(doneBytes / BYTES_PER_MB));
      },
    });
    (step as ProgressStep | null)?.done();
  } catch (error) {
    (step as ProgressStep | null)?.failed();
    throw error;
  }
}

const BYTES_PER_MB = 1_000_000;
