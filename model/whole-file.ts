/** Whole files as bytes, whatever their size: Node itself reads no more than 2 GiB at once. */
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Reads a file; null where there is none. Throws what reading throws, and RangeError where it shrinks meanwhile. */
export async function readWhole(file: string): Promise<Uint8Array<ArrayBuffer> | null> {
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size; ) {
      const { bytesRead } = await handle.read(bytes, done, Math.min(READ_BYTES_MAX, size - done), done);
      if (bytesRead === 0) throw new RangeError(`${file} ends at byte ${done} of ${size}`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

/** Writes a file that is there whole or not at all; makes its folder. */
export async function writeWhole(file: string, bytes: Uint8Array | string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  await writeFile(partial, bytes);
  await rename(partial, file);
}

const READ_BYTES_MAX = 2 ** 30;
