/**
 * Ordinary text as token sequences, for key statistics and the canary: the user's file, or the
 * model's own samples. It does not depend on the edited blocks, so statistics of other blocks need
 * no new samples.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';
import { decode } from '../network/decode.ts';
import type { Transformer } from '../network/transformer.ts';
import { sequenceLosses } from '../network/perplexity.ts';
import { seededRandom } from '../tensor/random.ts';
import { frontTokens } from '../network/sequences.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { readSealed, sha256Of, writeSealed } from '../tensor/whole-file.ts';

export interface OrdinaryText {
  /** A description of where the text is from. */
  source: string;
  /**
   * Token sequences with the front token. Statistics are taken from `ordinary`; perplexity is
   * measured on `canary`.
   */
  ordinary: number[][];
  canary: number[][];
  /** The base model's summed -log p over each canary sequence's tokens, except the first. */
  canaryLoss: number[];
  /** Prefixes that corrections are also read behind, without a front token. */
  contexts: number[][];
}

export interface TextOptions {
  /** Plain text to read; null means that the model samples it. */
  textFile: string | null;
  /** Folder of cached texts; null means no cache. */
  folder: string | null;
  modelSha256: string;
  seed: number;
  contexts: number;
  progress?: (step: string, share: number) => void;
}

/** Tokens per sequence without the front token; fewer if the model's context is shorter. */
export const SEQUENCE_TOKENS_MAX = 128;
/** Below this context length there is no room for ordinary text. */
const SEQUENCE_TOKENS_MIN = 16;
/** Tokens behind C0 per channel of F. */
const TOKENS_PER_CHANNEL = 6;
export const TEXT_FILE_BYTES_MAX = 256 * 2 ** 20;
const CANARY_TOKENS = 1_536;
/** Number of first tokens that statistics skip. The canary is taken from the start of them. */
const HELD_OUT_TOKENS = 3_584;
/** Canary texts are short, so that the model reruns few tokens when a gate opens. */
const CANARY_SEQUENCE_TOKENS_MAX = 48;
const CONTEXT_TOKENS = 9;
/** Sequences sampled side by side, and the most bytes of their keys and values. */
const SAMPLED_TOGETHER_MAX = 128;
const SAMPLED_BYTES_MAX = 2 ** 31;

/**
 * Reads the text from the cache, or makes it and writes the cache. `identity` names the text and
 * its statistics. Throws RangeError if the text file or the model's context is too short.
 */
export async function ordinaryText(
  model: Transformer,
  tokenizer: Tokenizer,
  options: TextOptions,
): Promise<OrdinaryText & { identity: string; sha256: string }> {
  const text = options.textFile === null ? null : await readText(options.textFile);
  const source =
    text === null
      ? `own samples, seed ${options.seed}`
      : `file ${path.basename(options.textFile!)}`;
  const identity = createHash('sha256')
    .update(
      JSON.stringify([
        TEXT_FORMAT,
        options.modelSha256,
        options.contexts,
        source,
        text === null ? '' : createHash('sha256').update(text).digest('hex'),
        options.seed,
      ]),
    )
    .digest('hex')
    .slice(0, 32);
  const file = options.folder === null ? null : path.join(options.folder, `text-${identity}.json`);
  let bytes = file === null ? null : await readSealed(file);
  if (bytes === null) {
    const made = await makeText(model, tokenizer, { text, source }, options);
    bytes = new TextEncoder().encode(JSON.stringify(made));
    if (file !== null) await writeSealed(file, bytes);
  }
  return { ...parsed(file, bytes), identity, sha256: sha256Of(bytes).toString('hex') };
}

/** Returns the number of sequences that a model samples side by side. */
export function sampledTogether(config: ModelConfig): number {
  const { layers, keyValueHeads, headWidth } = config;
  const tokenBytes = 2 * Float32Array.BYTES_PER_ELEMENT * layers * keyValueHeads * headWidth;
  const sequenceBytes = tokenBytes * (SEQUENCE_TOKENS_MAX + 1);
  return Math.max(1, Math.min(SAMPLED_TOGETHER_MAX, Math.floor(SAMPLED_BYTES_MAX / sequenceBytes)));
}

const TEXT_FORMAT = 7;

async function makeText(
  model: Transformer,
  tokenizer: Tokenizer,
  { text, source }: { text: string | null; source: string },
  options: TextOptions,
): Promise<OrdinaryText> {
  const size = sequenceTokens(model);
  const tokens = TOKENS_PER_CHANNEL * model.config.mlpWidth + HELD_OUT_TOKENS;
  const wanted = Math.ceil(tokens / size);
  const sequences =
    text === null
      ? await sampleSequences(model, tokenizer, { size, wanted }, options)
      : cutSequences(tokenizer, text, { size, wanted }, options);
  const contexts = await sampleContexts(model, tokenizer, options);
  const held = Math.ceil(HELD_OUT_TOKENS / size);
  const canaries = Math.ceil(CANARY_TOKENS / size);
  const canary = sequences
    .slice(0, canaries)
    .flatMap((sequence) => pieces(sequence, Math.min(size, CANARY_SEQUENCE_TOKENS_MAX)));
  return {
    source,
    ordinary: sequences.slice(held),
    canary,
    canaryLoss: sequenceLosses(model, canary, null),
    contexts,
  };
}

