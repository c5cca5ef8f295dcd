/**
 * Where a command writes. Results go to the standard output; progress, notes and failures go to the
 * error output, so that a result can be piped. With `--json` a result is one JSON value, or one per
 * line where it comes item by item.
 */
import Table from 'cli-table3';
import picocolors from 'picocolors';
import { terminalPreferences } from '../../infra/config/configuration.ts';
import type { CommandFailure } from './command-failure.ts';

export type Colours = ReturnType<typeof picocolors.createColors>;

export interface Streams {
  out: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  err: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
}

/** What a command reads and writes; a test has its own. */
export interface Surroundings extends Streams {
  in: NodeJS.ReadableStream & { isTTY?: boolean };
  environment: NodeJS.ProcessEnv;
  workingDirectory: string;
}

export class Output {
  readonly colours: Colours;
  /** Characters in a line. */
  readonly columns: number;
  /** Whether the error output is a terminal that a status line can be drawn on. */
  readonly interactive: boolean;

  constructor(
    readonly streams: Streams,
    readonly json: boolean,
    environment: NodeJS.ProcessEnv,
  ) {
    const { colour, columns } = terminalPreferences(environment);
    this.colours = picocolors.createColors(!json && (colour ?? streams.out.isTTY === true));
    const width = columns ?? streams.out.columns ?? COLUMNS.default;
    this.columns = Math.max(COLUMNS.min, Math.min(COLUMNS.max, width));
    this.interactive = streams.err.isTTY === true && !json;
  }

  /** Writes the command's result: `value` with --json, else the text. */
  result(value: unknown, text: () => string): void {
    this.streams.out.write(`${this.json ? JSON.stringify(value, null, 2) : text()}\n`);
  }

  /** Writes one item of a result that comes item by item. */
  item(value: unknown, text: () => string): void {
    this.streams.out.write(`${this.json ? JSON.stringify(value) : text()}\n`);
  }

  /** Writes a line for people, which --json leaves out. */
  line(text = ''): void {
    if (!this.json) this.streams.out.write(`${text}\n`);
  }

  heading(text: string): void {
    this.line(`\n${this.colours.bold(text)}`);
  }

  note(text: string): void {
    this.streams.err.write(`${this.colours.dim(text)}\n`);
  }

  warning(text: string): void {
    this.streams.err.write(`${this.colours.yellow('!')} ${text}\n`);
  }

  /** Writes a failure; `command` is what the command does. */
  failure({ operation: failing, why, hint }: CommandFailure, command: string): void {
    const { bold, red, dim } = this.colours;
    const operation = failing ?? command;
    const help = hint === null ? '' : `\n  ${dim('→')} ${hint}`;
    this.streams.err.write(
      this.json
        ? `${JSON.stringify({ error: { operation, reason: why, mend: hint } })}\n`
        : `${red('✗')} ${bold(`Could not ${operation}`)}: ${why}${help}\n`,
    );
  }

  /** A table without ruled lines. */
  table(
    head: string[],
    rows: string[][],
    options: { widths?: (number | null)[]; wrap?: boolean } = {},
  ): string {
    const table = new Table({
      head: head.map((cell) => this.colours.dim(cell)),
      style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
      chars: NO_LINES,
      ...(options.widths === undefined ? {} : { colWidths: options.widths }),
      wordWrap: options.wrap ?? false,
    });
    table.push(...rows);
    return table.toString().replace(/ +$/gm, '');
  }

  /** Lines of a name and a value each; a value of null has no line. */
  fields(rows: [name: string, value: string | null][], nameColumns: number): string[] {
    return rows.flatMap(([name, value]) =>
      value === null ? [] : [`${this.colours.dim(name.padEnd(nameColumns))}${value}`],
    );
  }

  /** The first lines, and how many more `--json` has. */
  limited(lines: readonly string[], linesMax: number): string[] {
    const more = lines.length - linesMax;
    if (more <= 0) return [...lines];
    return [
      ...lines.slice(0, linesMax),
      this.colours.dim(`  and ${more} more; --json lists them all`),
    ];
  }

  /** A green tick or a red cross. */
  mark(good: boolean): string {
    return good ? this.colours.green('✓') : this.colours.red('✗');
  }
}

const LINES = ['top', 'bottom', 'left', 'right', 'mid'].flatMap((line) =>
  ['', '-mid', '-left', '-right'].map((part) => `${line}${part}`),
);
const NO_LINES = Object.fromEntries([...LINES, 'middle'].map((line) => [line, '']));
const COLUMNS = { default: 100, min: 60, max: 160 };

/** The text on one line, without control characters, cut to so many characters. */
export function shortened(text: string, charactersMax: number): string {
  const line = text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
  return line.length <= charactersMax
    ? line
    : `${line.slice(0, Math.max(1, charactersMax - 1)).trimEnd()}…`;
}

/** A duration as `12 s`, `3 min 5 s`, `2 h 10 min` or `4 d 3 h`. */
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

/** A status such as NOTHING_TO_RETRACT in lower-case words. */
export function statusText(status: string): string {
  return status.toLowerCase().replaceAll('_', ' ');
}
