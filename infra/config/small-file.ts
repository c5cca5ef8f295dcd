/**
 * Files that a person writes, read no further than such a file is long; also from a pipe, which has
 * no size to ask for.
 */
import { closeSync, openSync, readSync } from 'node:fs';

/** Largest configuration, parameter set or secret, in bytes. */
export const SMALL_FILE_BYTES_MAX = 2 ** 20;

/**
 * A small file's text. Throws what opening and reading throw, and RangeError where it is longer.
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
