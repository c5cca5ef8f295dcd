/**
 * Byte-pair-encoding tokenisers, byte-level (GPT-2, Llama 3, Qwen2, SmolLM2) and with metaspaces
 * (Llama 2, Mistral), on @huggingface/tokenizers, which only this file imports. The library gives
 * no offsets; they are computed here.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnsupportedCheckpoint } from '../format/faults.ts';
import { alignBytes } from './alignment.ts';
import { byteOfLetter } from './byte-letters.ts';
import { exactTokenizer, type ExactTokenizer, type TokenizerDescription } from './description.ts';

/** Text to token ids and back, as the model was trained to read it. */
export interface Tokenizer {
  /** Number of ids that the tokeniser knows; the model's embedding may have more rows. */
  vocabulary: number;
  /** The beginning-of-text token, or null if the model has none; `encode` never adds it. */
  beginToken: number | null;
  endTokens: number[];
  /** Ids of the text; no special tokens are added, those written out in it are recognised. */
  encode(text: string): number[];
  /** Text of the ids; invalid UTF-8 becomes U+FFFD. Special tokens are written out. */
  decode(ids: number[]): string;
  /**
   * Ids of the text with each token's half-open range [start, end) of UTF-16 offsets into `text`. A
   * token that holds part of a character's bytes, or part of what Unicode normalisation made of
   * several characters, covers them whole; its neighbours may overlap it.
   */
  encodeWithOffsets(text: string): { ids: number[]; starts: number[]; ends: number[] };
  tokenText(id: number): string;
}

/** A tokeniser from the content of a tokenizer.json; throws UnsupportedCheckpoint. */
export function createTokenizer(
  description: TokenizerDescription,
  special: { beginToken: number | null; endTokens: number[] },
): Tokenizer {
  const exact = exactTokenizer(description);
  const library = libraryTokenizer(exact.json);
  if (exact.droppedBytes.size > 0) dropBeforeMerging(library.model, exact.droppedBytes);
  const encode = (text: string) => library.encode(text, { add_special_tokens: false });
  const decode = (ids: number[]) =>
    ids.length === 0
      ? ''
      : library.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  return {
    vocabulary: vocabularyOf(exact),
    ...special,
    encode: (text) => encode(text).ids,
    decode,
    encodeWithOffsets(text) {
      const { ids, tokens } = encode(text);
      const starts: number[] = [];
      const ends: number[] = [];
      for (const { start, end, token } of exact.splitOffAddedTokens(text)) {
        const first = starts.length;
        if (token !== null) {
          if (ids[first] !== token) throw lostTrack(tokens[first] ?? '');
          starts.push(start);
          ends.push(end);
          continue;
        }
        let next = first;
        while (next < ids.length && !exact.splitOffIds.has(ids[next]!)) next++;
        const section = text.slice(start, end);
        for (const [from, to] of sectionRanges(exact, section, tokens.slice(first, next))) {
          starts.push(start + from);
          ends.push(start + to);
        }
      }
      return { ids, starts, ends };
    },
    tokenText: (id) => (library.id_to_token(id) === undefined ? `[unused ${id}]` : decode([id])),
  };
}

function vocabularyOf({ json }: ExactTokenizer): number {
  // In a loop, since a vocabulary has more ids than a call takes arguments.
  let largest = -1;
  for (const id of Object.values(json.model.vocab)) largest = Math.max(largest, id);
  for (const { id } of json.added_tokens) largest = Math.max(largest, id);
  return largest + 1;
}

/** Ranges of the tokens of a section that has no split-off added tokens. */
function sectionRanges(
  exact: ExactTokenizer,
  section: string,
  tokens: string[],
): [number, number][] {
  const aligned = alignBytes(section, exact);
  const bytesOf = exact.kind === 'byte-level' ? letterBytes : metaspaceBytes;
  const pieces = tokens.map((token) =>
    exact.addedContents.has(token) ? encoder.encode(token) : bytesOf(token),
  );
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  // A tokeniser with metaspaces puts a space in front of a section that the text does not have.
  const invented = exact.kind === 'metaspace' && total === aligned.bytes.length + metaspaceLength;
  let at = invented ? -metaspaceLength : 0;
  return pieces.map((piece, index) => {
    const fits = piece.every((byte, i) => at + i < 0 || aligned.bytes[at + i] === byte);
    if (!fits) throw lostTrack(tokens[index]!);
    const from = Math.max(0, at);
    at += piece.length;
    return [aligned.start(from), at > from ? aligned.end(at - 1) : aligned.start(from)];
  });
}

/** Drops letters without a token before the merges, as the Rust library does. */
function dropBeforeMerging(model: Library['model'], dropped: ReadonlySet<number>): void {
  const merge = model.encode.bind(model);
  const kept = (word: string) =>
    [...word].filter((letter) => !dropped.has(byteOfLetter.get(letter) ?? -1)).join('');
  model.encode = (words) => merge(words.map(kept));
}

function lostTrack(token: string): UnsupportedCheckpoint {
  return new UnsupportedCheckpoint(
    'tokeniser',
    `token ${JSON.stringify(token)} does not continue the text`,
    'It changes the text in a way whose offsets are not known',
  );
}

/** The used part of the library, whose declarations do not resolve under Node's module rules. */
interface Library {
  encode(
    text: string,
    options: { add_special_tokens: boolean },
  ): { ids: number[]; tokens: string[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  id_to_token(id: number): string | undefined;
  model: { encode(words: string[]): string[] };
}

function libraryTokenizer(json: object): Library {
  try {
    return new Untyped(json, { clean_up_tokenization_spaces: false });
  } catch (cause) {
    throw new UnsupportedCheckpoint(
      'tokeniser',
      `it cannot be made: ${excerpt(cause instanceof Error ? cause.message : String(cause))}`,
      'A part of its description is damaged or unknown',
      { cause },
    );
  }
}

const Untyped = LibraryTokenizer as unknown as new (json: object, config: object) => Library;

const encoder = new TextEncoder();
const metaspaceLength = encoder.encode('\u2581').length;

function letterBytes(token: string): Uint8Array {
  return Uint8Array.from(token, (letter) => byteOfLetter.get(letter) ?? 0);
}

/** Bytes of a metaspace token, whose spaces are U+2581; `<0x0A>` is one byte. */
function metaspaceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token);
  return byte ? Uint8Array.of(Number.parseInt(byte[1]!, 16)) : encoder.encode(token);
}
