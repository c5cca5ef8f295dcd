/**
 * Checks and normalises a tokenizer.json. Only kinds with known behaviour are accepted. Two
 * pre-tokenisers that @huggingface/tokenizers treats differently from the Rust library (digits
 * beyond ASCII; white space in GPT-2's pattern) are replaced by equivalent patterns.
 */
import { z } from 'zod';
import { excerpt, faultsFound, firstFaults } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from '../format/faults.ts';
import type { Rewriting } from './alignment.ts';
import { letterOfByte } from './byte-letters.ts';

interface AddedToken {
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

/** The parts of a tokenizer.json that are used. */
export interface TokenizerDescription {
  model: Component & { vocab: Record<string, number>; merges: (string | string[])[] };
  added_tokens?: AddedToken[];
  normalizer: Component | null;
  pre_tokenizer: Component | null;
  decoder: Component | null;
}

export const TOKEN_ID_MAX = 999_999;
/** Deepest nesting of sequences of normalisers or pre-tokenisers. */
const SEQUENCES_NESTED_MAX = 8;

const id = z.number().int().min(0).max(TOKEN_ID_MAX);
const component = z.looseObject({ type: z.string() }).nullish();
const flag = z.boolean().nullish();
// Uses the file's content instead of zod's copy: a token may be called __proto__.
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
 * Checks the content of the tokenizer.json at `path`. Throws UnreadableCheckpoint and
 * UnsupportedCheckpoint.
 */
export function describedTokenizer(
  path: string,
  content: Record<string, unknown>,
): TokenizerDescription {
  const type = (content['model'] as Component | null | undefined)?.type;
  if (typeof type === 'string' && type !== 'BPE') throw unsupported('model', type);
  const checked = description.safeParse(content);
  if (!checked.success)
    throw new UnreadableCheckpoint(
      path,
      `describes no tokeniser: ${firstFaults(faultsFound(checked.error))}`,
      'Fetch the file again',
    );
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

/** A range of a text: one added token, or the text between two (`token` is null). */
interface Section {
  start: number;
  end: number;
  token: number | null;
}

/** A tokeniser with known behaviour. */
export interface ExactTokenizer extends Rewriting {
  json: TokenizerDescription & { added_tokens: AddedToken[]; post_processor: null };
  kind: 'byte-level' | 'metaspace';
  addedContents: ReadonlySet<string>;
  /** Splits a text at the added tokens that are written out in it. */
  splitOffAddedTokens(text: string): Section[];
  splitOffIds: ReadonlySet<number>;
}

const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Throws UnsupportedCheckpoint, naming the unsupported part. */
export function exactTokenizer(description: TokenizerDescription): ExactTokenizer {
  const { model, added_tokens: addedTokens = [], pre_tokenizer: preTokenizer } = description;
  if (model.type !== 'BPE') throw unsupported('model', model.type);
  const preTokenizers = flatten(preTokenizer, 'pretokenizers').flatMap(exactPreTokenizers);
  const byteLevel = preTokenizers.some(({ type }) => type === 'ByteLevel');
  const normalizers = flatten(description.normalizer, 'normalizers');
  checkNormalizers(normalizers, byteLevel);
  if (!byteLevel && !preTokenizers.some(isMetaspace) && !normalizers.some(isMetaspace))
    throw unsupported('pre-tokeniser', preTokenizer?.type ?? 'none');
  const splitOff = addedTokens.filter(
    (token) => normalizers.length === 0 || !(token.normalized ?? !token.special),
  );
  const bytes = byteLevel ? letterOfByte.map((letter, byte) => ({ letter, byte })) : [];
  const dropped = bytes.filter(({ letter }) => !Object.hasOwn(model.vocab, letter));
  return {
    json: {
      ...description,
      added_tokens: addedTokens,
      post_processor: null,
      pre_tokenizer:
        preTokenizers.length === 0 ? null : { type: 'Sequence', pretokenizers: preTokenizers },
    },
    kind: byteLevel ? 'byte-level' : 'metaspace',
    addedContents: new Set(addedTokens.map(({ content }) => content)),
    normalForm: normalizers.some(({ type }) => type === 'NFC') ? 'NFC' : null,
    spaceLetter: byteLevel ? ' ' : '\u2581',
    droppedBytes: new Set(dropped.map(({ byte }) => byte)),
    splitOffAddedTokens: splitter(splitOff),
    splitOffIds: new Set(splitOff.map(({ id }) => id)),
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

function splitter(tokens: AddedToken[]): (text: string) => Section[] {
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const escaped = longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
  const pattern = tokens.length === 0 ? null : new RegExp(escaped.join('|'), 'g');
  return (text) => {
    const sections: Section[] = [];
    let done = 0;
    const pushText = (end: number) => {
      if (end > done) sections.push({ start: done, end, token: null });
    };
    for (const match of pattern === null ? [] : text.matchAll(pattern)) {
      if (match.index < done) continue;
      const token = byContent.get(match[0])!;
      let start = match.index;
      let end = start + match[0].length;
      // White space next to such a token belongs to it.
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
    'tokeniser',
    `its ${part} is ${excerpt(found)}`,
    'Byte-pair encoding is read on bytes (GPT-2, Llama 3, Qwen2, SmolLM2) or with metaspaces ' +
      '(Llama 2)',
  );
}
