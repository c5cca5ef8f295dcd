/** Parsers of option and argument values. */
import { InvalidArgumentError } from 'commander';
import { failed, misused } from '../terminal/command-failure.ts';

/** Makes an option parser; `read` returns undefined for invalid text. */
export function parser<Value>(
  expected: string,
  read: (text: string) => Value | undefined,
): (text: string) => Value {
  return (text) => {
    const value = read(text);
    if (value === undefined) throw new InvalidArgumentError(`Expected ${expected}.`);
    return value;
  };
}

export const wholeNumber = parser('a whole number from 1 to 100000', (text) => {
  const value = Number(text);
  return Number.isInteger(value) && value >= 1 && value <= 100_000 ? value : undefined;
});

export const seconds = parser('a number of seconds, at most 86400', (text) => {
  const value = Number(text);
  return value > 0 && value <= 86_400 ? value : undefined;
});

export function oneOf<const Name extends string>(...names: Name[]): (text: string) => Name {
  return parser(`one of ${names.join(', ')}`, (text) => names.find((name) => name === text));
}

export function matching(pattern: RegExp, expected: string): (text: string) => string {
  return parser(expected, (text) => (pattern.test(text) ? text : undefined));
}

export function atMost(charactersMax: number): (text: string) => string {
  return parser(`at most ${charactersMax} characters`, (text) =>
    text.length <= charactersMax ? text : undefined,
  );
}

/** Parses a number and a unit, such as `90d`, into milliseconds; `units` are in milliseconds. */
export function timeSpan(text: string, units: Record<string, number>): number | undefined {
  const [, count, unit] = /^(\d{1,6})([a-z])$/.exec(text) ?? [];
  const unitMs = units[unit ?? ''];
  return unitMs === undefined ? undefined : Number(count) * unitMs;
}

/** Parses a version argument: a number, `base` for 0, or `head` for null. */
export function versionNamed(text: string | undefined): number | null {
  if (text === undefined || text === 'head') return null;
  if (text === 'base') return 0;
  const version = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(version)) return version;
  throw misused(`"${text}" is not a version`, 'A version is a number, `head` or `base`.');
}

/** Parses a version argument that must name a committed version. */
export function committedVersion(text: string, lineage: string, head: number): number {
  const version = versionNamed(text) ?? head;
  if (version > 0 && version <= head) return version;
  throw failed(
    version === 0
      ? 'version 0 is the base model, which no batch made'
      : head === 0
        ? `lineage ${lineage} has no versions`
        : `lineage ${lineage} has versions 1 to ${head}`,
    '`errata log` lists them.',
  );
}
