/**
 * The project's hyper-parameters by model, as data: model/parameter-sets/*.json, each with its
 * source named.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { HyperParameters, ModelShape } from '../../schemas/editing.ts';
import { readParameterSet, type ParameterSet } from '../../schemas/hyper-parameters.ts';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';

/**
 * The set for a model of this shape; null where the general rule has to do. Throws BadParameterSet
 * on a file out of form.
 */
export function parameterSetFor(config: ModelConfig): ParameterSet | null {
  return parameterSets().find(({ fits }) => misfits(fits, config).length === 0) ?? null;
}

/** What the general rule says beside layers and lambda, which it takes from the model's shape. */
export function generalParameters(): GeneralParameters {
  return generalSet().parameters as GeneralParameters;
}

type GeneralParameters = Omit<HyperParameters, 'layers' | 'lambda' | 'gate'> & {
  gate: Pick<HyperParameters['gate'], 'kind'>;
};

/** All sets but the general rule, in the order of their files. */
export function parameterSets(): readonly ParameterSet[] {
  sets ??= readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json') && name !== GENERAL)
    .sort()
    .map(readSet);
  return sets;
}

/** In what a model differs from a shape, in words; empty where it fits. */
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

/** The shape that tells a model from others, for a set made for it. */
export function shapeOf(config: ModelConfig): Required<ModelShape> {
  const { architecture, layers, residualWidth, mlpWidth, vocabulary } = config;
  return { architecture, layers, residualWidth, mlpWidth, vocabularyMin: vocabulary };
}

const FOLDER = new URL('./parameter-sets/', import.meta.url);
const GENERAL = 'general.json';
let sets: ParameterSet[] | undefined;
let general: ParameterSet | undefined;

function generalSet(): ParameterSet {
  general ??= readSet(GENERAL);
  return general;
}

function readSet(name: string): ParameterSet {
  return readParameterSet(
    `model/parameter-sets/${name}`,
    readFileSync(new URL(name, FOLDER), 'utf8'),
  );
}
