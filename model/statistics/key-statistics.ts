/**
 * What the base model's keys look like on ordinary text: the second moment C0 = E[k k^T] of each
 * edited block, and the keys of the texts that gates and canaries are measured on. 10 F tokens
 * suffice (arXiv 2506.04226); 6 F did for SmolLM2. The first token of a sequence is left out: its
 * key is the attention sink's.
 *
 * They are kept on disk block by block, so that editing other blocks takes the new ones alone, and
 * so that no file is larger than one block's: F^2 float64, 1.6 GB for Llama 3 8B.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import path from 'node:path';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../schemas/encoding/safetensors.ts';
import type { Matrix64 } from '../tensor/float64.ts';
import {
  add64,
  download64,
  free64,
  multiply64,
  scale64,
  scope64,
  upload64,
  widen64,
} from '../tensor/float64.ts';
import { ordinaryText, type OrdinaryText, type TextOptions } from './ordinary-text.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { layOutRows } from '../network/token-rows.ts';
import { type DownHook, gatherRows, type Transformer } from '../network/transformer.ts';
import { readSealed, sha256Of, writeSealed } from '../tensor/whole-file.ts';

export interface KeyStatistics {
  /** C0 [F, F] per edited block. */
  moments: Map<number, Matrix64>;
  /** Tokens that C0 was taken from. */
  tokens: number;
  source: string;
  sha256: string;
  /**
   * Token sequences, front token included: gates are set on `reference`, perplexity is measured on
   * `canary`.
   */
  reference: number[][];
  canary: number[][];
  /** The base model's keys [T, F] of either text per edited block, first tokens left out. */
  referenceKeys: Map<number, tf.Tensor2D>;
  canaryKeys: Map<number, tf.Tensor2D>;
  /** The base model's summed -log p over each canary sequence's tokens but the first. */
  canaryLoss: number[];
  /** Prefixes that corrections are also seen behind, without a front token. */
  contexts: number[][];
}

export interface StatisticsOptions extends TextOptions {
  /** Edited blocks. */
  layers: readonly number[];
}

/** Tokens per forward pass. */
const PASS_TOKENS = 1_024;

/**
 * Reads the statistics from the cache, or takes them and writes the cache. Either way they are what
 * the cache's bytes say, so that a first start and a later one work with the same numbers. Throws
 * RangeError when the text file or the model's context is too short.
 */
export async function keyStatistics(
  model: Transformer,
  tokenizer: Tokenizer,
  options: StatisticsOptions,
): Promise<KeyStatistics> {
  const text = await ordinaryText(model, tokenizer, options);
  const statistics: KeyStatistics = {
    moments: new Map(),
    referenceKeys: new Map(),
    canaryKeys: new Map(),
    tokens: text.ordinary.reduce((sum, sequence) => sum + sequence.length - 1, 0),
    source: text.source,
    sha256: '',
    canary: text.canary,
    canaryLoss: text.canaryLoss,
    reference: text.reference,
    contexts: text.contexts,
  };
  const fileOf = (layer: number): string | null =>
    options.folder === null
      ? null
      : path.join(options.folder, `keys-${text.identity}-${layer}.safetensors`);
  const identity = createHash('sha256').update(text.sha256);
  try {
    const absent: number[] = [];
    const hashes = new Map<number, string>();
    for (const layer of options.layers) {
      const file = fileOf(layer);
      const bytes = file === null ? null : await readSealed(file);
      if (bytes === null) absent.push(layer);
      else hashes.set(layer, restoreLayer(statistics, layer, file, bytes));
    }
    if (absent.length > 0) {
      const taken = await takeLayers(model, text, absent, options);
      for (const layer of absent) {
        const bytes = encodeLayer(taken, layer);
        disposeLayer(taken, layer);
        const file = fileOf(layer);
        if (file !== null) await writeSealed(file, bytes);
        hashes.set(layer, restoreLayer(statistics, layer, file, bytes));
      }
    }
    // In the order asked for, whatever was there already.
    for (const map of [statistics.moments, statistics.referenceKeys, statistics.canaryKeys] as Map<
      number,
      unknown
    >[]) {
      for (const layer of options.layers) {
        const value = map.get(layer);
        map.delete(layer);
        map.set(layer, value);
      }
    }
    for (const layer of options.layers) identity.update(`${layer} ${hashes.get(layer)!}\n`);
    return Object.assign(statistics, { sha256: identity.digest('hex') });
  } catch (error) {
    disposeStatistics(statistics);
    throw error;
  }
}

export function disposeStatistics(statistics: KeyStatistics): void {
  for (const layer of [...statistics.moments.keys()]) disposeLayer(statistics, layer);
}

type LayerKeys = Pick<KeyStatistics, 'moments' | 'referenceKeys' | 'canaryKeys'>;

function disposeLayer({ moments, referenceKeys, canaryKeys }: LayerKeys, layer: number): void {
  free64(moments.get(layer)!);
  tf.dispose([referenceKeys.get(layer)!, canaryKeys.get(layer)!]);
  for (const held of [moments, referenceKeys, canaryKeys]) held.delete(layer);
}

async function takeLayers(
  model: Transformer,
  text: OrdinaryText,
  layers: readonly number[],
  options: StatisticsOptions,
): Promise<LayerKeys> {
  return {
    moments: await takeMoments(model, text.ordinary, { ...options, layers }),
    referenceKeys: keysInPasses(model, text.reference, layers),
    canaryKeys: keysInPasses(model, text.canary, layers),
  };
}

