import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ProvisionError } from './provision-error.ts';

/** Throws `ProvisionError` unless the file's sha256 is the pinned one. */
export async function verifySha256(file: string, expected: string): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: READ_BYTES }), hash);
  const found = hash.digest('hex');
  if (found !== expected) {
    throw new ProvisionError(
      `${path.basename(file)} is not the file that was pinned: its sha256 is ${found}, pinned is ${expected}.`,
      { file, found, expected },
      'It was changed or damaged on its way: check the mirror or proxy that pip or Maven is set to use.',
    );
  }
}

const READ_BYTES = 1 << 20;
