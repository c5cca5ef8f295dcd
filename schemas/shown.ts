/** How values from outside stand in messages, which must stay short and may be read on a terminal. */

/** Characters of a stranger's value that a message shows. */
export const SHOWN_CHARACTERS_MAX = 120;

/** A value from outside as a message shows it: a text quoted and cut, a number or the like as it is, else only what it is. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length <= SHOWN_CHARACTERS_MAX ? value : `${value.slice(0, SHOWN_CHARACTERS_MAX)}…`);
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}
