/** Reads and writes whole files of any size. Node reads at most 2 GiB at once. */
import { createHash } from 'node:crypto';
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Reads a file; null if it does not exist. Throws RangeError if it shrinks meanwhile. */
async function readWhole(file: string): Promise<Uint8Array<ArrayBuffer> | null> {
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size;) {
      const length = Math.min(READ_BYTES_MAX, size - done);
      const { bytesRead } = await handle.read(bytes, done, length, done);
      if (bytesRead === 0) throw new RangeError(`${file} ends at byte ${done} of ${size}`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

/**
 * Reads a file written by `writeSealed`, without its seal. If the seal does not match, the result
 * includes it, and the content's format refuses the 32 extra bytes. Throws as `readWhole` does.
 */
export async function readSealed(file: string): Promise<Uint8Array | null> {
  const bytes = await readWhole(file);
  if (bytes === null || bytes.length < SEAL_BYTES) return bytes;
  const content = bytes.subarray(0, -SEAL_BYTES);
  return sha256Of(content).equals(bytes.subarray(-SEAL_BYTES)) ? content : bytes;
}

/** Writes a file atomically, followed by its hash, which reveals flipped bits. */
export async function writeSealed(file: string, bytes: Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  await writeFile(partial, [bytes, sha256Of(bytes)]);
  await rename(partial, file);
}

/** Hashes in pieces: Node takes at most 2 GiB at once, less than a large model's statistics. */
export function sha256Of(bytes: Uint8Array): Buffer {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += READ_BYTES_MAX)
    hash.update(bytes.subarray(at, at + READ_BYTES_MAX));
  return hash.digest();
}

const SEAL_BYTES = 32;
const READ_BYTES_MAX = 2 ** 30;