async function readText(file: string): Promise<string> {
  const { size } = await stat(file);
  if (size > TEXT_FILE_BYTES_MAX)
    throw new RangeError(
      `the text for the key statistics has ${size} bytes, at most ${TEXT_FILE_BYTES_MAX} are read`,
    );
  return readFile(file, 'utf8');
}

const sequences = z.array(z.array(z.number().int().nonnegative()));
const keptText = z.object({
  source: z.string(),
  ordinary: sequences,
  canary: sequences,
  canaryLoss: z.array(z.number()),
  contexts: sequences,
});

function parsed(file: string | null, bytes: Uint8Array): OrdinaryText {
  try {
    return keptText.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new Error(
      `the kept text ${file ?? ''} is damaged; delete the file, and it is made anew`,
      { cause },
    );
  }
}

/** Cuts a sequence into pieces, each behind the sequence's first token. */
function pieces(sequence: readonly number[], tokens: number): number[][] {
  const [front, ...rest] = sequence;
  const cut: number[][] = [];
  for (let at = 0; at + tokens <= rest.length; at += tokens)
    cut.push([front!, ...rest.slice(at, at + tokens)]);
  return cut;
}

function sequenceTokens(model: Transformer): number {
  const size = Math.min(SEQUENCE_TOKENS_MAX, model.config.contextMax - 1);
  if (size < SEQUENCE_TOKENS_MIN)
    throw new RangeError(
      `the model's context is ${model.config.contextMax} tokens; ` +
        `key statistics need at least ${SEQUENCE_TOKENS_MIN + 1}`,
    );
  return size;
}

interface Sizes {
  size: number;
  wanted: number;
}

async function sampleSequences(
  model: Transformer,
  tokenizer: Tokenizer,
  { size, wanted }: Sizes,
  options: TextOptions,
): Promise<number[][]> {
  const front = frontTokens(tokenizer);
  const random = seededRandom(options.seed);
  const sequences: number[][] = [];
  while (sequences.length < wanted) {
    const count = Math.min(sampledTogether(model.config), wanted - sequences.length);
    let step = 0;
    const begun = Array.from({ length: count }, () =>
      front.length > 0 ? front : [Math.floor(random() * tokenizer.vocabulary)],
    );
    const sampled = await decode(model, begun, {
      tokensMax: size,
      temperature: 1,
      random,
      between: async () => {
        options.progress?.(
          'sampling ordinary text',
          (sequences.length + (count * ++step) / size) / wanted,
        );
        await new Promise(setImmediate);
      },
    });
    sequences.push(...sampled.map((tokens, i) => [...begun[i]!, ...tokens]));
  }
  options.progress?.('sampling ordinary text', 1);
  return sequences;
}

function cutSequences(
  tokenizer: Tokenizer,
  text: string,
  { size, wanted }: Sizes,
  options: TextOptions,
): number[][] {
  const front = frontTokens(tokenizer);
  const sequences: number[][] = [];
  const waiting: number[] = [];
  // Paragraph by paragraph, so that a large file is not tokenised as one string.
  for (const paragraph of text.split(/(?<=\n)/u)) {
    for (const token of tokenizer.encode(paragraph)) {
      waiting.push(token);
      if (waiting.length === size && sequences.length < wanted)
        sequences.push([...front, ...waiting.splice(0, size)]);
    }
    if (sequences.length >= wanted) break;
    if (sequences.length % 8 === 0)
      options.progress?.('reading ordinary text', sequences.length / wanted);
  }
  const least = Math.min(wanted, 2 * Math.ceil(HELD_OUT_TOKENS / size));
  if (sequences.length < least) {
    const tokens = sequences.length * size + waiting.length;
    throw new RangeError(
      `the text for the key statistics has ${tokens} tokens, at least ${least * size} are needed`,
    );
  }
  return sequences;
}

/** Samples short pieces of text from a common first word to a full stop, as the papers do. */
async function sampleContexts(model: Transformer, tokenizer: Tokenizer, options: TextOptions) {
  const openings = ['The', 'Therefore', 'Because', 'I', 'You'];
  const front = frontTokens(tokenizer);
  const begun = Array.from({ length: options.contexts }, (_, i) =>
    tokenizer.encode(openings[i % openings.length]!),
  );
  const sampled = await decode(
    model,
    begun.map((tokens) => [...front, ...tokens]),
    {
      tokensMax: CONTEXT_TOKENS,
      temperature: 1,
      topP: 0.9,
      random: seededRandom(options.seed + 1),
    },
  );
  return sampled.map((tokens, i) => {
    const text = tokens.filter((token) => !tokenizer.endTokens.includes(token));
    return tokenizer.encode(`${tokenizer.decode([...begun[i]!, ...text])}.`);
  });
}
