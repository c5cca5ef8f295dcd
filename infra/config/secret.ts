/** Secrets, and the small files that hold secrets or other settings. */
import { closeSync, openSync, readSync } from 'node:fs';
import { inspect } from 'node:util';

/** A value hidden from logs, errors, inspection and JSON; only `reveal()` returns it. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [inspect.custom](): string {
    return '[secret]';
  }
}

/** Maximum size of a configuration, parameter set or secret, in bytes. */
export const SMALL_FILE_BYTES_MAX = 2 ** 20;

/**
 * Reads a small file. The file may be a pipe, whose size is unknown. Throws errors from opening and
 * reading, and RangeError if the file is longer than `SMALL_FILE_BYTES_MAX`.
 */
export function readSmallFile(path: string): string {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(SMALL_FILE_BYTES_MAX + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(file, bytes, length, bytes.length - length, null);
    if (length > SMALL_FILE_BYTES_MAX)
      throw new RangeError(`it has more than ${SMALL_FILE_BYTES_MAX} bytes`);
    return bytes.toString('utf8', 0, length);
  } finally {
    closeSync(file);
  }
}
