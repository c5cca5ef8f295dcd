/** Turns the configured model and editor into engine options. */
import { isAbsolute, join } from 'node:path';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import type { HyperParameterOverrides } from '../../schemas/hyper-parameters.ts';
import type { Configuration } from './configuration.ts';
import { homeAt } from './home.ts';

export function engineOptions(configuration: Configuration): EngineOptions {
  const home = homeAt(configuration.home);
  return {
    addonPath: home.tensorflow(configuration.device).addon,
    modelPath: modelPathOf(configuration),
    statisticsFolder: home.keyStatistics,
    textFile: configuration.keyStatisticsText,
    parameters: parametersOf(configuration),
  };
}

/**
 * Returns overrides of the model's hyper-parameters: the parameter set's, then the configured ones.
 */
export function parametersOf({
  parameterSet,
  hyperParameters,
}: Pick<Configuration, 'parameterSet' | 'hyperParameters'>): HyperParameterOverrides {
  if (parameterSet === null) return hyperParameters;
  const { fits, parameters } = parameterSet;
  const gate = { ...parameters.gate, ...hyperParameters.gate };
  return { ...parameters, fits, ...hyperParameters, gate };
}

/** Returns the path of the model; for a Hugging Face id, the folder that the set-up fills. */
export function modelPathOf({ home, model }: Pick<Configuration, 'home' | 'model'>): string {
  if (model === null) return homeAt(home).model.folder;
  return isAbsolute(model) ? model : join(homeAt(home).hubModels, ...model.split('/'));
}
