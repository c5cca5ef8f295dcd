/**
 * Finds subjects in a text without tokenising it. Comparing only letters and digits matches more
 * texts than a gate that opens at names. So nothing is missed, whatever the tokeniser does with
 * case, white space and accents.
 */

/** Reduces a text to what a tokeniser keeps: letters and digits, without case and accents. */
export function lettersOf(text: string): string {
  return text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '');
}

/** Tells whether a reader finds the name in the text: as whole words, in the same case. */
export function occursIn(subject: string, text: string): boolean {
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
