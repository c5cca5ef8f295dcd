/**
 * Tuning of one model with the real editor: key traces, grid, search, and the parameter set that
 * comes of it.
 */
import { createHash } from 'node:crypto';
import { openCheckpoint, type ModelConfig } from '../../model/checkpoint/checkpoint.ts';
import { keyTraces, massiveLayers, type KeyTrace } from '../../model/statistics/key-trace.ts';
import {
  LocalEngine,
  type EngineOptions,
  type LoadProgress,
} from '../../model/engine/local-engine.ts';
import { ordinaryText } from '../../model/statistics/ordinary-text.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { shapeOf } from '../../model/engine/parameter-sets.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import { Transformer } from '../../model/network/transformer.ts';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import type { ParameterSet } from '../../schemas/hyper-parameters.ts';
import { editStream } from '../edit-stream.ts';
import type { BenchRecord } from '../records.ts';
import { LAMBDA_FACTORS, windowName, windowsOf, type Candidate } from './grid.ts';
import { halves, searchParameters, type Trial, type TuneResult } from './search.ts';
import { trialLogAt } from './trial-log.ts';

/** Sequences of ordinary text that the size of keys is measured on. */
const TRACED_SEQUENCES = 16;

export interface TuneOptions {
  /** Model, statistics and text; what its parameters say of layers and lambda is what is sought. */
  engine: EngineOptions;
  records: readonly BenchRecord[];
  batchEdits: number;
  /** Windows and lambda / F to try; null: the grid's own. */
  windows: readonly (readonly number[])[] | null;
  lambdaFactors: readonly number[] | null;
  windowsMax: number;
  trialsFile: string;
  /** Forget the trials of an earlier run. */
  fresh: boolean;
}

export interface TuneWatcher {
  loading?: LoadProgress;
  measured?(look: KeyLook): void;
  trialBegins?(candidate: Candidate, facts: number): { at(done: number): void; done(): void };
  trial?(trial: Trial, known: boolean): void;
}

export interface KeyLook {
  traces: KeyTrace[];
  massive: number[];
  windows: number[][];
}

export interface Tuned extends TuneResult {
  look: KeyLook;
  set: ParameterSet;
}

export async function tune(options: TuneOptions, watcher: TuneWatcher = {}): Promise<Tuned> {
  const { name, sha256, config, traces } = await lookAtKeys(options.engine, watcher.loading);
  const massive = massiveLayers(traces);
  const windows = (options.windows ?? windowsOf(config, massive, options.windowsMax)).map(
    (layers) => [...layers],
  );
  // A window by hand is checked before hours are spent on it.
  for (const layers of windows) parametersFor(config, { layers });
  const look = { traces, massive, windows };
  watcher.measured?.(look);
  const fixed = withoutSought(options.engine.parameters);
  const result = await searchParameters({
    config,
    windows,
    lambdaFactors: options.lambdaFactors ?? LAMBDA_FACTORS,
    facts: halves(options.records),
    identity: createHash('sha256')
      .update(
        JSON.stringify([
          sha256,
          parametersFor(config, fixed),
          options.batchEdits,
          options.engine.textFile,
        ]),
      )
      .digest('hex'),
    log: await trialLogAt(options.trialsFile, options.fresh),
    async tryOut({ layers, lambda }, facts) {
      const shown = watcher.trialBegins?.(
        { layers, lambda, lambdaFactor: lambda / config.mlpWidth },
        facts.length,
      );
      const engine = await LocalEngine.open({
        ...options.engine,
        parameters: { ...fixed, layers, lambda },
      });
      try {
        const { efficacy, paraphrase, neighboursUnchanged, perplexityRatio } = await editStream(
          engine,
          facts,
          options.batchEdits,
          (done) => shown?.at(done),
        );
        return { efficacy, paraphrase, neighboursUnchanged, perplexityRatio };
      } finally {
        await engine.close();
        shown?.done();
      }
    },
    tell: (trial, known) => watcher.trial?.(trial, known),
  });
  return { ...result, look, set: parameterSetOf(name, config, fixed, result, options) };
}

function withoutSought(parameters: HyperParameterOverrides): HyperParameterOverrides {
  const fixed = { ...parameters };
  delete fixed.layers;
  delete fixed.lambda;
  return fixed;
}

async function lookAtKeys(
  options: EngineOptions,
  progress?: LoadProgress,
): Promise<{ name: string; sha256: string; config: ModelConfig; traces: KeyTrace[] }> {
  loadTensorFlow(options.addonPath);
  const checkpoint = await openCheckpoint(options.modelPath);
  try {
    const { config, name, sha256 } = checkpoint;
    const { seed, contexts } = parametersFor(config, withoutSought(options.parameters));
    const model = await Transformer.load(checkpoint, (share) =>
      progress?.('loading the model', share),
    );
    try {
      const text = await ordinaryText(model, checkpoint.tokenizer, {
        textFile: options.textFile,
        folder: options.statisticsFolder,
        modelSha256: sha256,
        seed,
        contexts,
        ...(progress === undefined ? {} : { progress }),
      });
      const traces = await keyTraces(model, text.ordinary.slice(0, TRACED_SEQUENCES), (share) =>
        progress?.('looking at the keys of all layers', share),
      );
      return { name, sha256, config, traces };
    } finally {
      model.dispose();
    }
  } finally {
    await checkpoint.close();
  }
}

function parameterSetOf(
  name: string,
  config: ModelConfig,
  fixed: HyperParameterOverrides,
  { best }: TuneResult,
  options: TuneOptions,
): ParameterSet {
  const { layers, lambda } = best.candidate;
  const { fits: _, ...kept } = fixed;
  return {
    name,
    source: `errata tune: layers ${windowName(layers)} and lambda ${lambda} were the best of its grid; measured on ${best.facts} validation facts in batches of ${options.batchEdits}`,
    fits: shapeOf(config),
    parameters: { ...kept, layers, lambda },
    measured: { ...best.measures, facts: best.facts },
  };
}
