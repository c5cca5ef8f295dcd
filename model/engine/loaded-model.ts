/** Everything that is loaded once for an engine: the model, its key statistics and its priors. */
import { readFileSync } from 'node:fs';
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { openCheckpoint, type Checkpoint } from '../checkpoint/checkpoint.ts';
import type { EngineDescription } from '../engine-types.ts';
import { Transformer } from '../network/transformer.ts';
import {
  disposeStatistics,
  keyStatistics,
  type KeyStatistics,
} from '../statistics/key-statistics.ts';
import { keptPriors } from '../statistics/prior-cache.ts';
import { buildPriors, disposePriors, type Prior } from '../statistics/prior.ts';
import { deviceSeen, loadTensorFlow, tensorflowVersion } from '../tensor/tensorflow.ts';
import { parametersFor } from './parameters.ts';

export interface EngineOptions {
  addonPath: string;
  modelPath: string;
  /** Cache of key statistics; null means no cache. */
  statisticsFolder: string | null;
  /** Ordinary text for the key statistics; null means the model's own samples. */
  textFile: string | null;
  parameters: HyperParameterOverrides;
}

export type LoadProgress = (step: string, share: number) => void;

export interface LoadedModel {
  checkpoint: Checkpoint;
  model: Transformer;
  statistics: KeyStatistics;
  priors: Map<number, Prior>;
  parameters: HyperParameters;
}

export async function loadModel(
  options: EngineOptions,
  progress?: LoadProgress,
): Promise<LoadedModel> {
  loadTensorFlow(options.addonPath);
  const checkpoint = await openCheckpoint(options.modelPath);
  const opened: (() => unknown)[] = [() => checkpoint.close()];
  try {
    const parameters = parametersFor(checkpoint.config, options.parameters);
    const model = await Transformer.load(checkpoint, (share) =>
      progress?.('loading the model', share),
    );
    opened.push(() => model.dispose());
    const statistics = await keyStatistics(model, checkpoint.tokenizer, {
      layers: parameters.layers,
      textFile: options.textFile,
      folder: options.statisticsFolder,
      modelSha256: checkpoint.sha256,
      seed: parameters.seed,
      contexts: parameters.contexts,
      ...(progress === undefined ? {} : { progress }),
    });
    opened.push(() => disposeStatistics(statistics));
    progress?.('inverting key statistics', 0);
    const build = () => buildPriors(model, statistics, parameters);
    const priors = await keptPriors(build, statistics, parameters, options.statisticsFolder);
    opened.push(() => disposePriors(priors));
    progress?.('inverting key statistics', 1);
    return { checkpoint, model, statistics, priors, parameters };
  } catch (error) {
    for (const close of opened.reverse()) await close();
    throw error;
  }
}

export async function closeModel(loaded: LoadedModel): Promise<void> {
  disposePriors(loaded.priors);
  disposeStatistics(loaded.statistics);
  loaded.model.dispose();
  await loaded.checkpoint.close();
}

export function describeModel(loaded: LoadedModel): EngineDescription {
  const { config, name, sha256 } = loaded.checkpoint;
  const { architecture, layers, residualWidth, mlpWidth, vocabulary, contextMax } = config;
  const shape = { architecture, layers, residualWidth, mlpWidth, vocabulary, contextMax };
  const { sha256: statisticsSha256, tokens, source } = loaded.statistics;
  return {
    model: { name, sha256, ...shape },
    parameters: loaded.parameters,
    keyStatistics: { sha256: statisticsSha256, tokens, source },
    software: {
      errata: SOFTWARE_VERSION,
      tensorflow: tensorflowVersion(),
      node: process.versions.node,
      device: deviceSeen(),
    },
  };
}

const SOFTWARE_VERSION = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  }
).version;
