/**
 * A tokenizer.json made exact: checked for kinds whose behaviour is known here, and with the two
 * pre-tokenisers that
 * @huggingface/tokenizers treats differently from the Rust library (digits beyond ASCII; what counts as white space in
 * GPT-2's pattern) written as the patterns they stand for.
 */
import { z } from 'zod';
import { firstFaults, excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from '../checkpoint/faults.ts';
import { letterOfByte } from './byte-letters.ts';

export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  normalized?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
}

export interface Component {
  type: string;
  [key: string]: unknown;
}

/** The parts of a tokenizer.json that matter here. */
export interface TokenizerDescription {
  model: Component & { vocab: Record<string, number>; merges: (string | string[])[] };
  added_tokens?: AddedToken[];
  normalizer: Component | null;
  pre_tokenizer: Component | null;
  decoder: Component | null;
}

/** Highest id of a token. */
export const TOKEN_ID_MAX = 999_999;
/** Sequences of normalisers or pre-tokenisers in one another. */
const SEQUENCES_NESTED_MAX = 8;

const id = z.number().int().min(0).max(TOKEN_ID_MAX);
const component = z.looseObject({ type: z.string() }).nullish();
const flag = z.boolean().nullish();
// What is in the file is used, not what zod makes of it: a token may be called __proto__.
const description = z.looseObject({
  model: z.looseObject({
    type: z.string(),
    vocab: z.custom<Record<string, number>>(
      (value) => isTable(value) && Object.values(value).every((item) => id.safeParse(item).success),
      'expected a table of token ids',
    ),
    merges: z.array(z.union([z.string(), z.array(z.string()).length(2)])),
  }),
  added_tokens: z
    .array(
      z.looseObject({
        id,
        content: z.string().min(1),
        special: flag,
        normalized: flag,
        lstrip: flag,
        rstrip: flag,
        single_word: flag,
      }),
    )
    .nullish(),
  normalizer: component,
  pre_tokenizer: component,
  decoder: component,
});

/**
 * The content of a tokenizer.json, checked for what every part of it must be; throws
 * UnreadableCheckpoint that names the file, or UnsupportedCheckpoint.
 */
export function describedTokenizer(
  path: string,
  content: Record<string, unknown>,
): TokenizerDescription {
  const type = (content['model'] as Component | null | undefined)?.type;
  if (typeof type === 'string' && type !== 'BPE') throw unsupported('model', type);
  const checked = description.safeParse(content);
  if (!checked.success) {
    const faults = checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new UnreadableCheckpoint(
      `${path} describes no tokeniser: ${firstFaults(faults)}`,
      { path },
      'Fetch the file again',
    );
  }
  return {
    ...content,
    added_tokens: content['added_tokens'] ?? [],
    normalizer: content['normalizer'] ?? null,
    pre_tokenizer: content['pre_tokenizer'] ?? null,
    decoder: content['decoder'] ?? null,
  } as unknown as TokenizerDescription;
}

