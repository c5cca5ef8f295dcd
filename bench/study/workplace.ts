/**
 * What every study stands on: the model and the data as the command line and the configuration name
 * them.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { homeAt } from '../../infra/config/home.ts';
import { progressOn, type Progress } from '../../infra/setup/progress.ts';
import { provision } from '../../infra/setup/provision/index.ts';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { LocalEngine, type EngineOptions } from '../../model/engine/local-engine.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/editing.ts';
import { KeptPoints } from './kept-points.ts';

export interface WorkplaceOptions {
  data: string;
  out?: string;
  model?: string;
  text?: string;
  parameters: HyperParameterOverrides;
}

export interface Workplace {
  /** Absolute: points, streams and reports. */
  folder: string;
  points: KeptPoints;
  progress: Progress;
  data: { file: string; sha256: string };
  /** Hyper-parameters with these on top of what was asked for. */
  parametersWith(overrides: HyperParameterOverrides): HyperParameters;
  openEngine(overrides?: HyperParameterOverrides): Promise<LocalEngine>;
  /** What a point hangs on beside its study: data, model, key statistics' text, parameters. */
  circumstances(overrides?: HyperParameterOverrides): Record<string, unknown>;
}

/**
 * Sets up what is missing. `study` names the folder below the data folder where no `out` is given.
 */
export async function openWorkplace(
  study: string,
  { data, out, model, text, parameters }: WorkplaceOptions,
): Promise<Workplace> {
  const configuration = readConfiguration({
    ...process.env,
    ...(model === undefined ? {} : { ERRATA_MODEL: model }),
  });
  const progress = progressOn(process.stderr);
  await provision(['tensorflow', ...(configuration.model === null ? (['model'] as const) : [])], {
    home: homeAt(configuration.home),
    device: configuration.device,
    progress,
  });
  const given = engineOptions(configuration);
  const textFile = text ?? given.textFile;
  const asked = laidOver(given.parameters, parameters);
  const checkpoint = await openCheckpoint(given.modelPath);
  const base = { config: checkpoint.config, sha256: checkpoint.sha256 };
  await checkpoint.close();
  const folder = path.resolve(out ?? path.join(configuration.home, 'studies', study));
  const hashes = {
    data: await sha256OfFile(data),
    text: textFile === null ? null : await sha256OfFile(textFile),
  };
  const parametersWith = (overrides: HyperParameterOverrides) =>
    parametersFor(base.config, laidOver(asked, overrides));
  return {
    folder,
    points: new KeptPoints(folder),
    progress,
    data: { file: data, sha256: hashes.data },
    parametersWith,
    openEngine: (overrides = {}) =>
      opened({ ...given, textFile, parameters: laidOver(asked, overrides) }, progress),
    circumstances: (overrides = {}) => ({
      data: hashes.data,
      model: base.sha256,
      text: hashes.text,
      parameters: { ...parametersWith(overrides) },
    }),
  };
}

/**
 * A gate's numbers mean something for their own kind only: another kind starts from its own
 * defaults.
 */
export function laidOver(
  under: HyperParameterOverrides,
  over: HyperParameterOverrides,
): HyperParameterOverrides {
  const sameKind = over.gate?.kind === undefined || over.gate.kind === under.gate?.kind;
  const gate = { ...(sameKind ? under.gate : {}), ...over.gate };
  return { ...under, ...over, ...(Object.keys(gate).length === 0 ? {} : { gate }) };
}

async function opened(options: EngineOptions, progress: Progress): Promise<LocalEngine> {
  let loading: { label: string; step: ReturnType<Progress['step']> } | null = null;
  const engine = await LocalEngine.open(options, (label, share) => {
    if (loading?.label !== label) {
      loading?.step.done();
      loading = { label, step: progress.step(label, { amount: 100, unit: 'items' }) };
    }
    loading.step.at(Math.round(share * 100));
  });
  (loading as { step: { done(): void } } | null)?.step.done();
  return engine;
}

async function sha256OfFile(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}
