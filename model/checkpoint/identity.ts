import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/**
 * Weight files of this size together are hashed once and remembered beside them, as it takes
 * seconds.
 */
export const HASH_REMEMBERED_FROM_BYTES = 512 * 2 ** 20;
const rememberedName = '.weights-sha256.json';
const readBytes = 2 ** 20;

/**
 * Identity of a model's weights, in lower-case hex: sha256 of the one file's bytes, or of the lines
 * `<sha256>  <file name>\n` of several in the order of their names.
 */
export async function weightsSha256(paths: string[]): Promise<string> {
  const files = await Promise.all(
    [...paths].sort().map(async (path) => {
      const { size, mtimeMs } = await stat(path);
      return { path, stamp: `${basename(path)} ${size} ${mtimeMs}`, size };
    }),
  );
  const stamp = files.map((file) => file.stamp).join('\n');
  const worthIt = files.reduce((sum, file) => sum + file.size, 0) >= HASH_REMEMBERED_FROM_BYTES;
  const remembered = worthIt ? join(dirname(files[0]!.path), rememberedName) : null;
  const known = remembered === null ? undefined : await recall(remembered, stamp);
  if (known !== undefined) return known;
  const hashes: string[] = [];
  for (const { path } of files) hashes.push(await fileSha256(path));
  const sha256 =
    files.length === 1
      ? hashes[0]!
      : createHash('sha256')
          .update(files.map(({ path }, i) => `${hashes[i]}  ${basename(path)}\n`).join(''))
          .digest('hex');
  if (remembered !== null) await remember(remembered, stamp, sha256);
  return sha256;
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: readBytes }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function recall(path: string, stamp: string): Promise<string | undefined> {
  try {
    const known = JSON.parse(await readFile(path, 'utf8')) as { stamp?: unknown; sha256?: unknown };
    return known.stamp === stamp &&
      typeof known.sha256 === 'string' &&
      /^[0-9a-f]{64}$/.test(known.sha256)
      ? known.sha256
      : undefined;
  } catch {
    return undefined;
  }
}

async function remember(path: string, stamp: string, sha256: string): Promise<void> {
  try {
    const half = `${path}.${process.pid}`;
    await writeFile(half, JSON.stringify({ stamp, sha256 }));
    await rename(half, path);
  } catch {
    // A read-only folder costs the time again at the next start, no more.
  }
}
