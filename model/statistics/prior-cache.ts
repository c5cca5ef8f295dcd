/**
 * Priors kept on disk. Building them takes longer than all else that loading a small model does,
 * and every process that owns one needs them before it is ready. What they are made from never
 * changes, so its hash names them.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { HyperParameters } from '../../schemas/editing.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../schemas/encoding/safetensors.ts';
import { download64, upload64 } from '../tensor/float64.ts';
import type { KeyStatistics } from './key-statistics.ts';
import { disposePriors, type Prior } from './prior.ts';
import { readSealed, writeSealed } from '../tensor/whole-file.ts';

/**
 * Largest file of one block, in bytes: a larger prior is built each time. Node.js 20 has no larger
 * arrays.
 */
export const PRIOR_BYTES_MAX = 4 * 2 ** 30 - 2 ** 20;

/**
 * The priors of all edited blocks: read from the folder, or else built and written there; null
 * keeps nothing. A file that cannot be read counts as absent. The caller owns them, and the
 * statistics must outlive them. Throws what `build` throws.
 */
export async function keptPriors(
  build: () => Map<number, Prior>,
  statistics: KeyStatistics,
  parameters: Pick<HyperParameters, 'layers' | 'lambda' | 'ridge'>,
  folder: string | null,
): Promise<Map<number, Prior>> {
  if (folder === null) return build();
  const fileOf = (layer: number): string =>
    path.join(folder, `prior-${identityOf(statistics, parameters, layer)}.safetensors`);
  const kept = await readAll(statistics, parameters.layers, fileOf);
  if (kept !== null) return kept;
  const built = build();
  for (const [layer, prior] of [...built]) {
    if (isTooLarge(prior)) continue;
    // A float64 loses its last bits on the way to a file: whoever built it uses the same numbers as
    // whoever reads it.
    const bytes = encode(prior);
    // One after another, so that two of all blocks never exist at once.
    built.delete(layer);
    disposePriors(new Map([[layer, prior]]));
    built.set(layer, restore(statistics, layer, bytes));
    await writeSealed(fileOf(layer), bytes);
  }
  return new Map(parameters.layers.map((layer) => [layer, built.get(layer)!]));
}

const PRIOR_FORMAT = 1;

/** The statistics' hash stands for the base model as well: its keys are in them. */
function identityOf(
  statistics: KeyStatistics,
  { lambda, ridge }: Pick<HyperParameters, 'lambda' | 'ridge'>,
  layer: number,
): string {
  return createHash('sha256')
    .update(JSON.stringify([PRIOR_FORMAT, statistics.sha256, layer, lambda, ridge]))
    .digest('hex')
    .slice(0, 32);
}

/** All of them or none: one that is missing would be built with all others. */
async function readAll(
  statistics: KeyStatistics,
  layers: readonly number[],
  fileOf: (layer: number) => string,
): Promise<Map<number, Prior> | null> {
  const priors = new Map<number, Prior>();
  try {
    for (const layer of layers)
      priors.set(
        layer,
        restore(statistics, layer, (await readSealed(fileOf(layer))) ?? new Uint8Array(0)),
      );
    return priors;
  } catch {
    disposePriors(priors);
    return null;
  }
}

function isTooLarge({ lower }: Prior): boolean {
  return (
    lower.rows ** 2 * (Float64Array.BYTES_PER_ELEMENT + Float32Array.BYTES_PER_ELEMENT) >
    PRIOR_BYTES_MAX
  );
}

function encode(prior: Prior): Uint8Array {
  const F = prior.lower.rows;
  const vector = (values: Float32Array): StoredTensor => ({
    type: 'F32',
    shape: [values.length],
    values,
  });
  return encodeSafetensors(
    new Map<string, StoredTensor>([
      ['lower', { type: 'F64', shape: [F, F], values: download64(prior.lower) }],
      [
        'prior',
        { type: 'F32', shape: [F, F], values: prior.prior_FF.dataSync<'float32'>().slice() },
      ],
      ['referenceEnergy', vector(prior.referenceEnergy)],
      ['canaryEnergy', vector(prior.canaryEnergy)],
    ]),
    {
      residualWidth: String(prior.residualWidth),
      weightNorm: String(prior.weightNorm),
      ridge: String(prior.ridge),
    },
  );
}

function restore(statistics: KeyStatistics, layer: number, bytes: Uint8Array): Prior {
  const { tensors, metadata } = decodeSafetensors(bytes);
  const lacking = (name: string): Error =>
    new Error(`the kept prior of block ${layer} has no ${name}`);
  const number = (name: string): number => {
    const value = Number(metadata[name] ?? Number.NaN);
    if (!Number.isFinite(value)) throw lacking(name);
    return value;
  };
  const values = <Values extends Float32Array | Float64Array>(
    name: string,
    length: number,
  ): Values => {
    const stored = tensors.get(name)?.values as Values | undefined;
    if (stored?.length !== length) throw lacking(name);
    return stored;
  };
  const [reference_TF, canary_TF] = [
    statistics.referenceKeys.get(layer),
    statistics.canaryKeys.get(layer),
  ];
  if (reference_TF === undefined || canary_TF === undefined)
    throw lacking('keys in the statistics');
  const F = reference_TF.shape[1];
  // Everything that may fail comes before the first tensor is made.
  const lower = values<Float64Array>('lower', F * F);
  const prior = values<Float32Array>('prior', F * F);
  const rest = {
    referenceEnergy: values<Float32Array>('referenceEnergy', reference_TF.shape[0]),
    canaryEnergy: values<Float32Array>('canaryEnergy', canary_TF.shape[0]),
    residualWidth: number('residualWidth'),
    weightNorm: number('weightNorm'),
    ridge: number('ridge'),
  };
  return {
    layer,
    reference_TF,
    canary_TF,
    ...rest,
    lower: upload64(lower, F, F),
    prior_FF: tf.tensor2d(prior, [F, F]),
  };
}
