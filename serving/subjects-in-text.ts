/**
 * Whether a subject may be named in a text, without tokens: a gate that asks for names opens nowhere else. What is asked is
 * wider than what the gate asks, so that nothing is missed whatever the tokeniser does with case, white space and accents:
 * the letters and digits of the name follow one another in those of the text.
 */
export function mayBeNamed(subject: string, letters: string): boolean {
  // A name without a letter or digit may be anywhere.
  return letters.includes(lettersOf(subject));
}

/** Of a text only what a tokeniser has to keep: letters and digits, without case and accents. */
export function lettersOf(text: string): string {
  return text.normalize('NFKD').toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '');
}

/** Whether the name stands in the text as a reader sees it: as words of their own, in the same case. */
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
