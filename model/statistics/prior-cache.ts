/**
 * A disk cache of priors. Building them is the longest part of loading a small model, and every
 * process with a model needs them. Files are named by the hash of their inputs.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../schemas/encoding/safetensors.ts';
import { download64, upload64 } from '../tensor/float64.ts';
import type { KeyStatistics } from './key-statistics.ts';
import { disposePriors, type Prior } from './prior.ts';
import { readSealed, writeSealed } from '../tensor/whole-file.ts';

/** Largest file of one block, the largest array of Node.js 20. Larger priors are always built. */
const PRIOR_BYTES_MAX = 4 * 2 ** 30 - 2 ** 20;

/**
 * Reads the priors of all edited blocks from the folder, or builds them and writes them there. With
 * a null folder they are only built. An unreadable file counts as absent. The caller owns the
 * priors. Throws what `build` throws.
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
  const kept = await readAll(parameters.layers, fileOf);
  if (kept !== null) return kept;
  const built = build();
  for (const [layer, prior] of [...built]) {
    if (prior.lower.rows ** 2 * ENTRY_BYTES > PRIOR_BYTES_MAX) continue;
    // A float64 loses its last bits in the file, so the builder also uses the values read back.
    const bytes = encode(prior);
    // Freed block by block, so that two copies of all priors never exist.
    built.delete(layer);
    disposePriors(new Map([[layer, prior]]));
    built.set(layer, restore(layer, bytes));
    await writeSealed(fileOf(layer), bytes);
  }
  return new Map(parameters.layers.map((layer) => [layer, built.get(layer)!]));
}

/** One float64 of the factor and one float32 of the inverse. */
const ENTRY_BYTES = 8 + 4;
const PRIOR_FORMAT = 2;

/** The statistics' hash also covers the base model, which the keys come from. */
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

/** Reads all priors; null if one is missing, because all are built together. */
async function readAll(layers: readonly number[], fileOf: (layer: number) => string) {
  const priors = new Map<number, Prior>();
  try {
    for (const layer of layers)
      priors.set(layer, restore(layer, (await readSealed(fileOf(layer))) ?? new Uint8Array(0)));
    return priors;
  } catch {
    disposePriors(priors);
    return null;
  }
}

function encode(prior: Prior): Uint8Array {
  const F = prior.lower.rows;
  return encodeSafetensors(
    new Map<string, StoredTensor>([
      ['lower', { type: 'F64', shape: [F, F], values: download64(prior.lower) }],
      [
        'prior',
        { type: 'F32', shape: [F, F], values: prior.prior_FF.dataSync<'float32'>().slice() },
      ],
    ]),
    {
      residualWidth: String(prior.residualWidth),
      weightNorm: String(prior.weightNorm),
      ridge: String(prior.ridge),
    },
  );
}

function restore(layer: number, bytes: Uint8Array): Prior {
  const { tensors, metadata } = decodeSafetensors(bytes);
  const lacking = (name: string) => new Error(`the kept prior of block ${layer} has no ${name}`);
  const number = (name: string): number => {
    const value = Number(metadata[name] ?? Number.NaN);
    if (!Number.isFinite(value)) throw lacking(name);
    return value;
  };
  const matrix = <Values extends Float32Array | Float64Array>(name: string) => {
    const stored = tensors.get(name);
    const [F, width] = stored?.shape ?? [];
    if (F === undefined || F !== width) throw lacking(name);
    return { F, values: stored!.values as Values };
  };
  // Checks that may fail come before the first tensor is made.
  const lower = matrix<Float64Array>('lower');
  const prior = matrix<Float32Array>('prior');
  const numbers = {
    residualWidth: number('residualWidth'),
    weightNorm: number('weightNorm'),
    ridge: number('ridge'),
  };
  return {
    layer,
    ...numbers,
    lower: upload64(lower.values, lower.F, lower.F),
    prior_FF: tf.tensor2d(prior.values, [prior.F, prior.F]),
  };
}
