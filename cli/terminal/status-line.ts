/**
 * One line at the bottom of a terminal that tells how far something is, with ordinary lines written
 * above it. Where the output is no terminal, how far it is is an ordinary line too, every few
 * seconds.
 */
import type { Output } from './output.ts';

const SHOWN_AFTER_MS = 2_000;
const DRAW_EVERY_MS = 250;
const PLAIN_EVERY_MS = 5_000;
const BAR_COLUMNS = 24;

export class StatusLine {
  readonly #output: Output;
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout | null;
  #text = '';
  #done = 0;
  #total = 0;
  #drawn = false;
  #told = '';

  constructor(output: Output) {
    this.#output = output;
    this.#timer = output.json
      ? null
      : output.interactive
        ? setInterval(() => this.#draw(), DRAW_EVERY_MS)
        : setInterval(() => this.#tell(), PLAIN_EVERY_MS);
    this.#timer?.unref();
  }

  /** `total` 0: no bar. */
  set(text: string, done = 0, total = 0): void {
    this.#text = text;
    this.#done = done;
    this.#total = total;
  }

  /** An ordinary line, above the status line. */
  above(line: string): void {
    this.#clear();
    this.#output.line(line);
    if (this.#output.interactive) this.#draw();
  }

  end(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#clear();
  }

  #draw(): void {
    const passedMs = performance.now() - this.#startedMs;
    if (passedMs < SHOWN_AFTER_MS || this.#text === '') return;
    const full = this.#total === 0 ? 0 : Math.round((BAR_COLUMNS * this.#done) / this.#total);
    const bar =
      this.#total === 0
        ? ''
        : `${'█'.repeat(full)}${'░'.repeat(BAR_COLUMNS - full)} ${this.#done}/${this.#total}  `;
    const line = `${bar}${this.#text}  ${Math.round(passedMs / 1_000)} s`;
    this.#output.streams.err.write(
      `\r\u001b[2K${this.#output.colours.dim(line.slice(0, this.#output.columns - 1))}`,
    );
    this.#drawn = true;
  }

  /** The same without a terminal; nothing when nothing has changed. */
  #tell(): void {
    const line = `${this.#text}${this.#total === 0 ? '' : `: ${this.#done} of ${this.#total}`}`;
    if (line === '' || line === this.#told) return;
    this.#told = line;
    this.#output.note(
      `  ${line}  (${Math.round((performance.now() - this.#startedMs) / 1_000)} s)`,
    );
  }

  #clear(): void {
    if (!this.#drawn) return;
    this.#output.streams.err.write('\r\u001b[2K');
    this.#drawn = false;
  }
}
