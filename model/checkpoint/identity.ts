import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Total size of weight files from which their hashes are cached beside them, to save seconds. */
export const HASH_REMEMBERED_FROM_BYTES = 512 * 2 ** 20;
const rememberedName = '.weights-sha256.json';

/**
 * Returns the identity of a model's weights, in lower-case hex: the sha256 of the only file's
 * bytes, or of the lines `<sha256> <file name>\n` of several files, sorted by name.
 */
export async function weightsSha256(paths: string[]): Promise<string> {
  const files = await Promise.all(
    [...paths].sort().map(async (path) => {
      const { size, mtimeMs } = await stat(path);
      return { path, stamp: `${basename(path)} ${size} ${mtimeMs}`, size };
    }),
  );
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  if (bytes < HASH_REMEMBERED_FROM_BYTES) return hashTogether(files);
  const remembered = join(dirname(files[0]!.path), rememberedName);
  const stamp = files.map((file) => file.stamp).join('\n');
  const known = await recall(remembered, stamp);
  if (known !== undefined) return known;
  const sha256 = await hashTogether(files);
  await remember(remembered, stamp, sha256);
  return sha256;
}

async function hashTogether(files: readonly { path: string }[]): Promise<string> {
  const hashes: string[] = [];
  for (const { path } of files) hashes.push(await fileSha256(path));
  if (files.length === 1) return hashes[0]!;
  const lines = files.map(({ path }, i) => `${hashes[i]}  ${basename(path)}\n`);
  return createHash('sha256').update(lines.join('')).digest('hex');
}

/** Returns the SHA-256 of a file's bytes, in lower-case hex. */
export async function fileSha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function recall(path: string, stamp: string): Promise<string | undefined> {
  try {
    const known = JSON.parse(await readFile(path, 'utf8')) as { stamp?: unknown; sha256?: unknown };
    const { sha256 } = known;
    const isHash = typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256);
    return known.stamp === stamp && isHash ? sha256 : undefined;
  } catch {
    return undefined;
  }
}

async function remember(path: string, stamp: string, sha256: string): Promise<void> {
  try {
    const partial = `${path}.${process.pid}`;
    await writeFile(partial, JSON.stringify({ stamp, sha256 }));
    await rename(partial, path);
  } catch {
    // In a read-only folder the next start hashes again.
  }
}
