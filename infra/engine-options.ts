/** What the configuration says about the model and the editor, in the form in which the engine takes it. */
import { join } from 'node:path';
import type { EngineOptions } from '../model/local-engine.ts';
import type { Configuration } from './configuration.ts';
import { homeAt } from './home.ts';

export function engineOptions(configuration: Configuration): EngineOptions {
  return {
    addonPath: homeAt(configuration.home).tensorflow(configuration.device).addon,
    modelPath: modelPathOf(configuration),
    statisticsFolder: join(configuration.home, 'key-statistics'),
    textFile: configuration.keyStatisticsText,
    parameters: configuration.hyperParameters,
  };
}

/** Where the model lies on disk. A Hugging Face id is a folder that the set-up fills. */
export function modelPathOf(configuration: Pick<Configuration, 'home' | 'model'>): string {
  const { home, model } = configuration;
  if (model === null) return homeAt(home).model.folder;
  return isHubId(model) ? hubModelFolder(home, model) : model;
}

/** Whether the configured model is to be fetched from the Hugging Face hub. Paths are absolute by then. */
export function isHubId(model: string): boolean {
  return /^[\w.-]+\/[\w.-]+$/.test(model);
}

export function hubModelFolder(home: string, id: string): string {
  return join(home, 'models', 'hub', ...id.split('/'));
}
