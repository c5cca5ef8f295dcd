/** Text to token ids and back, as the model was trained to read it. */
export interface Tokenizer {
  /** Number of ids the tokeniser knows; the model's embedding may have more rows. */
  vocabulary: number;
  /** Id of the beginning-of-text token, or null where the model has none. It is never added by `encode`. */
  beginToken: number | null;
  /** Ids after which generated text is over. */
  endTokens: number[];
  /** Ids of the text; no special tokens are added, special tokens written out in the text are recognised. */
  encode(text: string): number[];
  /** Text of the ids; bytes that are no valid UTF-8 become U+FFFD. Special tokens are written out. */
  decode(ids: number[]): string;
  /**
   * Ids of the text with each token's half-open range [start, end) of UTF-16 offsets into `text`.
   * A token that holds only part of a character's bytes covers that whole character, so neighbours may overlap there.
   */
  encodeWithOffsets(text: string): { ids: number[]; starts: number[]; ends: number[] };
  /** The text of one token by itself, for showing it to a person. */
  tokenText(id: number): string;
}
