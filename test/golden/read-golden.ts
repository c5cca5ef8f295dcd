/** The files that the Python scripts of this folder wrote. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeSafetensors, type StoredTensor } from '../../schemas/encoding/safetensors.ts';

export function goldenPath(...parts: string[]): string {
  return join(import.meta.dirname, ...parts);
}

export function readGoldenJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(goldenPath(...parts), 'utf8')) as T;
}

export function readGoldenTensors(...parts: string[]): Map<string, StoredTensor> {
  return decodeSafetensors(readFileSync(goldenPath(...parts))).tensors;
}

/** Largest absolute difference; NaN if the lengths differ or a number is missing. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return NaN;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}
