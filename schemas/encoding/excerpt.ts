/** Formats outside values for messages: short, and safe to print on a terminal. */

export const EXCERPT_CHARACTERS_MAX = 120;
export const EXCERPT_ITEMS_MAX = 8;

/**
 * Returns a shortened quoted text, a short list of numbers, a number or boolean, or else the kind.
 */
export function excerpt(value: unknown): string {
  if (typeof value === 'string') {
    const cut = value.length > EXCERPT_CHARACTERS_MAX;
    return JSON.stringify(cut ? `${value.slice(0, EXCERPT_CHARACTERS_MAX)}…` : value);
  }
  if (Array.isArray(value))
    return value.length <= EXCERPT_ITEMS_MAX && value.every((item) => typeof item === 'number')
      ? `[${value.join(', ')}]`
      : `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** Returns the text on one line, without control characters, cut to `charactersMax`. */
export function onOneLine(text: string, charactersMax: number): string {
  const line = text.slice(0, charactersMax + 1).replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ');
  return text.length > charactersMax ? `${line.slice(0, charactersMax)}…` : line;
}

/** Joins the first faults, with the number of those left out. */
export function firstFaults(faults: readonly string[], shownMax = EXCERPT_ITEMS_MAX): string {
  const more = faults.length - shownMax;
  return `${faults.slice(0, shownMax).join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}

/** Returns the faults that a zod schema found, each with the member's path. */
export function faultsFound(error: {
  issues: readonly { path: readonly PropertyKey[]; message: string }[];
}): string[] {
  return error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`,
  );
}
