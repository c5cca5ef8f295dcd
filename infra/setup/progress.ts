/**
 * Progress of long steps on a terminal: a bar where someone watches, plain lines where a log is
 * written. The only file that knows cli-progress.
 */
import { SingleBar } from 'cli-progress';

/** What a step counts. */
export type ProgressUnit = 'MB' | 'files' | 'items';

/** One running step. Exactly one of `done` and `failed` ends it. */
export interface ProgressStep {
  /** `amount` is the total so far, in the step's unit. */
  at(amount: number): void;
  /** `note` says what came of it, a few words. */
  done(note?: string): void;
  failed(): void;
}

/** Where progress goes. Without a `total`, only the time that passed is shown. */
export interface Progress {
  step(
    label: string,
    total?: { readonly amount: number; readonly unit: ProgressUnit },
  ): ProgressStep;
  /** A line that is no step of its own. */
  note(text: string): void;
}

/**
 * Bars if `stream` is a terminal, else a line at the start, one every few seconds, and one at the
 * end.
 */
export function progressOn(stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY ? bars(stream) : lines(stream);
}

/** For tests, and for callers with a display of their own. */
export const silentProgress: Progress = {
  step: () => ({ at() {}, done() {}, failed() {} }),
  note() {},
};

const LINE_EVERY_MS = 5_000;
const LABEL_COLUMNS = 44;

function bars(stream: NodeJS.WriteStream): Progress {
  return {
    step(label, total) {
      const startedMs = performance.now();
      const bar = new SingleBar({
        stream,
        hideCursor: true,
        clearOnComplete: true,
        linewrap: false,
        // Without a total there is nothing to fill, so the bar keeps the time alone.
        format:
          total === undefined
            ? `  ${label.padEnd(LABEL_COLUMNS)} {duration} s`
            : `  ${label.padEnd(LABEL_COLUMNS)} {bar} {percentage}% of {total} ${total.unit}`,
      });
      bar.start(total?.amount ?? 1, 0);
      const finish = (mark: string, note?: string): void => {
        bar.stop();
        stream.write(`${mark} ${label.padEnd(LABEL_COLUMNS)} ${noteAndSeconds(startedMs, note)}\n`);
      };
      return {
        at: (amount) => {
          if (total !== undefined) bar.update(Math.min(Math.round(amount), total.amount));
        },
        done: (note) => {
          finish('✓', note);
        },
        failed: () => {
          finish('✗', 'failed');
        },
      };
    },
    note: (text) => void stream.write(`  ${text}\n`),
  };
}

function lines(stream: NodeJS.WriteStream): Progress {
  return {
    step(label, total) {
      const startedMs = performance.now();
      let amount: number | undefined;
      stream.write(`${label} …\n`);
      const timer = setInterval(() => {
        const reached =
          total === undefined || amount === undefined
            ? ''
            : `${Math.round(amount)} of ${total.amount} ${total.unit}, `;
        stream.write(`${label}: ${reached}${seconds(startedMs)}\n`);
      }, LINE_EVERY_MS);
      timer.unref();
      const finish = (text: string): void => {
        clearInterval(timer);
        stream.write(`${label}: ${text}\n`);
      };
      return {
        at: (reached) => {
          amount = reached;
        },
        done: (note) => {
          finish(noteAndSeconds(startedMs, note ?? 'done'));
        },
        failed: () => {
          finish(noteAndSeconds(startedMs, 'failed'));
        },
      };
    },
    note: (text) => void stream.write(`${text}\n`),
  };
}

function noteAndSeconds(startedMs: number, note: string | undefined): string {
  return note === undefined ? seconds(startedMs) : `${note}, ${seconds(startedMs)}`;
}

function seconds(startedMs: number): string {
  return `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
}