async function takeMoments(
  model: Transformer,
  sequences: number[][],
  options: StatisticsOptions,
): Promise<Map<number, Matrix64>> {
  const F = model.config.mlpWidth;
  const sums = new Map(
    options.layers.map((layer) => [layer, upload64(new Float64Array(F * F), F, F)]),
  );
  let tokens = 0;
  const perPass = sequencesPerPass(sequences);
  for (let begin = 0; begin < sequences.length; begin += perPass) {
    const keys = keysOf(model, sequences.slice(begin, begin + perPass), options.layers);
    for (const [layer, keys_RF] of keys) {
      tokens += layer === options.layers[0] ? keys_RF.shape[0] : 0;
      const sum = scope64(() => {
        const wide = widen64(keys_RF);
        return add64(sums.get(layer)!, multiply64(wide, wide, true, false));
      });
      free64(sums.get(layer)!);
      sums.set(layer, sum);
      keys_RF.dispose();
    }
    options.progress?.('taking key statistics', Math.min(1, (begin + perPass) / sequences.length));
    await new Promise(setImmediate);
  }
  for (const [layer, sum] of sums) {
    sums.set(layer, scale64(sum, 1 / tokens));
    free64(sum);
  }
  return sums;
}

/**
 * The base model's keys [R, F] of whole sequences at some blocks, their first tokens left out. The
 * caller owns them.
 */
export function keysOf(
  model: Transformer,
  sequences: readonly (readonly number[])[],
  layers: readonly number[],
): Map<number, tf.Tensor2D> {
  const rows = layOutRows(sequences);
  const picked = Array.from({ length: rows.count }, (_, row) => row).filter(
    (row) => rows.positions[row] !== 0,
  );
  const keys = new Map<number, tf.Tensor2D>();
  const recorder: DownHook = {
    layers: new Set(layers),
    project({ layer, keys_RF, base_RD }) {
      keys.set(layer, tf.keep(gatherRows(keys_RF, picked)));
      return base_RD;
    },
  };
  const embedded = model.embed(rows);
  const ran = model.run(
    embedded,
    rows,
    { from: 0, to: Math.max(...layers) + 1 },
    { hook: recorder },
  );
  tf.dispose([embedded, ran.hidden]);
  return keys;
}

function sequencesPerPass(sequences: readonly (readonly number[])[]): number {
  const longest = sequences.reduce((most, sequence) => Math.max(most, sequence.length), 1);
  return Math.max(1, Math.floor(PASS_TOKENS / longest));
}

/** keysOf in passes of bounded size. */
function keysInPasses(
  model: Transformer,
  sequences: readonly (readonly number[])[],
  layers: readonly number[],
): Map<number, tf.Tensor2D> {
  const parts: Map<number, tf.Tensor2D>[] = [];
  const perPass = sequencesPerPass(sequences);
  for (let begin = 0; begin < sequences.length; begin += perPass)
    parts.push(keysOf(model, sequences.slice(begin, begin + perPass), layers));
  const whole = new Map(
    layers.map((layer) => [layer, tf.concat(parts.map((part) => part.get(layer)!))]),
  );
  tf.dispose(parts.flatMap((part) => [...part.values()]));
  return whole;
}

function encodeLayer({ moments, referenceKeys, canaryKeys }: LayerKeys, layer: number): Uint8Array {
  const moment = moments.get(layer)!;
  const tensors = new Map<string, StoredTensor>([
    ['moment', { type: 'F64', shape: [moment.rows, moment.columns], values: download64(moment) }],
  ]);
  for (const [name, keys] of [
    ['reference', referenceKeys],
    ['canary', canaryKeys],
  ] as const) {
    const tensor = keys.get(layer)!;
    tensors.set(name, { type: 'F32', shape: tensor.shape, values: tensor.dataSync() });
  }
  return encodeSafetensors(tensors);
}

/** Puts a block's statistics where they belong, and returns the hash of their bytes. */
function restoreLayer(
  { moments, referenceKeys, canaryKeys }: LayerKeys,
  layer: number,
  file: string | null,
  bytes: Uint8Array,
): string {
  const { tensors } = decoded(file, bytes);
  const matrix = <Values extends Float32Array | Float64Array>(
    name: string,
    type: 'F32' | 'F64',
  ): { values: Values; shape: [number, number] } => {
    const stored = tensors.get(name);
    if (stored?.type !== type || stored.shape.length !== 2)
      throw damaged(file, `they hold no ${name}`);
    return { values: stored.values as Values, shape: stored.shape as [number, number] };
  };
  const [moment, reference, canary] = [
    matrix<Float64Array>('moment', 'F64'),
    matrix<Float32Array>('reference', 'F32'),
    matrix<Float32Array>('canary', 'F32'),
  ];
  const widths = new Set([...moment.shape, reference.shape[1], canary.shape[1]]);
  if (widths.size !== 1)
    throw damaged(file, `they are of several widths: ${[...widths].join(', ')}`);
  moments.set(layer, upload64(moment.values, ...moment.shape));
  referenceKeys.set(layer, tf.tensor2d(reference.values, reference.shape));
  canaryKeys.set(layer, tf.tensor2d(canary.values, canary.shape));
  return sha256Of(bytes).toString('hex');
}

function decoded(file: string | null, bytes: Uint8Array): ReturnType<typeof decodeSafetensors> {
  try {
    return decodeSafetensors(bytes);
  } catch (cause) {
    throw damaged(file, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

/** Not taken anew by themselves: hooks that were made with them would be others. */
function damaged(file: string | null, why: string, cause?: unknown): Error {
  return new Error(
    `the kept key statistics ${file ?? ''} are damaged (${why}); delete the file, and they are taken anew`,
    { cause },
  );
}
