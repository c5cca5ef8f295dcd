/** The tokeniser in a GGUF's metadata, as the tokenizer.json it was converted from. */
import type { Component, TokenizerDescription } from '../tokenizer/description.ts';
import { createTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import type { GgufValue } from './gguf-header.ts';

const byteLevel: Component = {
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: true,
};
const bytesOnly: Component = { ...byteLevel, use_regex: false };
const contraction = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";

function llama3Split(digits: string): Component {
  const Regex = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
  return { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false };
}

interface PreTokeniser {
  preTokenizers: Component[];
  normalizer?: Component;
  /** A word that is a token as a whole is not merged from its parts. */
  ignoreMerges?: boolean;
}

const digitsThenBytes: PreTokeniser = {
  preTokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel],
};
const llama3: PreTokeniser = {
  preTokenizers: [llama3Split('\\p{N}{1,3}'), bytesOnly],
  ignoreMerges: true,
};

/** By the name that llama.cpp's conversion gives a pre-tokeniser (`tokenizer.ggml.pre`). */
const preTokenisers: Record<string, PreTokeniser> = {
  'gpt-2': { preTokenizers: [byteLevel] },
  smollm: digitsThenBytes,
  starcoder: digitsThenBytes,
  'llama-bpe': llama3,
  'llama-v3': llama3,
  llama3,
  qwen2: { preTokenizers: [llama3Split('\\p{N}'), bytesOnly], normalizer: { type: 'NFC' } },
};

const tokenTypes = { normal: 1, control: 3, userDefined: 4 };
/**
 * Tokens that end a turn or a text under these names in the published models, beside the one the
 * metadata names.
 */
const endNames = new Set([
  '<|endoftext|>',
  '<|im_end|>',
  '<|eot_id|>',
  '<|end_of_text|>',
  '<|eom_id|>',
  '</s>',
]);

/**
 * Throws UnsupportedCheckpoint for a tokeniser that is not read, UnreadableCheckpoint for one that
 * is incomplete.
 */
export function ggufTokenizer(path: string, metadata: ReadonlyMap<string, GgufValue>): Tokenizer {
  const model = metadata.get('tokenizer.ggml.model');
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'none';
  const kind =
    typeof pre === 'string' && Object.hasOwn(preTokenisers, pre) ? preTokenisers[pre] : undefined;
  if (model !== 'gpt2' || kind === undefined) {
    throw new UnsupportedCheckpoint(
      `${path}: tokeniser ${excerpt(model)} with pre-tokeniser ${excerpt(pre)}`,
      { path, model: excerpt(model), pre: excerpt(pre) },
      `From GGUF files "gpt2" with ${Object.keys(preTokenisers).join(', ')} is read; a folder in the Hugging Face layout brings a tokeniser of its own`,
    );
  }
  const tokens = texts(path, metadata, 'tokenizer.ggml.tokens');
  const types = metadata.get('tokenizer.ggml.token_type') ?? tokens.map(() => tokenTypes.normal);
  if (!Array.isArray(types) || types.length !== tokens.length) {
    throw new UnreadableCheckpoint(
      `${path}: the types of its ${tokens.length} tokens are ${excerpt(types)}`,
      { path, tokens: tokens.length },
      'The file is damaged; convert the model again',
    );
  }
  // No prototype, so that a token called __proto__ is one like any other.
  const vocab = Object.create(null) as Record<string, number>;
  tokens.forEach((token, id) => (vocab[token] = id));
  const added = tokens
    .map((content, id) => ({
      id,
      content,
      special: types[id] === tokenTypes.control,
      normalized: false,
    }))
    .filter(({ id }) => types[id] === tokenTypes.control || types[id] === tokenTypes.userDefined);
  const description: TokenizerDescription = {
    model: {
      type: 'BPE',
      vocab,
      merges: texts(path, metadata, 'tokenizer.ggml.merges'),
      ignore_merges: kind.ignoreMerges ?? false,
    },
    added_tokens: added,
    normalizer: kind.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: kind.preTokenizers },
    decoder: byteLevel,
  };
  const endTokens = new Set<number>();
  const named = (key: string): number | null => {
    const id = metadata.get(key);
    return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < tokens.length
      ? id
      : null;
  };
  for (const id of [named('tokenizer.ggml.eos_token_id'), named('tokenizer.ggml.eot_token_id')])
    if (id !== null) endTokens.add(id);
  for (const { id, content } of added) if (endNames.has(content)) endTokens.add(id);
  return createTokenizer(description, {
    beginToken: named('tokenizer.ggml.bos_token_id'),
    endTokens: [...endTokens],
  });
}

function texts(path: string, metadata: ReadonlyMap<string, GgufValue>, key: string): string[] {
  const list = metadata.get(key);
  if (
    !Array.isArray(list) ||
    list.length === 0 ||
    !list.every((item) => typeof item === 'string')
  ) {
    throw new UnreadableCheckpoint(
      `${path}: metadata "${key}" is no list of texts`,
      { path, key },
      'The file holds no tokeniser; convert the model again',
    );
  }
  return list;
}
