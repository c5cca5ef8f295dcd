/** A benchmark in parts: which were asked for, and each with its progress. */
import { InvalidArgumentError } from 'commander';
import type { Progress } from '../infra/setup/progress.ts';

export async function during<Result>(
  progress: Progress,
  label: string,
  work: () => Promise<Result>,
): Promise<Result> {
  const step = progress.step(label);
  try {
    const result = await work();
    step.done();
    return result;
  } catch (error) {
    step.failed();
    throw error;
  }
}

/** Of an option that names some of the parts, with commas between. */
export function partsIn<Part extends string>(parts: readonly Part[]): (text: string) => Part[] {
  return (text) =>
    text.split(',').map((name) => {
      const part = parts.find((one) => one === name.trim());
      if (part === undefined)
        throw new InvalidArgumentError(`expected some of ${parts.join(', ')}`);
      return part;
    });
}

export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('expected a whole number of at least 1');
  return value;
}
