/** The model of a process, in the thread it has for itself, with its loading told to the supervisor. */
import type { Engine } from '../model/engine.ts';
import { LocalEngine } from '../model/local-engine.ts';
import { engineOptions } from './engine-options.ts';
import type { ProcessContext } from './run-process.ts';

export async function openEngine({ configuration, log, step }: ProcessContext): Promise<Engine> {
  const began = performance.now();
  const engine = await LocalEngine.open(engineOptions(configuration), step);
  const { model, software, keyStatistics } = await engine.describe();
  log.info({ model: model.name, sha256: model.sha256, ...software, keyStatistics, seconds: (performance.now() - began) / 1_000 }, 'The model is loaded');
  return engine;
}
