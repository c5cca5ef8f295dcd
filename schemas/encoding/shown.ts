/**
 * How values from outside stand in messages, which must stay short and may be read on a terminal.
 */

/** Characters of a stranger's value that a message shows, and items of a list. */
export const SHOWN_CHARACTERS_MAX = 120;
export const SHOWN_ITEMS_MAX = 8;

/**
 * A text quoted and cut, a number or the like as it is, a short list of numbers as such, else only
 * what it is.
 */
export function shown(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(
      value.length <= SHOWN_CHARACTERS_MAX ? value : `${value.slice(0, SHOWN_CHARACTERS_MAX)}…`,
    );
  if (Array.isArray(value))
    return value.length <= SHOWN_ITEMS_MAX && value.every((item) => typeof item === 'number')
      ? `[${value.join(', ')}]`
      : `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** A text on one line and without characters that steer a terminal, cut to so many characters. */
export function onOneLine(text: string, charactersMax: number): string {
  const line = text.slice(0, charactersMax + 1).replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ');
  return text.length > charactersMax ? `${line.slice(0, charactersMax)}…` : line;
}

/** The first of many faults, and how many more there are. */
export function firstOf(faults: readonly string[], shownMax = SHOWN_ITEMS_MAX): string {
  const more = faults.length - shownMax;
  return `${faults.slice(0, shownMax).join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
