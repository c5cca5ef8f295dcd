/**
 * Stores objects in a local folder. An object becomes visible by link(2), which fails where the
 * name exists. That makes put-if-absent atomic between processes. The file is whole and on disk
 * before it has its name. The file system must support hard links (ext4, xfs, apfs, ntfs do; exfat
 * and some network mounts do not).
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import {
  checkObjectBytes,
  checkObjectName,
  checkObjectPrefix,
  type ObjectStore,
} from './object-store.ts';

/** Never collides with an object: segments begin with a letter or a digit. */
const TEMPORARY_FOLDER = '.tmp';

/** A temporary file this old was left by a process that died during a put. */
const TEMPORARY_AGE_MAX_MS = 3_600_000;

export class FileStore implements ObjectStore {
  readonly #root: string;
  #prepared: Promise<void> | null = null;

  /** The first put creates the folder. */
  constructor(root: string) {
    this.#root = resolve(root);
  }

  async get(name: string): Promise<Uint8Array | null> {
    const path = this.#path(name);
    try {
      checkObjectBytes(name, (await stat(path)).size);
      const buffer = await readFile(path);
      return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    } catch (fault) {
      if (hasCode(fault, 'ENOENT', 'ENOTDIR', 'EISDIR')) return null;
      throw fault;
    }
  }

  async *list(prefix: string): AsyncIterable<string> {
    checkObjectPrefix(prefix);
    yield* this.#walk(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix);
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    const path = this.#path(name);
    checkObjectBytes(name, bytes.byteLength);
    await this.#prepare();
    await makeFolder(dirname(path), this.#root);
    const unique = `${process.pid}-${randomBytes(12).toString('hex')}`;
    const temporary = join(this.#root, TEMPORARY_FOLDER, unique);
    try {
      await writeThrough(temporary, bytes);
      const result = await link(temporary, path).then(
        () => 'stored' as const,
        (fault: unknown) => {
          if (hasCode(fault, 'EEXIST')) return 'exists' as const;
          throw fault;
        },
      );
      // Needed also where the name exists: its writer may have died before it flushed the name.
      await syncFolder(dirname(path));
      return result;
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async delete(name: string): Promise<void> {
    const path = this.#path(name);
    await rm(path, { force: true });
    await syncFolder(dirname(path)).catch((fault: unknown) => {
      if (!hasCode(fault, 'ENOENT')) throw fault;
    });
  }

  #path(name: string): string {
    checkObjectName(name);
    return join(this.#root, ...name.split('/'));
  }

  #prepare(): Promise<void> {
    this.#prepared ??= this.#makeRoot().catch((fault: unknown) => {
      this.#prepared = null;
      throw fault;
    });
    return this.#prepared;
  }

  async #makeRoot(): Promise<void> {
    const folder = join(this.#root, TEMPORARY_FOLDER);
    await mkdir(folder, { recursive: true });
    const oldest = Date.now() - TEMPORARY_AGE_MAX_MS;
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const written = await stat(path).catch(() => null);
      if (written !== null && written.mtimeMs < oldest) await rm(path, { force: true });
    }
  }

  async *#walk(folder: string, prefix: string): AsyncIterable<string> {
    const path = join(this.#root, ...folder.split('/'));
    const entries = await readdir(path, { withFileTypes: true }).catch((fault: unknown) => {
      if (hasCode(fault, 'ENOENT', 'ENOTDIR')) return [];
      throw fault;
    });
    // A folder sorts as "name/", so that its objects are in the order of their full names.
    const names = entries
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => `${folder}${entry.name}${entry.isDirectory() ? '/' : ''}`)
      .sort((a, b) => (a < b ? -1 : 1));
    for (const name of names) {
      if (!name.startsWith(prefix) && !(name.endsWith('/') && prefix.startsWith(name))) continue;
      if (name.endsWith('/')) yield* this.#walk(name, prefix);
      else yield name;
    }
  }
}

/** Makes the folder and flushes every new name on the path from the root. */
async function makeFolder(folder: string, root: string): Promise<void> {
  if ((await mkdir(folder, { recursive: true })) === undefined) return;
  let path = root;
  for (const segment of ['', ...relative(root, folder).split(sep)]) {
    path = join(path, segment);
    await syncFolder(path);
  }
}

async function writeThrough(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open a folder for this; its file systems journal names.
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function hasCode(fault: unknown, ...codes: string[]): boolean {
  return fault instanceof Error && 'code' in fault && codes.includes(String(fault.code));
}
