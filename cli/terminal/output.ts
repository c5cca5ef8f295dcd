/**
 * Where a command writes. Results go to the standard output, everything else (progress, notes,
 * failures) to the error output, so that a result can be piped. With `--json` the result is JSON:
 * one value, or one per line where it is a stream.
 */
import Table from 'cli-table3';
import picocolors from 'picocolors';
import { terminalPreferences } from '../../infra/config/configuration.ts';
import type { CommandFailure } from '../session/command-failure.ts';

export type Colours = ReturnType<typeof picocolors.createColors>;

export interface Streams {
  out: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  err: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
}

export class Output {
  readonly colours: Colours;
  /** Characters in a line. */
  readonly columns: number;
  readonly interactive: boolean;

  constructor(
    readonly streams: Streams,
    readonly json: boolean,
    environment: NodeJS.ProcessEnv,
  ) {
    const preferences = terminalPreferences(environment);
    this.colours = picocolors.createColors(
      !json && (preferences.colour ?? streams.out.isTTY === true),
    );
    this.columns = Math.max(
      COLUMNS_MIN,
      Math.min(COLUMNS_MAX, preferences.columns ?? streams.out.columns ?? COLUMNS_DEFAULT),
    );
    this.interactive = streams.err.isTTY === true && !json;
  }

  /** The command's result: `value` with --json, else the text. */
  result(value: unknown, text: () => string): void {
    this.#write(this.streams.out, this.json ? JSON.stringify(value, null, 2) : text());
  }

  /** One item of a result that comes bit by bit: one line of JSON each. */
  item(value: unknown, text: () => string): void {
    this.#write(this.streams.out, this.json ? JSON.stringify(value) : text());
  }

  /** For people only: not written with --json. */
  line(text = ''): void {
    if (!this.json) this.#write(this.streams.out, text);
  }

  note(text: string): void {
    this.#write(this.streams.err, this.colours.dim(text));
  }

  warning(text: string): void {
    this.#write(this.streams.err, `${this.colours.yellow('!')} ${text}`);
  }

  failure(failure: CommandFailure): void {
    if (this.json) {
      this.#write(
        this.streams.err,
        JSON.stringify({
          error: { operation: failure.operation, reason: failure.why, mend: failure.mend },
        }),
      );
      return;
    }
    const { bold, red, dim } = this.colours;
    this.#write(
      this.streams.err,
      `${red('✗')} ${bold(`Could not ${failure.operation}`)}: ${failure.why}${failure.mend === null ? '' : `\n  ${dim('→')} ${failure.mend}`}`,
    );
  }

  heading(text: string): void {
    this.line(`\n${this.colours.bold(text)}`);
  }

  /** Rows without ruled lines, as most commands list things. */
  table(
    head: string[],
    rows: string[][],
    options: { widths?: (number | null)[]; wrap?: boolean } = {},
  ): string {
    const table = new Table({
      head: head.map((cell) => this.colours.dim(cell)),
      style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
      chars: {
        top: '',
        'top-mid': '',
        'top-left': '',
        'top-right': '',
        bottom: '',
        'bottom-mid': '',
        'bottom-left': '',
        'bottom-right': '',
        left: '',
        'left-mid': '',
        mid: '',
        'mid-mid': '',
        right: '',
        'right-mid': '',
        middle: '',
      },
      ...(options.widths === undefined ? {} : { colWidths: options.widths }),
      wordWrap: options.wrap ?? false,
    });
    table.push(...rows);
    return table
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n');
  }

  #write(stream: NodeJS.WritableStream, text: string): void {
    stream.write(`${text}\n`);
  }
}

/**
 * The text in at most so many characters, on one line, without characters that steer a terminal.
 */
export function shortened(text: string, charactersMax: number): string {
  const line = text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
  return line.length <= charactersMax
    ? line
    : `${line.slice(0, Math.max(1, charactersMax - 1)).trimEnd()}…`;
}

/** A time as it is said: `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${minutes % 60} min`
    : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function percent(share: number | null): string {
  return share === null ? '–' : `${(100 * share).toFixed(share === 1 || share === 0 ? 0 : 1)} %`;
}

const COLUMNS_DEFAULT = 100;
const COLUMNS_MIN = 60;
const COLUMNS_MAX = 160;
