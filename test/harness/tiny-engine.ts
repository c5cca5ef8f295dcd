/** A model of random numbers that an engine loads in a second, in this process or in ours. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import type { HyperParameterOverrides } from '../../schemas/hyper-parameters.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { ADDON, tinyPath, tinyText } from './tiny-model.ts';
import { testFolder } from './clean-up.ts';

/** Options of an engine on a tiny model, with a folder of its own for its key statistics. */
export function tinyEngineOptions(
  parameters: HyperParameterOverrides = {},
  model = 'llama',
): EngineOptions {
  const folder = testFolder();
  const textFile = path.join(folder, 'ordinary.txt');
  writeFileSync(textFile, tinyText(9_000, 1));
  return {
    addonPath: ADDON,
    modelPath: tinyPath(model),
    statisticsFolder: path.join(folder, 'statistics'),
    textFile,
    parameters: {
      layers: [1, 2],
      contexts: 3,
      contextsPerStep: 3,
      stepsMax: 12,
      learningRate: 0.5,
      lambda: 4,
      ...parameters,
    },
  };
}

/**
 * Settings of processes on a tiny model. A random model learns at the cost of everything else, so
 * no batch is refused for its side effects.
 */
export function tinyModelSettings(parameters: HyperParameterOverrides): Record<string, string> {
  return {
    ERRATA_MODEL: goldenPath('tiny', 'llama'),
    ERRATA_HYPER_PARAMETERS: JSON.stringify(parameters),
    ERRATA_REQUIRE_EFFECTIVE: 'false',
    ERRATA_GENERALISATION_MIN: '0',
    ERRATA_LOCALITY_MIN: '0',
    ERRATA_RETENTION_MIN: '0',
    ERRATA_CANARY_RATIO_MAX: '100',
    ERRATA_EDIT_NORM_MAX: '1000',
  };
}

/** Makes a data folder for one test that shares only the built TensorFlow. */
export function makeHome(folder: string): string {
  mkdirSync(folder, { recursive: true });
  const built = path.join(homeFromEnvironment().root, 'tensorflow');
  symlinkSync(built, path.join(folder, 'tensorflow'));
  return folder;
}
