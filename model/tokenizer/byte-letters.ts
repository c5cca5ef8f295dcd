/**
 * GPT-2's letters for bytes. Printable Latin-1 characters represent themselves, and the other 68
 * bytes map to U+0100 onward, so that every token is readable text without spaces.
 */
export const letterOfByte: readonly string[] = buildLetters();

export const byteOfLetter: ReadonlyMap<string, number> = new Map(
  letterOfByte.map((letter, byte) => [letter, byte]),
);

function buildLetters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}
