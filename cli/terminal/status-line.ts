/**
 * A command's progress: one line at the bottom of the terminal, with ordinary lines above it. If
 * the output is not a terminal, progress is an ordinary line every few seconds. Nothing is shown in
 * the first seconds, nor with `--json`.
 */
import { progressOn, silentProgress, type Progress } from '../../infra/setup/progress.ts';
import type { Output } from './output.ts';
import { dim } from './colours.ts';

const SHOWN_AFTER_MS = 2_000;
const DRAW_EVERY_MS = 250;
const PLAIN_EVERY_MS = 5_000;
const BAR_COLUMNS = 24;

export class StatusLine {
  readonly #output: Output;
  readonly #startedMs = performance.now();
  #timer: NodeJS.Timeout | null = null;
  #text = '';
  #done = 0;
  #total = 0;
  #drawn = false;
  #written = '';

  constructor(output: Output) {
    this.#output = output;
  }

  /** Shows the step, with a bar if there is a total. */
  set(text: string, done = 0, total = 0): void {
    [this.#text, this.#done, this.#total] = [text, done, total];
    if (this.#timer !== null || this.#output.json) return;
    this.#timer = this.#output.interactive
      ? setInterval(() => this.#draw(), DRAW_EVERY_MS)
      : setInterval(() => this.#write(), PLAIN_EVERY_MS);
    this.#timer.unref();
  }

  above(line: string): void {
    this.#clear();
    this.#output.line(line);
    if (this.#output.interactive) this.#draw();
  }

  /** Removes the line; `set` shows it again. */
  end(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#clear();
  }

  #draw(): void {
    const passedMs = performance.now() - this.#startedMs;
    if (passedMs < SHOWN_AFTER_MS || this.#text === '') return;
    const full = this.#total === 0 ? 0 : Math.round((BAR_COLUMNS * this.#done) / this.#total);
    const blocks = `${'█'.repeat(full)}${'░'.repeat(BAR_COLUMNS - full)}`;
    const bar = `${blocks} ${this.#done}/${this.#total}  `;
    const line = `${this.#total === 0 ? '' : bar}${this.#text}  ${Math.round(passedMs / 1_000)} s`;
    this.#output.streams.err.write(`\r\u001b[2K${dim(line.slice(0, this.#output.columns - 1))}`);
    this.#drawn = true;
  }

  /** Writes an ordinary line if something has changed. */
  #write(): void {
    const line = `${this.#text}${this.#total === 0 ? '' : `: ${this.#done} of ${this.#total}`}`;
    if (line === '' || line === this.#written) return;
    this.#written = line;
    const seconds = Math.round((performance.now() - this.#startedMs) / 1_000);
    this.#output.note(`  ${line}  (${seconds} s)`);
  }

  #clear(): void {
    if (!this.#drawn) return;
    this.#output.streams.err.write('\r\u001b[2K');
    this.#drawn = false;
  }
}

/** Shows a status line during the work. `at` reports how much of the total is done. */
export async function whileWaiting<T>(
  output: Output,
  text: string,
  work: (at: (done: number) => void) => Promise<T>,
  total = 0,
): Promise<T> {
  const line = new StatusLine(output);
  line.set(text, 0, total);
  try {
    return await work((done) => line.set(text, done, total));
  } finally {
    line.end();
  }
}

/** Progress of the set-up, which names its own steps. */
export function setupProgress(output: Output): Progress {
  return output.json ? silentProgress : progressOn(output.streams.err as NodeJS.WriteStream);
}
