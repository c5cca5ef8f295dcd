/**
 * Successive steps of one long command, each with a bar of its own; a step begins when it is first
 * told of.
 */
import type { ProgressStep } from '../../infra/setup/progress.ts';
import type { Output } from './output.ts';
import { progressOf } from './progress.ts';

export interface Steps {
  /** So much of the step is done; without `of`, only time is shown. */
  at(label: string, done: number, of: number | null): void;
  /** The last step is done. */
  end(): void;
  /** It is not, and never will be. */
  fail(): void;
}

export function stepsOn(output: Output): Steps {
  const progress = progressOf(output);
  let current: { label: string; step: ProgressStep } | null = null;
  const end = (): void => {
    current?.step.done();
    current = null;
  };
  return {
    at(label, done, of) {
      if (current?.label !== label) {
        end();
        current = {
          label,
          step: progress.step(label, of === null ? undefined : { amount: of, unit: 'items' }),
        };
      }
      current.step.at(done);
    },
    end,
    fail() {
      current?.step.failed();
      current = null;
    },
  };
}
