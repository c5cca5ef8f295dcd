/**
 * The model of a process, in the thread it has for itself, with its loading told to the supervisor.
 */
import type { Engine } from '../../model/engine/engine.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import { engineOptions } from '../config/engine-options.ts';
import type { ProcessContext } from './run-process.ts';

export async function openEngine({ configuration, log, step }: ProcessContext): Promise<Engine> {
  const began = performance.now();
  const engine = await ThreadEngine.open(engineOptions(configuration), step);
  void engine.ended.then((lost) => {
    log.fatal(
      { err: lost },
      'The model is lost; this process ends, so that its supervisor starts it anew',
    );
    process.exit(1);
  });
  const { model, software, keyStatistics } = await engine.describe();
  log.info(
    {
      model: model.name,
      sha256: model.sha256,
      ...software,
      keyStatistics,
      seconds: (performance.now() - began) / 1_000,
    },
    'The model is loaded',
  );
  return engine;
}
