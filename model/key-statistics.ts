/**
 * What the base model's keys look like on ordinary text: the second moment C0 = E[k k^T] of each edited block, and the
 * texts that gates and canaries are measured on. The text is a file the user names, or the model's own samples: 10 F
 * tokens suffice (arXiv 2506.04226); 6 F did for SmolLM2. The first token of a sequence is left out: its key is the attention sink's.
 */
import * as tf from '@tensorflow/tfjs-core';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { decodeSafetensors, encodeSafetensors, type StoredTensor } from '../schemas/safetensors.ts';
import { decode } from './decode.ts';
import { sequenceLosses } from './perplexity.ts';
import type { Matrix64 } from './float64.ts';
import { add64, download64, free64, multiply64, scale64, scope64, upload64, widen64 } from './float64.ts';
import { seededRandom } from './random.ts';
import { frontTokens } from './sequences.ts';
import type { Tokenizer } from './tokenizer.ts';
import { layOutRows } from './token-rows.ts';
import type { DownHook, Transformer } from './transformer.ts';
import { gatherRows } from './transformer.ts';

export interface KeyStatistics {
  /** C0 [F, F] per edited block. */
  moments: Map<number, Matrix64>;
  /** Tokens that C0 was taken from. */
  tokens: number;
  source: string;
  sha256: string;
  /** Token sequences, front token included: gates are set on `reference`, perplexity is measured on `canary`. */
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

export interface StatisticsOptions {
  /** Edited blocks. */
  layers: readonly number[];
  /** Plain text to read; null: the model samples it. */
  textFile: string | null;
  /** Folder of the cached statistics; null: nothing is read or written. */
  folder: string | null;
  modelSha256: string;
  seed: number;
  contexts: number;
  progress?: (step: string, share: number) => void;
}

/** Tokens per sequence, the front token not counted; fewer where the model's context is shorter. */
const SEQUENCE_TOKENS_MAX = 128;
/** A context of fewer holds no ordinary text. */
const SEQUENCE_TOKENS_MIN = 16;
/** Tokens behind C0 per channel of F. */
const TOKENS_PER_CHANNEL = 6;
const REFERENCE_TOKENS = 2_048;
const CANARY_TOKENS = 1_536;
/** Canary texts are short, so that a gate that opens makes few tokens worth running again. */
const CANARY_SEQUENCE_TOKENS_MAX = 48;
const CONTEXT_TOKENS = 9;
/** Sequences sampled side by side. */
const SAMPLED_TOGETHER = 128;
/** Tokens per forward pass. */
const PASS_TOKENS = 1_024;

/**
 * Reads the statistics from the cache, or takes them and writes the cache. Either way they are what the cache's bytes say,
 * so that a first start and a later one work with the same numbers. Throws RangeError when the text file or the model's
 * context is too short.
 */
export async function keyStatistics(model: Transformer, tokenizer: Tokenizer, options: StatisticsOptions): Promise<KeyStatistics> {
  const text = options.textFile === null ? null : await readFile(options.textFile, 'utf8');
  const source = text === null ? `own samples, seed ${options.seed}` : `file ${path.basename(options.textFile!)}`;
  const identity = createHash('sha256')
    .update(JSON.stringify([STATISTICS_FORMAT, options.modelSha256, options.layers, options.contexts, source, text === null ? '' : [createHash('sha256').update(text).digest('hex'), options.seed]]))
    .digest('hex');
  const file = options.folder === null ? null : path.join(options.folder, `${identity.slice(0, 32)}.safetensors`);
  if (file !== null) {
    const cached = await readFile(file).catch(() => null);
    if (cached !== null) return restore(file, cached, options.layers);
  }
  const size = sequenceTokens(model);
  const sequences = text === null ? await sampleSequences(model, tokenizer, size, options) : cutSequences(tokenizer, text, size, sequencesWanted(model, size), options);
  const contexts = await sampleContexts(model, tokenizer, options);
  const held = Math.ceil((REFERENCE_TOKENS + CANARY_TOKENS) / size);
  const ordinary = sequences.slice(held);
  const moments = await takeMoments(model, ordinary, options);
  const canaries = Math.ceil(CANARY_TOKENS / size);
  const canary = sequences.slice(0, canaries).flatMap((sequence) => pieces(sequence, Math.min(size, CANARY_SEQUENCE_TOKENS_MAX)));
  const reference = sequences.slice(canaries, held);
  const taken: KeyStatistics = {
    moments,
    referenceKeys: keysInPasses(model, reference, options.layers),
    canaryKeys: keysInPasses(model, canary, options.layers),
    tokens: ordinary.reduce((sum, sequence) => sum + sequence.length - 1, 0),
    source,
    canary,
    canaryLoss: sequenceLosses(model, canary, null),
    reference,
    contexts,
    sha256: '',
  };
  const bytes = encode(taken);
  disposeStatistics(taken);
  if (file !== null) {
    await mkdir(path.dirname(file), { recursive: true });
    const partial = `${file}.${process.pid}.partial`;
    await writeFile(partial, bytes);
    await rename(partial, file);
  }
  return restore(file, bytes, options.layers);
}

export function disposeStatistics(statistics: KeyStatistics): void {
  free64(...statistics.moments.values());
  tf.dispose([...statistics.referenceKeys.values(), ...statistics.canaryKeys.values()]);
  for (const held of [statistics.moments, statistics.referenceKeys, statistics.canaryKeys]) held.clear();
}

const STATISTICS_FORMAT = 5;

/** A sequence in pieces of some tokens, each behind the sequence's first token. */
function pieces(sequence: readonly number[], tokens: number): number[][] {
  const [front, ...rest] = sequence;
  const cut: number[][] = [];
  for (let at = 0; at + tokens <= rest.length; at += tokens) cut.push([front!, ...rest.slice(at, at + tokens)]);
  return cut;
}

function sequenceTokens(model: Transformer): number {
  const size = Math.min(SEQUENCE_TOKENS_MAX, model.config.contextMax - 1);
  if (size < SEQUENCE_TOKENS_MIN) throw new RangeError(`the model's context is ${model.config.contextMax} tokens; key statistics need at least ${SEQUENCE_TOKENS_MIN + 1}`);
  return size;
}

function sequencesWanted(model: Transformer, size: number): number {
  return Math.ceil((TOKENS_PER_CHANNEL * model.config.mlpWidth + REFERENCE_TOKENS + CANARY_TOKENS) / size);
}

async function sampleSequences(model: Transformer, tokenizer: Tokenizer, size: number, options: StatisticsOptions): Promise<number[][]> {
  const wanted = sequencesWanted(model, size);
  const front = frontTokens(tokenizer);
  const random = seededRandom(options.seed);
  const sequences: number[][] = [];
  while (sequences.length < wanted) {
    const count = Math.min(SAMPLED_TOGETHER, wanted - sequences.length);
    let step = 0;
    const begun = Array.from({ length: count }, () => (front.length > 0 ? front : [Math.floor(random() * tokenizer.vocabulary)]));
    const sampled = await decode(model, begun, {
      tokensMax: size,
      temperature: 1,
      random,
      between: async () => {
        options.progress?.('sampling ordinary text', (sequences.length + (count * ++step) / size) / wanted);
        await new Promise(setImmediate);
      },
    });
    sequences.push(...sampled.map((tokens, i) => [...begun[i]!, ...tokens]));
  }
  options.progress?.('sampling ordinary text', 1);
  return sequences;
}

function cutSequences(tokenizer: Tokenizer, text: string, size: number, wanted: number, options: StatisticsOptions): number[][] {
  const front = frontTokens(tokenizer);
  const sequences: number[][] = [];
  const waiting: number[] = [];
  // Paragraph by paragraph, so that a large file is not tokenised as one string.
  for (const paragraph of text.split(/(?<=\n)/u)) {
    for (const token of tokenizer.encode(paragraph)) {
      waiting.push(token);
      if (waiting.length === size && sequences.length < wanted) sequences.push([...front, ...waiting.splice(0, size)]);
    }
    if (sequences.length >= wanted) break;
    if (sequences.length % 8 === 0) options.progress?.('reading ordinary text', sequences.length / wanted);
  }
  const least = Math.min(wanted, 2 * Math.ceil((REFERENCE_TOKENS + CANARY_TOKENS) / size));
  if (sequences.length < least) {
    throw new RangeError(`the text for the key statistics has ${sequences.length * size + waiting.length} tokens, at least ${least * size} are needed`);
  }
  return sequences;
}

/** As the method's papers do: short pieces of the model's own text, begun by a common word, ended by a full stop. */
async function sampleContexts(model: Transformer, tokenizer: Tokenizer, options: StatisticsOptions): Promise<number[][]> {
  const openings = ['The', 'Therefore', 'Because', 'I', 'You'];
  const front = frontTokens(tokenizer);
  const begun = Array.from({ length: options.contexts }, (_, i) => tokenizer.encode(openings[i % openings.length]!));
  const sampled = await decode(model, begun.map((tokens) => [...front, ...tokens]), { tokensMax: CONTEXT_TOKENS, temperature: 1, topP: 0.9, random: seededRandom(options.seed + 1) });
  return sampled.map((tokens, i) => tokenizer.encode(`${tokenizer.decode([...begun[i]!, ...tokens.filter((token) => !tokenizer.endTokens.includes(token))])}.`));
}

async function takeMoments(model: Transformer, sequences: number[][], options: StatisticsOptions): Promise<Map<number, Matrix64>> {
  const F = model.config.mlpWidth;
  const sums = new Map(options.layers.map((layer) => [layer, upload64(new Float64Array(F * F), F, F)]));
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

/** The base model's keys [R, F] of whole sequences at some blocks, their first tokens left out. The caller owns them. */
export function keysOf(model: Transformer, sequences: readonly (readonly number[])[], layers: readonly number[]): Map<number, tf.Tensor2D> {
  const rows = layOutRows(sequences);
  const picked = Array.from({ length: rows.count }, (_, row) => row).filter((row) => rows.positions[row] !== 0);
  const keys = new Map<number, tf.Tensor2D>();
  const recorder: DownHook = {
    layers: new Set(layers),
    project(layer, keys_RF, base_RD) {
      keys.set(layer, tf.keep(gatherRows(keys_RF, picked)));
      return base_RD;
    },
  };
  const embedded = model.embed(rows);
  const ran = model.run(embedded, rows, { from: 0, to: Math.max(...layers) + 1 }, { hook: recorder });
  tf.dispose([embedded, ran.hidden]);
  return keys;
}

function sequencesPerPass(sequences: readonly (readonly number[])[]): number {
  const longest = sequences.reduce((most, sequence) => Math.max(most, sequence.length), 1);
  return Math.max(1, Math.floor(PASS_TOKENS / longest));
}

/** keysOf in passes of bounded size. */
function keysInPasses(model: Transformer, sequences: readonly (readonly number[])[], layers: readonly number[]): Map<number, tf.Tensor2D> {
  const parts: Map<number, tf.Tensor2D>[] = [];
  const perPass = sequencesPerPass(sequences);
  for (let begin = 0; begin < sequences.length; begin += perPass) parts.push(keysOf(model, sequences.slice(begin, begin + perPass), layers));
  const whole = new Map(layers.map((layer) => [layer, tf.concat(parts.map((part) => part.get(layer)!))]));
  tf.dispose(parts.flatMap((part) => [...part.values()]));
  return whole;
}

function encode(statistics: KeyStatistics): Uint8Array {
  const tensors = new Map<string, StoredTensor>();
  for (const [layer, moment] of statistics.moments) tensors.set(`moment.${layer}`, { type: 'F64', shape: [moment.rows, moment.columns], values: download64(moment) });
  for (const [name, keys] of [['reference', statistics.referenceKeys], ['canary', statistics.canaryKeys]] as const) {
    for (const [layer, tensor] of keys) tensors.set(`${name}.${layer}`, { type: 'F32', shape: tensor.shape, values: tensor.dataSync() });
  }
  return encodeSafetensors(tensors, {
    tokens: String(statistics.tokens),
    source: statistics.source,
    reference: JSON.stringify(statistics.reference),
    canary: JSON.stringify(statistics.canary),
    canaryLoss: JSON.stringify(statistics.canaryLoss),
    contexts: JSON.stringify(statistics.contexts),
  });
}

function restore(file: string | null, bytes: Uint8Array, layers: readonly number[]): KeyStatistics {
  const { tensors, metadata } = decoded(file, bytes);
  const moments = new Map<number, Matrix64>();
  for (const layer of layers) {
    const stored = tensors.get(`moment.${layer}`);
    if (stored === undefined) throw new Error(`the cached key statistics hold no block ${layer}`);
    moments.set(layer, upload64(stored.values as Float64Array, stored.shape[0]!, stored.shape[1]!));
  }
  const keys = (name: string) =>
    new Map(
      layers.map((layer) => {
        const stored = tensors.get(`${name}.${layer}`);
        if (stored === undefined) throw new Error(`the cached key statistics hold no ${name} keys of block ${layer}`);
        return [layer, tf.tensor2d(stored.values as Float32Array, stored.shape as [number, number])];
      }),
    );
  const list = (name: string) => JSON.parse(metadata[name] ?? '[]') as number[][];
  return {
    moments,
    tokens: Number(metadata['tokens']),
    source: metadata['source'] ?? '',
    sha256: sha256Of(bytes),
    reference: list('reference'),
    canary: list('canary'),
    referenceKeys: keys('reference'),
    canaryKeys: keys('canary'),
    canaryLoss: JSON.parse(metadata['canaryLoss'] ?? '[]') as number[],
    contexts: list('contexts'),
  };
}

function decoded(file: string | null, bytes: Uint8Array): ReturnType<typeof decodeSafetensors> {
  try {
    return decodeSafetensors(bytes);
  } catch (cause) {
    throw new Error(`the cached key statistics ${file ?? ''} are damaged; delete the file, and they are taken anew`, { cause });
  }
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
