/**
 * Whether a subject is named in a text, without tokens. What is asked of letters alone is wider
 * than what a gate asks that opens at names, so that nothing is missed whatever the tokeniser does
 * with case, white space and accents: a text in whose letters those of a name do not follow one
 * another has no tokens that spell it.
 */

/**
 * Of a text only what a tokeniser has to keep: letters and digits, without case and accents. A name
 * without any is in every text.
 */
export function lettersOf(text: string): string {
  return text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '');
}

/**
 * Whether the name stands in the text as a reader sees it: as words of their own, in the same case.
 */
export function standsIn(subject: string, text: string): boolean {
  const name = subject.normalize('NFC').trim().replace(/\s+/gu, ' ');
  const within = text.normalize('NFC').replace(/\s+/gu, ' ');
  for (let at = within.indexOf(name); name !== '' && at !== -1; at = within.indexOf(name, at + 1)) {
    if (!isWord(within.slice(0, at).at(-1)) && !isWord(within[at + name.length])) return true;
  }
  return false;
}

function isWord(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}]/u.test(character);
}
