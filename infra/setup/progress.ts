/**
 * Progress of long steps: a bar on a terminal, plain lines in a log. This is the only file that
 * uses cli-progress.
 */
import { SingleBar } from 'cli-progress';

/** The total that a step counts up to. */
export interface ProgressTotal {
  readonly amount: number;
  readonly unit: 'MB' | 'files' | 'items';
}

/** A running step. End it with exactly one of `done` and `failed`. */
export interface ProgressStep {
  /** `amount` is the amount done so far, in the step's unit. */
  at(amount: number): void;
  /** `note` describes the result in a few words. */
  done(note?: string): void;
  failed(): void;
}

export interface Progress {
  /** Begins a step. Without a total, only the time is shown. */
  step(label: string, total?: ProgressTotal): ProgressStep;
  /** Shows a line outside any step. */
  note(text: string): void;
}

/**
 * Draws bars if `stream` is a terminal; else prints lines at the start, at intervals and at the
 * end.
 */
export function progressOn(stream: NodeJS.WriteStream = process.stderr): Progress {
  const begin = stream.isTTY ? bar : lines;
  const indent = stream.isTTY ? '  ' : '';
  return {
    step: (label, total) => begin(stream, label, total),
    note: (text) => void stream.write(`${indent}${text}\n`),
  };
}

/** For tests, and for callers with their own display. */
export const silentProgress: Progress = {
  step: () => ({ at() {}, done() {}, failed() {} }),
  note() {},
};

/** Runs the work as a step, and ends the step with the note that the work returns. */
export async function during(
  step: ProgressStep,
  work: () => Promise<string | void>,
): Promise<void> {
  try {
    step.done((await work()) ?? undefined);
  } catch (error) {
    step.failed();
    throw error;
  }
}

const LINE_EVERY_MS = 5_000;
const LABEL_COLUMNS = 44;

function bar(stream: NodeJS.WriteStream, name: string, total?: ProgressTotal): ProgressStep {
  const label = name.padEnd(LABEL_COLUMNS);
  const seconds = stopwatch();
  const form =
    total === undefined ? '{duration} s' : `{bar} {percentage}% of {total} ${total.unit}`;
  const shown = new SingleBar({
    stream,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    format: `  ${label} ${form}`,
  });
  shown.start(total?.amount ?? 1, 0);
  const finish = (mark: string, note?: string): void => {
    shown.stop();
    stream.write(`${mark} ${label} ${note === undefined ? '' : `${note}, `}${seconds()}\n`);
  };
  return {
    at: (amount) => {
      if (total !== undefined) shown.update(Math.min(Math.round(amount), total.amount));
    },
    done: (note) => finish('✓', note),
    failed: () => finish('✗', 'failed'),
  };
}

function lines(stream: NodeJS.WriteStream, label: string, total?: ProgressTotal): ProgressStep {
  const seconds = stopwatch();
  let reached = '';
  stream.write(`${label} …\n`);
  const timer = setInterval(
    () => stream.write(`${label}: ${reached}${seconds()}\n`),
    LINE_EVERY_MS,
  );
  timer.unref();
  const finish = (note: string): void => {
    clearInterval(timer);
    stream.write(`${label}: ${note}, ${seconds()}\n`);
  };
  return {
    at: (amount) => {
      if (total !== undefined) reached = `${Math.round(amount)} of ${total.amount} ${total.unit}, `;
    },
    done: (note = 'done') => finish(note),
    failed: () => finish('failed'),
  };
}

function stopwatch(): () => string {
  const startedMs = performance.now();
  return () => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
}
