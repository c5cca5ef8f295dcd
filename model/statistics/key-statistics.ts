/**
 * The second moment C0 = E[k k^T] of the base model's keys on ordinary text, for each edited block.
 * 10 F tokens suffice (arXiv 2506.04226); 6 F did for SmolLM2. The first token of a sequence is
 * skipped, because its key is the attention sink's.
 *
 * The moments are stored block by block. Editing other blocks then takes only the new ones, and no
 * file is larger than one block's F^2 float64, 1.6 GB for Llama 3 8B.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { decodeSafetensors, encodeSafetensors } from '../../schemas/encoding/safetensors.ts';
import { layOutRows, type Sequences } from '../network/token-rows.ts';
import { gatherRows, readKeys, type Transformer } from '../network/transformer.ts';
import {
  add64,
  download64,
  free64,
  multiply64,
  scale64,
  scope64,
  upload64,
  widen64,
  type Matrix64,
} from '../tensor/float64.ts';
import { readSealed, sha256Of, writeSealed } from '../tensor/whole-file.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { ordinaryText, type OrdinaryText, type TextOptions } from './ordinary-text.ts';

export interface KeyStatistics extends Omit<OrdinaryText, 'ordinary'> {
  /** C0 [F, F] per edited block. */
  moments: Map<number, Matrix64>;
  tokens: number;
  sha256: string;
}

export type StatisticsOptions = TextOptions & { layers: readonly number[] };

const PASS_TOKENS = 1_024;

/**
 * Reads the statistics from the cache, or computes them and writes the cache. Either way they are
 * decoded from the cache's bytes, so that every start works with the same numbers. Throws
 * RangeError if the text file or the model's context is too short.
 */
export async function keyStatistics(
  model: Transformer,
  tokenizer: Tokenizer,
  options: StatisticsOptions,
): Promise<KeyStatistics> {
  const text = await ordinaryText(model, tokenizer, options);
  const { folder, layers } = options;
  const fileOf = (layer: number): string | null =>
    folder === null ? null : path.join(folder, `keys-${text.identity}-${layer}.safetensors`);
  const restored = new Map<number, RestoredMoment>();
  try {
    const absent: number[] = [];
    for (const layer of layers) {
      const file = fileOf(layer);
      const bytes = file === null ? null : await readSealed(file);
      if (bytes === null) absent.push(layer);
      else restored.set(layer, restore(file, bytes));
    }
    const taken = await takeMoments(model, text.ordinary, { ...options, layers: absent });
    for (const [layer, moment] of taken) {
      const bytes = encode(moment);
      free64(moment);
      const file = fileOf(layer);
      if (file !== null) await writeSealed(file, bytes);
      restored.set(layer, restore(file, bytes));
    }
  } catch (error) {
    for (const { moment } of restored.values()) free64(moment);
    throw error;
  }
  const { ordinary, identity: _, ...kept } = text;
  const identity = createHash('sha256').update(text.sha256);
  for (const layer of layers) identity.update(`${layer} ${restored.get(layer)!.sha256}\n`);
  return {
    ...kept,
    moments: new Map(layers.map((layer) => [layer, restored.get(layer)!.moment])),
    tokens: ordinary.reduce((sum, sequence) => sum + sequence.length - 1, 0),
    sha256: identity.digest('hex'),
  };
}

export function disposeStatistics({ moments }: KeyStatistics): void {
  for (const moment of moments.values()) free64(moment);
  moments.clear();
}

async function takeMoments(
  model: Transformer,
  sequences: number[][],
  { layers, progress }: StatisticsOptions,
): Promise<Map<number, Matrix64>> {
  if (layers.length === 0) return new Map();
  const F = model.config.mlpWidth;
  const sums = new Map(layers.map((layer) => [layer, upload64(new Float64Array(F * F), F, F)]));
  let tokens = 0;
  const perPass = sequencesPerPass(sequences);
  for (let begin = 0; begin < sequences.length; begin += perPass) {
    const keys = keysOf(model, sequences.slice(begin, begin + perPass), layers);
    for (const [layer, keys_RF] of keys) {
      tokens += layer === layers[0] ? keys_RF.shape[0] : 0;
      const sum = scope64(() => {
        const wide = widen64(keys_RF);
        return add64(sums.get(layer)!, multiply64(wide, wide, true, false));
      });
      free64(sums.get(layer)!);
      sums.set(layer, sum);
      keys_RF.dispose();
    }
    progress?.('taking key statistics', Math.min(1, (begin + perPass) / sequences.length));
    await new Promise(setImmediate);
  }
  for (const [layer, sum] of sums) {
    sums.set(layer, scale64(sum, 1 / tokens));
    free64(sum);
  }
  return sums;
}

/**
 * The base model's keys [R, F] of whole sequences at some blocks, without first tokens. The caller
 * owns them.
 */
export function keysOf(
  model: Transformer,
  sequences: Sequences,
  layers: readonly number[],
): Map<number, tf.Tensor2D> {
  const rows = layOutRows(sequences);
  const picked = Array.from({ length: rows.count }, (_, row) => row).filter(
    (row) => rows.positions[row] !== 0,
  );
  const keys = new Map<number, tf.Tensor2D>();
  readKeys(model, rows, layers, (layer, keys_RF) =>
    keys.set(layer, tf.keep(gatherRows(keys_RF, picked))),
  );
  return keys;
}

function sequencesPerPass(sequences: Sequences): number {
  const longest = sequences.reduce((most, sequence) => Math.max(most, sequence.length), 1);
  return Math.max(1, Math.floor(PASS_TOKENS / longest));
}

interface RestoredMoment {
  moment: Matrix64;
  sha256: string;
}

function encode(moment: Matrix64): Uint8Array {
  const { rows, columns } = moment;
  return encodeSafetensors(
    new Map([
      ['moment', { type: 'F64' as const, shape: [rows, columns], values: download64(moment) }],
    ]),
  );
}

function restore(file: string | null, bytes: Uint8Array): RestoredMoment {
  const stored = decoded(file, bytes).tensors.get('moment');
  const [rows, columns] = stored?.shape ?? [];
  if (stored?.type !== 'F64' || rows === undefined || rows !== columns)
    throw damaged(file, 'no square moment');
  return {
    moment: upload64(stored.values as Float64Array, rows, rows),
    sha256: sha256Of(bytes).toString('hex'),
  };
}

function decoded(file: string | null, bytes: Uint8Array): ReturnType<typeof decodeSafetensors> {
  try {
    return decodeSafetensors(bytes);
  } catch (cause) {
    throw damaged(file, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

/** Statistics are never recomputed automatically: hooks made with the old ones would change. */
function damaged(file: string | null, why: string, cause?: unknown): Error {
  return new Error(
    `the key statistics ${file ?? ''} are damaged (${why}); delete the file to take them anew`,
    { cause },
  );
}
