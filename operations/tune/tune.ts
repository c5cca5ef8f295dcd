/** Tunes one model with the real editor: key traces, grid, search, and the parameter set found. */
import { createHash } from 'node:crypto';
import { openCheckpoint, type ModelConfig } from '../../model/checkpoint/checkpoint.ts';
import { keyTraces, massiveLayers, type KeyTrace } from '../../model/statistics/key-trace.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import type { EngineOptions, LoadProgress } from '../../model/engine/loaded-model.ts';
import { ordinaryText } from '../../model/statistics/ordinary-text.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { shapeOf } from '../../model/engine/parameter-sets.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import { Transformer } from '../../model/network/transformer.ts';
import type { ParameterSet, HyperParameterOverrides } from '../../schemas/hyper-parameters.ts';
import { editFacts } from './edit-facts.ts';
import type { FactRecord } from './fact-records.ts';
import { LAMBDA_FACTORS, windowName, windowsOf, type Candidate } from './grid.ts';
import { measureFacts } from './measure-facts.ts';
import { halves, searchParameters, type Trial, type TuneResult } from './search.ts';
import { trialLogAt, type Measures } from './trial-log.ts';

/** Sequences of ordinary text on which the size of keys is measured. */
const TRACED_SEQUENCES = 16;

export interface TuneOptions {
  /** Model, statistics and text; layers and lambda of its parameters are ignored. */
  engine: EngineOptions;
  records: readonly FactRecord[];
  batchEdits: number;
  /** Windows and lambda / F to try; null: the grid's own. */
  windows: readonly (readonly number[])[] | null;
  lambdaFactors: readonly number[] | null;
  windowsMax: number;
  trialsFile: string;
  /** Discards the trials of an earlier run. */
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
  windows: readonly (readonly number[])[];
}

export interface Tuned extends TuneResult {
  look: KeyLook;
  set: ParameterSet;
}

export async function tune(options: TuneOptions, watcher: TuneWatcher = {}): Promise<Tuned> {
  const { engine, records, batchEdits, lambdaFactors, windowsMax, trialsFile, fresh } = options;
  const { name, sha256, config, traces } = await lookAtKeys(engine, watcher.loading);
  const massive = massiveLayers(traces);
  const windows = options.windows ?? windowsOf(config, massive, windowsMax);
  // A window given by hand is checked before hours are spent on it.
  for (const layers of windows) parametersFor(config, { layers: [...layers] });
  const look = { traces, massive, windows };
  watcher.measured?.(look);
  const fixed = withoutSought(engine.parameters);
  const parameters = parametersFor(config, fixed);
  const identity = JSON.stringify([sha256, parameters, batchEdits, engine.textFile]);
  const result = await searchParameters({
    config,
    windows,
    lambdaFactors: lambdaFactors ?? LAMBDA_FACTORS,
    facts: halves(records),
    identity: createHash('sha256').update(identity).digest('hex'),
    log: await trialLogAt(trialsFile, fresh),
    tryOut: async (candidate, facts) => {
      const shown = watcher.trialBegins?.(candidate, facts.length);
      try {
        const { layers, lambda } = candidate;
        const tried = { ...engine, parameters: { ...fixed, layers, lambda } };
        return await measured(tried, facts, batchEdits, (done) => shown?.at(done));
      } finally {
        shown?.done();
      }
    },
    report: (trial, known) => watcher.trial?.(trial, known),
  });
  return { ...result, look, set: parameterSetOf({ name, config, fixed, batchEdits }, result) };
}

async function measured(
  options: EngineOptions,
  facts: readonly FactRecord[],
  batchEdits: number,
  progress: (done: number) => void,
): Promise<Measures> {
  const engine = await LocalEngine.open(options);
  try {
    const { hookId, latest } = await editFacts(engine, facts, batchEdits, progress);
    const all = await measureFacts(engine, hookId, latest);
    const { efficacy, paraphrase, neighboursUnchanged, perplexityRatio } = all;
    return { efficacy, paraphrase, neighboursUnchanged, perplexityRatio };
  } finally {
    await engine.close();
  }
}

function withoutSought(parameters: HyperParameterOverrides): HyperParameterOverrides {
  const { layers: _layers, lambda: _lambda, ...fixed } = parameters;
  return fixed;
}

async function lookAtKeys(options: EngineOptions, progress: LoadProgress = () => {}) {
  loadTensorFlow(options.addonPath);
  const checkpoint = await openCheckpoint(options.modelPath);
  try {
    const { config, name, sha256 } = checkpoint;
    const { seed, contexts } = parametersFor(config, withoutSought(options.parameters));
    const model = await Transformer.load(checkpoint, (share) =>
      progress('loading the model', share),
    );
    try {
      const text = await ordinaryText(model, checkpoint.tokenizer, {
        textFile: options.textFile,
        folder: options.statisticsFolder,
        modelSha256: sha256,
        seed,
        contexts,
        progress,
      });
      const sequences = text.ordinary.slice(0, TRACED_SEQUENCES);
      const traces = await keyTraces(model, sequences, (share) =>
        progress('looking at the keys of all layers', share),
      );
      return { name, sha256, config, traces };
    } finally {
      model.dispose();
    }
  } finally {
    await checkpoint.close();
  }
}

interface TunedModel {
  name: string;
  config: ModelConfig;
  fixed: HyperParameterOverrides;
  batchEdits: number;
}

function parameterSetOf(
  { name, config, fixed, batchEdits }: TunedModel,
  { best }: TuneResult,
): ParameterSet {
  const { layers, lambda } = best.candidate;
  const { fits: _, ...kept } = fixed;
  const found = `layers ${windowName(layers)} and lambda ${lambda} were the best of its grid`;
  const on = `${best.facts} validation facts in batches of ${batchEdits}`;
  return {
    name,
    source: `errata tune: ${found}; measured on ${on}`,
    fits: shapeOf(config),
    parameters: { ...kept, layers, lambda },
    measured: { ...best.measures, facts: best.facts },
  };
}
