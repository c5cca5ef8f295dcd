/** Rebuilds the tokenizer.json from which a GGUF's tokeniser metadata was converted. */
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from '../format/faults.ts';
import type { GgufValue } from '../format/gguf-header.ts';
import type { Component } from '../tokenizer/description.ts';
import { createTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';

const bytesOnly: Component = {
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: false,
};
const byteLevel: Component = { ...bytesOnly, use_regex: true };

function llama3Split(digits: string): Component {
  const Regex = [
    "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+',
    digits,
    ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*',
    '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
  ].join('|');
  return { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false };
}

interface PreTokeniser {
  preTokenizers: Component[];
  normalizer?: Component;
  /** True if a word that is itself a token is not merged from its parts. */
  ignoreMerges?: boolean;
}

const digitsThenBytes: PreTokeniser = {
  preTokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel],
};
const llama3: PreTokeniser = {
  preTokenizers: [llama3Split('\\p{N}{1,3}'), bytesOnly],
  ignoreMerges: true,
};

/** Keyed by the pre-tokeniser names of llama.cpp's conversion (`tokenizer.ggml.pre`). */
const preTokenisers = new Map<unknown, PreTokeniser>([
  ['gpt-2', { preTokenizers: [byteLevel] }],
  ['smollm', digitsThenBytes],
  ['starcoder', digitsThenBytes],
  ['llama-bpe', llama3],
  ['llama-v3', llama3],
  ['llama3', llama3],
  ['qwen2', { preTokenizers: [llama3Split('\\p{N}'), bytesOnly], normalizer: { type: 'NFC' } }],
]);

const tokenTypes = { normal: 1, control: 3, userDefined: 4 };
/** Tokens that end a turn or a text in published models, besides the one in the metadata. */
const endNames = new Set([
  '<|endoftext|>',
  '<|im_end|>',
  '<|eot_id|>',
  '<|end_of_text|>',
  '<|eom_id|>',
  '</s>',
]);

/** Throws UnsupportedCheckpoint, or UnreadableCheckpoint if the tokeniser is incomplete. */
export function ggufTokenizer(path: string, metadata: ReadonlyMap<string, GgufValue>): Tokenizer {
  const kind = preTokeniserOf(path, metadata);
  const tokens = texts(path, metadata, 'tokenizer.ggml.tokens');
  const types = metadata.get('tokenizer.ggml.token_type') ?? tokens.map(() => tokenTypes.normal);
  if (!Array.isArray(types) || types.length !== tokens.length)
    throw new UnreadableCheckpoint(
      path,
      `the types of its ${tokens.length} tokens are ${excerpt(types)}`,
      'The file is damaged; convert the model again',
    );
  // Without a prototype, so that __proto__ is a token like any other.
  const vocab = Object.create(null) as Record<string, number>;
  tokens.forEach((token, id) => (vocab[token] = id));
  const added = tokens
    .map((content, id) => {
      const special = types[id] === tokenTypes.control;
      return { id, content, special, normalized: false };
    })
    .filter(({ id, special }) => special || types[id] === tokenTypes.userDefined);
  const idAt = (key: string): number[] => {
    const id = metadata.get(`tokenizer.ggml.${key}`);
    const isToken = typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < tokens.length;
    return isToken ? [id] : [];
  };
  const ending = added.filter(({ content }) => endNames.has(content)).map(({ id }) => id);
  const endTokens = [...new Set([...idAt('eos_token_id'), ...idAt('eot_token_id'), ...ending])];
  const merges = texts(path, metadata, 'tokenizer.ggml.merges');
  return createTokenizer(
    {
      model: { type: 'BPE', vocab, merges, ignore_merges: kind.ignoreMerges ?? false },
      added_tokens: added,
      normalizer: kind.normalizer ?? null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: kind.preTokenizers },
      decoder: byteLevel,
    },
    { beginToken: idAt('bos_token_id')[0] ?? null, endTokens },
  );
}

function preTokeniserOf(path: string, metadata: ReadonlyMap<string, GgufValue>): PreTokeniser {
  const model = metadata.get('tokenizer.ggml.model');
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'none';
  const kind = preTokenisers.get(pre);
  if (model === 'gpt2' && kind !== undefined) return kind;
  throw new UnsupportedCheckpoint(
    path,
    `tokeniser ${excerpt(model)} with pre-tokeniser ${excerpt(pre)}`,
    `GGUF files are read with "gpt2" and ${[...preTokenisers.keys()].join(', ')}; ` +
      'use the Hugging Face layout, which has a tokeniser of its own',
  );
}

function texts(path: string, metadata: ReadonlyMap<string, GgufValue>, key: string): string[] {
  const list = metadata.get(key);
  if (Array.isArray(list) && list.length > 0 && list.every((item) => typeof item === 'string'))
    return list;
  throw new UnreadableCheckpoint(
    path,
    `metadata "${key}" is not a list of texts`,
    'The file holds no tokeniser; convert the model again',
  );
}
