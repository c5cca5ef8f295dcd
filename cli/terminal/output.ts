/**
 * The output of a command. Results go to standard output; progress, notes and failures go to
 * standard error, so that results can be piped. With `--json` a result is one JSON value, or one
 * per line if it arrives item by item.
 */
import { stripVTControlCharacters } from 'node:util';
import { terminalPreferences } from '../../infra/config/configuration.ts';
import type { CommandFailure } from './command-failure.ts';
import { bold, dim, red, yellow } from './colours.ts';

export interface Streams {
  out: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  err: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
}

/** The streams and terminal of a command; tests supply their own. */
export interface Surroundings extends Streams {
  in: NodeJS.ReadableStream & { isTTY?: boolean };
  environment: NodeJS.ProcessEnv;
  workingDirectory: string;
}

export class Output {
  readonly #coloured: boolean;
  readonly columns: number;
  /** True if standard error is a terminal where a status line can be drawn. */
  readonly interactive: boolean;

  constructor(
    readonly streams: Streams,
    readonly json: boolean,
    environment: NodeJS.ProcessEnv,
  ) {
    const { colour, columns } = terminalPreferences(environment);
    this.#coloured = !json && (colour ?? streams.out.isTTY === true);
    const width = columns ?? streams.out.columns ?? COLUMNS.default;
    this.columns = Math.max(COLUMNS.min, Math.min(COLUMNS.max, width));
    this.interactive = streams.err.isTTY === true && !json;
  }

  /** Writes the command's result: `value` with --json, else the text. */
  result(value: unknown, text: () => string): void {
    if (this.json) this.streams.out.write(`${JSON.stringify(value, null, 2)}\n`);
    else this.line(text());
  }

  /** Writes one item of an item-by-item result. */
  item(value: unknown, text: () => string): void {
    if (this.json) this.streams.out.write(`${JSON.stringify(value)}\n`);
    else this.line(text());
  }

  /** Writes a line for people; omitted with --json. */
  line(text = ''): void {
    if (!this.json) this.streams.out.write(`${this.styled(text)}\n`);
  }

  heading(text: string): void {
    this.line(`\n${bold(text)}`);
  }

  note(text: string): void {
    this.streams.err.write(`${this.styled(dim(text))}\n`);
  }

  warning(text: string): void {
    this.streams.err.write(`${this.styled(yellow('!'))} ${text}\n`);
  }

  /** Writes a failure; `command` is the command's own action. */
  failure({ operation: failing, why, hint }: CommandFailure, command: string): void {
    const operation = failing ?? command;
    const help = hint === null ? '' : `\n  ${dim('→')} ${hint}`;
    this.streams.err.write(
      this.json
        ? `${JSON.stringify({ error: { operation, reason: why, mend: hint } })}\n`
        : this.styled(`${red('✗')} ${bold(`Could not ${operation}`)}: ${why}${help}\n`),
    );
  }

  /** Strips colours if they are not wanted. */
  styled(text: string): string {
    return this.#coloured ? text : stripVTControlCharacters(text);
  }
}

const COLUMNS = { default: 100, min: 60, max: 160 };
