import type { Output } from './output.ts';
import { StatusLine } from './status-line.ts';

export interface Steps {
  at(label: string, done: number, of: number | null): void;
  end(): void;
  fail(): void;
}

export function stepsOn(output: Output): Steps {
  const line = new StatusLine(output);
  return {
    at: (label, done, of) => line.set(label, done, of ?? 0),
    end: () => line.end(),
    fail: () => line.end(),
  };
}
