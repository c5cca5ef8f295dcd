/**
 * Byte-pair-encoding tokenisers, byte-level (GPT-2, Llama 3, Qwen2, SmolLM2) and with metaspaces
 * (Llama 2, Mistral), on
 * @huggingface/tokenizers; this file alone knows that library. The offsets are ours: it gives none.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnsupportedCheckpoint } from '../checkpoint/faults.ts';
import { alignNormalised } from './alignment.ts';
import { byteOfLetter } from './byte-letters.ts';
import { pinDown, type TokenizerDescription } from './description.ts';

/** Text to token ids and back, as the model was trained to read it. */
export interface Tokenizer {
  /** Number of ids the tokeniser knows; the model's embedding may have more rows. */
  vocabulary: number;
  /**
   * Id of the beginning-of-text token, or null where the model has none. It is never added by
   * `encode`.
   */
  beginToken: number | null;
  /** Ids after which generated text is over. */
  endTokens: number[];
  /**
   * Ids of the text; no special tokens are added, special tokens written out in the text are
   * recognised.
   */
  encode(text: string): number[];
  /**
   * Text of the ids; bytes that are no valid UTF-8 become U+FFFD. Special tokens are written out.
   */
  decode(ids: number[]): string;
  /**
   * Ids of the text with each token's half-open range [start, end) of UTF-16 offsets into `text`. A
   * token that holds only part of a character's bytes covers that whole character, so neighbours
   * may overlap there; so does one that holds part of what Unicode normalisation made of several
   * characters.
   */
  encodeWithOffsets(text: string): { ids: number[]; starts: number[]; ends: number[] };
  /** The text of one token by itself, for showing it to a person. */
  tokenText(id: number): string;
}

/**
 * A tokeniser from the content of a tokenizer.json; throws UnsupportedCheckpoint for kinds that are
 * not read.
 */
export function createTokenizer(
  description: TokenizerDescription,
  special: { beginToken: number | null; endTokens: number[] },
): Tokenizer {
  const pinned = pinDown(description);
  const library = libraryTokenizer(pinned.json);
  const added = new Set(pinned.addedTokens.map((token) => token.content));
  // Not Math.max of them all: a call takes some hundred thousand arguments, and vocabularies are
  // larger.
  let vocabulary = 0;
  for (const id of Object.values(pinned.json.model.vocab))
    vocabulary = Math.max(vocabulary, id + 1);
  for (const { id } of pinned.addedTokens) vocabulary = Math.max(vocabulary, id + 1);
  const encode = (text: string) => library.encode(text, { add_special_tokens: false });
  const decode = (ids: number[]) =>
    ids.length === 0
      ? ''
      : library.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  if (pinned.droppedBytes.size > 0) dropBeforeMerging(library.model, pinned.droppedBytes);

  /** Ranges of the tokens that a section without split-off added tokens became. */
  const rangesOf = (section: string, tokens: string[]): [number, number][] => {
    const aligned = alignNormalised(
      section,
      pinned.normalForm,
      pinned.spaceLetter,
      pinned.droppedBytes,
    );
    const bytesOf = pinned.kind === 'byte-level' ? letterBytes : metaspaceBytes;
    const pieces = tokens.map((token) =>
      added.has(token) ? encoder.encode(token) : bytesOf(token),
    );
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    // A tokeniser with metaspaces puts a space in front of a section that the text does not have.
    const invented =
      pinned.kind === 'metaspace' && total === aligned.bytes.length + metaspaceLength;
    let at = invented ? -metaspaceLength : 0;
    return pieces.map((piece, index) => {
      const fits = piece.every((byte, i) => at + i < 0 || aligned.bytes[at + i] === byte);
      if (!fits) throw lostTrack(tokens[index]!);
      const from = Math.max(0, at);
      at += piece.length;
      return [aligned.start(from), at > from ? aligned.end(at - 1) : aligned.start(from)];
    });
  };

  return {
    vocabulary,
    ...special,
    encode: (text) => encode(text).ids,
    decode,
    encodeWithOffsets(text) {
      const { ids, tokens } = encode(text);
      const starts: number[] = [];
      const ends: number[] = [];
      for (const { start, end, token } of pinned.splitOffAddedTokens(text)) {
        const first = starts.length;
        if (token !== null) {
          if (ids[first] !== token) throw lostTrack(tokens[first] ?? '');
          starts.push(start);
          ends.push(end);
          continue;
        }
        let next = first;
        while (next < ids.length && !pinned.splitOffIds.has(ids[next]!)) next++;
        for (const [from, to] of rangesOf(text.slice(start, end), tokens.slice(first, next))) {
          starts.push(start + from);
          ends.push(start + to);
        }
      }
      return { ids, starts, ends };
    },
    tokenText: (id) => (library.id_to_token(id) === undefined ? `[unused ${id}]` : decode([id])),
  };
}

/**
 * Letters without a token are dropped before the merges, as the Rust library does, and not after
 * them.
 */
function dropBeforeMerging(model: Library['model'], dropped: ReadonlySet<number>): void {
  const merge = model.encode.bind(model);
  const kept = (word: string) =>
    [...word].filter((letter) => !dropped.has(byteOfLetter.get(letter) ?? -1)).join('');
  model.encode = (words) => merge(words.map(kept));
}

function lostTrack(token: string): UnsupportedCheckpoint {
  return new UnsupportedCheckpoint(
    `Token ${JSON.stringify(token)} does not stand where the text should continue`,
    { token },
    'The tokeniser changes the text in a way whose offsets are not known',
  );
}

/** What is used of the library, whose own declarations do not resolve under Node's module rules. */
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
      `The tokeniser cannot be made: ${excerpt(cause instanceof Error ? cause.message : String(cause))}`,
      {},
      'A part of its description is damaged or not known',
      { cause },
    );
  }
}

const Untyped = LibraryTokenizer as unknown as new (json: object, config: object) => Library;

const encoder = new TextEncoder();
const metaspaceLength = encoder.encode('\u2581').length;

/** The bytes that a byte-level token stands for. */
function letterBytes(token: string): Uint8Array {
  return Uint8Array.from(token, (letter) => byteOfLetter.get(letter) ?? 0);
}

/** The bytes of a metaspace token, its spaces as U+2581; `<0x0A>` is one byte. */
function metaspaceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token);
  return byte ? Uint8Array.of(Number.parseInt(byte[1]!, 16)) : encoder.encode(token);
}
