/**
 * The project's hyper-parameters by model, as data: model/parameter-sets/*.json, each with its
 * source.
 */
import { readdirSync, readFileSync } from 'node:fs';
import {
  readParameterSet,
  type ParameterSet,
  type HyperParameters,
  type ModelShape,
} from '../../schemas/hyper-parameters.ts';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';

/**
 * Returns the set for a model of this shape, or null. Throws BadParameterSet on a malformed file.
 */
export function parameterSetFor(config: ModelConfig): ParameterSet | null {
  return parameterSets().find(({ fits }) => misfits(fits, config).length === 0) ?? null;
}

/** Returns the general rule without layers and lambda, which follow from the model's shape. */
export function generalParameters(): GeneralParameters {
  return read().general.parameters as GeneralParameters;
}

type GeneralParameters = Omit<HyperParameters, 'layers' | 'lambda' | 'gate'> & {
  gate: Pick<HyperParameters['gate'], 'kind'>;
};

/** Returns all sets except the general rule, in the order of their files. */
export function parameterSets(): readonly ParameterSet[] {
  return read().sets;
}

/** Describes how a model differs from a shape; empty if it fits. */
export function misfits(shape: ModelShape, config: ModelConfig): string[] {
  const faults: string[] = [];
  for (const name of ['architecture', 'layers', 'residualWidth', 'mlpWidth'] as const) {
    const wanted = shape[name];
    if (wanted !== undefined && wanted !== config[name])
      faults.push(`${name} ${config[name]} instead of ${wanted}`);
  }
  if (shape.vocabularyMin !== undefined && config.vocabulary < shape.vocabularyMin)
    faults.push(`a vocabulary of ${config.vocabulary}, below ${shape.vocabularyMin}`);
  return faults;
}

/** Returns the shape that identifies the model in a set made for it. */
export function shapeOf(config: ModelConfig): Required<ModelShape> {
  const { architecture, layers, residualWidth, mlpWidth, vocabulary } = config;
  return { architecture, layers, residualWidth, mlpWidth, vocabularyMin: vocabulary };
}

const FOLDER = new URL('./parameter-sets/', import.meta.url);
const GENERAL = 'general.json';
let known: { general: ParameterSet; sets: ParameterSet[] } | undefined;

function read() {
  if (known !== undefined) return known;
  const set = (name: string) =>
    readParameterSet(`model/parameter-sets/${name}`, readFileSync(new URL(name, FOLDER), 'utf8'));
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json') && name !== GENERAL);
  return (known = { general: set(GENERAL), sets: names.sort().map(set) });
}
