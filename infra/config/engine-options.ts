/**
 * What the configuration says about the model and the editor, in the form in which the engine takes
 * it.
 */
import { isAbsolute, join } from 'node:path';
import type { EngineOptions } from '../../model/engine/local-engine.ts';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import type { Configuration } from './configuration.ts';
import { homeAt } from './home.ts';

export function engineOptions(configuration: Configuration): EngineOptions {
  return {
    addonPath: homeAt(configuration.home).tensorflow(configuration.device).addon,
    modelPath: modelPathOf(configuration),
    statisticsFolder: statisticsFolder(configuration.home),
    textFile: configuration.keyStatisticsText,
    parameters: parametersOf(configuration),
  };
}

/** What is laid over the model's own hyper-parameters: the set's, and the user's over those. */
export function parametersOf({
  parameterSet,
  hyperParameters,
}: Pick<Configuration, 'parameterSet' | 'hyperParameters'>): HyperParameterOverrides {
  if (parameterSet === null) return hyperParameters;
  const { fits, parameters } = parameterSet;
  return {
    ...parameters,
    fits,
    ...hyperParameters,
    gate: { ...parameters.gate, ...hyperParameters.gate },
  };
}

/** Key statistics of each model and text, taken once. */
export function statisticsFolder(home: string): string {
  return join(home, 'key-statistics');
}

/** Where the model lies on disk. A Hugging Face id is a folder that the set-up fills. */
export function modelPathOf(configuration: Pick<Configuration, 'home' | 'model'>): string {
  const { home, model } = configuration;
  if (model === null) return homeAt(home).model.folder;
  return isAbsolute(model) ? model : join(hubModelsFolder(home), ...model.split('/'));
}

/** Models of the hub lie here under their ids. */
export function hubModelsFolder(home: string): string {
  return join(home, 'models', 'hub');
}
