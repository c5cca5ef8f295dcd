/** Terminal text: tables, fields, and numbers in words. */
import Table from 'cli-table3';
import { dim, green, red } from './colours.ts';

export function table(
  head: string[],
  rows: string[][],
  options: { widths?: (number | null)[]; wrap?: boolean } = {},
): string {
  const made = new Table({
    head: head.map(dim),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: NO_LINES,
    ...(options.widths && { colWidths: options.widths }),
    wordWrap: options.wrap ?? false,
  });
  made.push(...rows);
  return made.toString().replace(/ +$/gm, '');
}

const LINES = ['top', 'bottom', 'left', 'right', 'mid'].flatMap((line) =>
  ['', '-mid', '-left', '-right'].map((part) => `${line}${part}`),
);
const NO_LINES = Object.fromEntries([...LINES, 'middle'].map((line) => [line, '']));

/** A name and a value; null values are omitted. */
export type Fields = [name: string, value: string | null][];

export function fieldLines(fields: Fields, nameColumns: number): string[] {
  return fields.flatMap(([name, value]) =>
    value === null ? [] : [`${dim(name.padEnd(nameColumns))}${value}`],
  );
}

/** Returns the first lines, and a count of those that only `--json` shows. */
export function limited(lines: readonly string[], linesMax: number): string[] {
  const more = lines.length - linesMax;
  if (more <= 0) return [...lines];
  return [...lines.slice(0, linesMax), dim(`  and ${more} more; --json lists them all`)];
}

/** A green tick or a red cross. */
export function mark(good: boolean): string {
  return good ? green('✓') : red('✗');
}

/** Returns the text on one line, without control characters, truncated to `charactersMax`. */
export function shortened(text: string, charactersMax: number): string {
  const line = text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
  return line.length <= charactersMax
    ? line
    : `${line.slice(0, Math.max(1, charactersMax - 1)).trimEnd()}…`;
}

/** Formats a duration as `12 s`, `3 min 5 s`, `2 h 10 min` or `4 d 3 h`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600)];
  if (seconds < 60) return `${seconds} s`;
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function ago(time: number): string {
  return `${duration(Date.now() - time)} ago`;
}

export function percent(share: number | null): string {
  return share === null ? '–' : `${(100 * share).toFixed(share === 1 || share === 0 ? 0 : 1)} %`;
}

/** `1 version`, `3 versions`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Formats a status such as NOTHING_TO_RETRACT as lower-case words. */
export function statusText(status: string): string {
  return status.toLowerCase().replaceAll('_', ' ');
}
