/**
 * Byte-pair-encoding tokenisers on @huggingface/tokenizers, which only this file imports:
 * byte-level ones (GPT-2, Llama 3, Qwen2, SmolLM2) and ones with metaspaces (Llama 2, Mistral). The
 * library gives no offsets, so they are computed here.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnsupportedCheckpoint } from '../format/faults.ts';
import { alignBytes } from './alignment.ts';
import { byteOfLetter } from './byte-letters.ts';
import { exactTokenizer, type ExactTokenizer, type TokenizerDescription } from './description.ts';

/** Converts text to token ids and back, as the model was trained to read it. */
export interface Tokenizer {
  /** Number of ids known to the tokeniser. The model's embedding may have more rows. */
  vocabulary: number;
  /** The beginning-of-text token, or null if the model has none. `encode` never adds it. */
  beginToken: number | null;
  endTokens: number[];
  /**
   * Returns the text's ids. Adds no special tokens, but recognises those written out in the text.
   */
  encode(text: string): number[];
  /** Returns the ids' text. Invalid UTF-8 becomes U+FFFD. Special tokens are written out. */
  decode(ids: number[]): string;
  /**
   * Returns the text's ids with each token's half-open range [start, end) of UTF-16 offsets in
   * `text`. A token covers a character completely even if it holds only some of its bytes, or part
   * of a Unicode normalisation of several characters. Ranges of neighbours may then overlap.
   */
  encodeWithOffsets(text: string): { ids: number[]; starts: number[]; ends: number[] };
  tokenText(id: number): string;
}

/** Creates a tokeniser from the content of a tokenizer.json; throws UnsupportedCheckpoint. */
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
  // Uses a loop, because a vocabulary has more ids than a call takes arguments.
  let largest = -1;
  for (const id of Object.values(json.model.vocab)) largest = Math.max(largest, id);
  for (const { id } of json.added_tokens) largest = Math.max(largest, id);
  return largest + 1;
}

/** Returns the token ranges of a section without split-off added tokens. */
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
  // A metaspace tokeniser adds a leading space to a section that does not have one.
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

/** Returns the bytes of a metaspace token, whose spaces are U+2581. `<0x0A>` is one byte. */
function metaspaceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token);
  return byte ? Uint8Array.of(Number.parseInt(byte[1]!, 16)) : encoder.encode(token);
}