function isTable(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface PinnedTokenizer {
  json: TokenizerDescription & { added_tokens: AddedToken[]; post_processor: null };
  kind: 'byte-level' | 'metaspace';
  addedTokens: AddedToken[];
  normalForm: 'NFC' | null;
  /** What a space is written as before it is looked up. */
  spaceLetter: string;
  /** Bytes that have no token and are dropped, as SmolLM2 does with some control characters. */
  droppedBytes: ReadonlySet<number>;
  /** The text cut at the added tokens written out in it; `token` is null for what lies between. */
  splitOffAddedTokens(text: string): { start: number; end: number; token: number | null }[];
  splitOffIds: ReadonlySet<number>;
}

export const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Throws UnsupportedCheckpoint, naming the part, for a tokeniser that is not read. */
export function pinDown(description: TokenizerDescription): PinnedTokenizer {
  if (description.model.type !== 'BPE') throw unsupported('model', description.model.type);
  const preTokenizers = flatten(description.pre_tokenizer, 'pretokenizers').flatMap(
    exactPreTokenizers,
  );
  const byteLevel = preTokenizers.some(({ type }) => type === 'ByteLevel');
  const normalizers = flatten(description.normalizer, 'normalizers');
  checkNormalizers(normalizers, byteLevel);
  if (!byteLevel && !preTokenizers.some(isMetaspace) && !normalizers.some(isMetaspace)) {
    throw unsupported('pre-tokeniser', description.pre_tokenizer?.type ?? 'none');
  }
  const addedTokens = description.added_tokens ?? [];
  const splitOff = addedTokens.filter(
    (token) => normalizers.length === 0 || !(token.normalized ?? !token.special),
  );
  const { vocab } = description.model;
  const dropped = new Set(
    Array.from({ length: 256 }, (_, byte) => byte).filter(
      (byte) => !Object.hasOwn(vocab, letterOfByte[byte]!),
    ),
  );
  return {
    json: {
      ...description,
      added_tokens: addedTokens,
      post_processor: null,
      pre_tokenizer:
        preTokenizers.length === 0 ? null : { type: 'Sequence', pretokenizers: preTokenizers },
    },
    kind: byteLevel ? 'byte-level' : 'metaspace',
    addedTokens,
    normalForm: normalizers.some(({ type }) => type === 'NFC') ? 'NFC' : null,
    spaceLetter: byteLevel ? ' ' : '\u2581',
    droppedBytes: byteLevel ? dropped : new Set(),
    splitOffAddedTokens: splitter(splitOff),
    splitOffIds: new Set(splitOff.map((token) => token.id)),
  };
}

function flatten(
  component: Component | null,
  list: 'normalizers' | 'pretokenizers',
  nested = 0,
): Component[] {
  if (component === null) return [];
  if (component.type !== 'Sequence') return [component];
  const parts = component[list];
  if (
    nested > SEQUENCES_NESTED_MAX ||
    !Array.isArray(parts) ||
    !parts.every((part) => isTable(part) && typeof (part as Component).type === 'string')
  )
    throw unsupported('sequence', `${excerpt(parts)}, ${nested} deep`);
  return (parts as Component[]).flatMap((part) => flatten(part, list, nested + 1));
}

function exactPreTokenizers(component: Component): Component[] {
  switch (component.type) {
    case 'Digits':
      return [isolating(component['individual_digits'] ? '\\p{N}' : '\\p{N}+')];
    case 'ByteLevel': {
      if (component['add_prefix_space'])
        throw unsupported('pre-tokeniser', 'ByteLevel with a prefix space');
      const bytesOnly = { ...component, use_regex: false };
      return component['use_regex'] === false ? [bytesOnly] : [isolating(GPT2_PATTERN), bytesOnly];
    }
    case 'Split': {
      const behavior = String(component['behavior']);
      if (behavior !== 'Isolated' && !(behavior === 'Removed' && component['invert']))
        throw unsupported('pre-tokeniser', `Split, ${behavior}`);
      return [component];
    }
    case 'Metaspace':
      return [component];
    default:
      throw unsupported('pre-tokeniser', component.type);
  }
}

function isolating(pattern: string): Component {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function checkNormalizers(normalizers: Component[], byteLevel: boolean): void {
  const known = byteLevel ? ['NFC'] : ['Prepend', 'Replace'];
  for (const normalizer of normalizers) {
    if (
      !known.includes(normalizer.type) ||
      (normalizer.type === 'Replace' && !isMetaspace(normalizer))
    ) {
      throw unsupported('normaliser', normalizer.type);
    }
  }
}

function isMetaspace(component: Component): boolean {
  if (component.type === 'Metaspace') return (component['replacement'] ?? '\u2581') === '\u2581';
  const pattern = component['pattern'] as { String?: string } | undefined;
  return (
    component.type === 'Replace' && pattern?.String === ' ' && component['content'] === '\u2581'
  );
}

function splitter(tokens: AddedToken[]): PinnedTokenizer['splitOffAddedTokens'] {
  if (tokens.length === 0)
    return (text) => (text === '' ? [] : [{ start: 0, end: text.length, token: null }]);
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(
    longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'),
    'g',
  );
  return (text) => {
    const sections: { start: number; end: number; token: number | null }[] = [];
    let done = 0;
    const pushText = (end: number) => {
      if (end > done) sections.push({ start: done, end, token: null });
    };
    for (const match of text.matchAll(pattern)) {
      if (match.index < done) continue;
      const token = byContent.get(match[0])!;
      let start = match.index;
      let end = start + match[0].length;
      // White space beside such a token is the token's.
      if (token.lstrip) start = Math.max(done, text.slice(0, start).trimEnd().length);
      if (token.rstrip) end = text.length - text.slice(end).trimStart().length;
      pushText(start);
      sections.push({ start, end, token: token.id });
      done = end;
    }
    pushText(text.length);
    return sections;
  };
}

function unsupported(part: string, found: string): UnsupportedCheckpoint {
  return new UnsupportedCheckpoint(
    `The tokeniser's ${part} is ${excerpt(found)}`,
    { part, found: excerpt(found) },
    'Byte-pair encoding on bytes (GPT-2, Llama 3, Qwen2, SmolLM2) or with metaspaces (Llama 2) is read',
  );
}
