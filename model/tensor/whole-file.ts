/** Whole files as bytes, whatever their size: Node itself reads no more than 2 GiB at once. */
import { createHash } from 'node:crypto';
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Reads a file; null where there is none. Throws what reading throws, and RangeError where it
 * shrinks meanwhile.
 */
export async function readWhole(file: string): Promise<Uint8Array<ArrayBuffer> | null> {
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size;) {
      const { bytesRead } = await handle.read(
        bytes,
        done,
        Math.min(READ_BYTES_MAX, size - done),
        done,
      );
      if (bytesRead === 0) throw new RangeError(`${file} ends at byte ${done} of ${size}`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

/**
 * Reads what `writeSealed` wrote, without its seal. Where the seal is not that of the bytes, they
 * come with it, and their format refuses the 32 bytes too many; what was written without a seal is
 * read as it is. Throws as `readWhole` does.
 */
export async function readSealed(file: string): Promise<Uint8Array | null> {
  const bytes = await readWhole(file);
  if (bytes === null || bytes.length < SEAL_BYTES) return bytes;
  const content = bytes.subarray(0, -SEAL_BYTES);
  return sha256Of(content).equals(bytes.subarray(-SEAL_BYTES)) ? content : bytes;
}

/**
 * Writes a file that is there whole or not at all, its hash behind it, so that a bit which flips is
 * found; makes its folder.
 */
export async function writeSealed(file: string, bytes: Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  await writeFile(partial, [bytes, sha256Of(bytes)]);
  await rename(partial, file);
}

/**
 * Piece by piece: Node takes no more than 2 GiB at once, and the moment of a large model is more.
 */
export function sha256Of(bytes: Uint8Array): Buffer {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += READ_BYTES_MAX)
    hash.update(bytes.subarray(at, at + READ_BYTES_MAX));
  return hash.digest();
}

const SEAL_BYTES = 32;
const READ_BYTES_MAX = 2 ** 30;
