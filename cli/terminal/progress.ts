/**
 * Progress of a command's own waits. Nothing is shown for what takes less than two seconds; after
 * that a bar on a terminal, plain lines elsewhere, nothing with `--json`.
 */
import {
  progressOn,
  silentProgress,
  type Progress,
  type ProgressStep,
} from '../../infra/setup/progress.ts';
import type { Output } from './output.ts';

const SHOWN_AFTER_MS = 2_000;

/** Progress to the error output, from the start of each step. */
export function progressOf(output: Output): Progress {
  return output.json ? silentProgress : progressOn(output.streams.err as NodeJS.WriteStream);
}

/** Shows the step only if it lasts. `work` is given a function that tells how far it is. */
export async function whileWaiting<T>(
  output: Output,
  label: string,
  total: number | null,
  work: (at: (amount: number) => void) => Promise<T>,
): Promise<T> {
  let step: ProgressStep | null = null;
  let reached = 0;
  const timer = setTimeout(() => {
    step = progressOf(output).step(
      label,
      total === null ? undefined : { amount: total, unit: 'items' },
    );
    step.at(reached);
  }, SHOWN_AFTER_MS);
  try {
    const result = await work((amount) => {
      reached = amount;
      step?.at(amount);
    });
    (step as ProgressStep | null)?.done();
    return result;
  } catch (error) {
    (step as ProgressStep | null)?.failed();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
