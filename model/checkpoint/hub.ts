/**
 * A model fetched from the Hugging Face hub into a folder that openCheckpoint reads; this file
 * alone knows
 * @huggingface/hub. Each file grows as `<name>.part`, which a later call continues, and gets its name when it is whole
 * and its checksum right; `.fetched.json` is written last, so a folder that has it is complete. Two
 * calls for one folder at the same time are the caller's to prevent.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { downloadFile, HubApiError, listFiles } from '@huggingface/hub';
import { CheckpointFault, UnsupportedCheckpoint } from './faults.ts';
import { isHubId } from './hub-id.ts';
import { SHARDS_MAX } from './safetensors-files.ts';

export const HUB_LISTED_FILES_MAX = 10_000;
export const HUB_ATTEMPTS_MAX = 4;
export const HUB_STALL_MS = 60_000;
export const HUB_RETRY_WAIT_MS = 1_000;
const completeName = '.fetched.json';
const wanted = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];

export interface HubOptions {
  /** A branch, tag or commit; `main` by default. */
  revision?: string;
  /** Access token, for models that ask for one. */
  accessToken?: string;
  /** Bytes done and bytes in all. */
  progress?: (doneBytes: number, totalBytes: number) => void;
  fetch?: typeof fetch;
  /** Milliseconds without a byte after which an attempt is given up; HUB_STALL_MS by default. */
  stallMs?: number;
  /**
   * Wait before the second attempt, twice as long before each further one; HUB_RETRY_WAIT_MS by
   * default.
   */
  retryWaitMs?: number;
}

/**
 * The hub could not be reached, or the way to it broke too often. Trying again may help, and goes
 * on where it broke.
 */
export class HubUnreachable extends CheckpointFault {
  override readonly name = 'HubUnreachable';
}

/** The hub answered and has not, or does not give, what was asked for. */
export class HubRefused extends CheckpointFault {
  override readonly name = 'HubRefused';
}

/**
 * Folder `<modelsFolder>/<owner>/<name>` with the model in it, fetched where it is not yet.
 * Throws HubUnreachable, HubRefused, or UnsupportedCheckpoint for a model without safetensors.
 */
export async function fetchFromHub(
  id: string,
  modelsFolder: string,
  options: HubOptions = {},
): Promise<string> {
  if (!isHubId(id))
    throw new HubRefused(`"${id}" is no id of a model`, { id }, 'An id is owner/name');
  const revision = options.revision ?? 'main';
  const folder = join(modelsFolder, ...id.split('/'));
  if (await isComplete(folder, revision)) return folder;
  const files = selectFiles(id, await list(id, revision, options));
  await mkdir(folder, { recursive: true });
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let before = 0;
  for (const file of files) {
    await fetchWhole(id, revision, folder, file, options, (bytes) =>
      options.progress?.(before + bytes, total),
    );
    before += file.size;
  }
  const note = {
    id,
    revision,
    files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
  };
  await writeFile(join(folder, `${completeName}.part`), JSON.stringify(note));
  await rename(join(folder, `${completeName}.part`), join(folder, completeName));
  return folder;
}

/**
 * The model's config.json alone, some kilobytes, into the folder. Throws HubUnreachable or
 * HubRefused.
 */
export async function fetchConfigFromHub(
  id: string,
  folder: string,
  options: HubOptions = {},
): Promise<void> {
  if (!isHubId(id))
    throw new HubRefused(`"${id}" is no id of a model`, { id }, 'An id is owner/name');
  const text = await attempt(id, options, async (fetchOnce) => {
    const blob = await downloadFile({
      ...request(id, options.revision ?? 'main', options),
      path: 'config.json',
      xet: false,
      fetch: fetchOnce,
    });
    if (blob === null || blob.size > CONFIG_BYTES_MAX)
      throw new HubRefused(
        `${id} has no config.json${blob === null ? '' : ` of less than ${CONFIG_BYTES_MAX} bytes`}`,
        { id },
        'Choose a model of the Hugging Face layout, or fetch its GGUF file and name its path',
      );
    return blob.text();
  });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), text);
}

const CONFIG_BYTES_MAX = 2 ** 24;

interface HubFile {
  path: string;
  size: number;
  /** null for small files, which the hub does not name a sha256 of. */
  sha256: string | null;
}

async function isComplete(folder: string, revision: string): Promise<boolean> {
  try {
    const note = JSON.parse(await readFile(join(folder, completeName), 'utf8')) as {
      revision: string;
      files: HubFile[];
    };
    const sizes = await Promise.all(
      note.files.map(async ({ path, size }) => (await stat(join(folder, path))).size === size),
    );
    return note.revision === revision && sizes.every(Boolean);
  } catch {
    return false;
  }
}

async function list(id: string, revision: string, options: HubOptions): Promise<HubFile[]> {
  return attempt(id, options, async (fetchOnce) => {
    const files: HubFile[] = [];
    for await (const entry of listFiles({ ...request(id, revision, options), fetch: fetchOnce })) {
      if (files.length >= HUB_LISTED_FILES_MAX)
        throw new HubRefused(
          `${id} lists over ${HUB_LISTED_FILES_MAX} files`,
          { id },
          'It is no model of the usual layout',
        );
      if (entry.type === 'file')
        files.push({ path: entry.path, size: entry.size, sha256: entry.lfs?.oid ?? null });
    }
    return files;
  });
}

/**
 * Configuration and tokeniser, and the weights: the index's shards, or `model.safetensors`, or the
 * only file.
 */
function selectFiles(id: string, files: HubFile[]): HubFile[] {
  const here = files.filter(({ path }) => !path.includes('/') && !path.includes('\\'));
  const index = here.find(({ path }) => path === 'model.safetensors.index.json');
  const weights = here.filter(({ path }) => path.endsWith('.safetensors'));
  const whole =
    weights.find(({ path }) => path === 'model.safetensors') ??
    (weights.length === 1 ? weights[0] : undefined);
  const shards = weights.filter(({ path }) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(path));
  const chosen = whole !== undefined ? [whole] : index !== undefined ? [index, ...shards] : [];
  if (chosen.length === 0 || shards.length > SHARDS_MAX) {
    throw new UnsupportedCheckpoint(
      `${id} has no weights in safetensors`,
      { id, files: here.slice(0, 8).map(({ path }) => path) },
      'Choose a model that has model.safetensors, or fetch its GGUF file and name its path',
    );
  }
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (!here.some(({ path }) => path === needed))
      throw new UnsupportedCheckpoint(
        `${id} has no ${needed}`,
        { id, missing: needed },
        'Choose a model of the Hugging Face layout with a fast tokeniser',
      );
  }
  return [...here.filter(({ path }) => wanted.includes(path)), ...chosen];
}

async function fetchWhole(
  id: string,
  revision: string,
  folder: string,
  file: HubFile,
  options: HubOptions,
  progress: (bytes: number) => void,
): Promise<void> {
  const path = join(folder, file.path);
  if ((await sizeOf(path)) === file.size) return;
  const part = `${path}.part`;
  // Without a checksum a half from another revision could not be told; such files are small.
  if (file.sha256 === null || (await sizeOf(part)) > file.size) await rm(part, { force: true });
  await attempt(id, options, async (fetchOnce, alive) => {
    const blob = await downloadFile({
      ...request(id, revision, options),
      path: file.path,
      xet: false,
      fetch: fetchOnce,
    });
    if (blob === null)
      throw new HubRefused(
        `${id} lists ${file.path} and does not have it`,
        { id, file: file.path },
        'Try again later',
      );
    const done = await sizeOf(part);
    const handle = await open(part, 'a');
    try {
      let bytes = done;
      if (bytes < file.size) {
        for await (const chunk of blob
          .slice(done, file.size)
          .stream() as AsyncIterable<Uint8Array>) {
          alive();
          bytes += chunk.length;
          if (bytes > file.size)
            throw new HubRefused(
              `${id}: ${file.path} is longer than its ${file.size} bytes`,
              { id, file: file.path },
              'Try again later',
            );
          await handle.writeFile(chunk);
          progress(bytes);
        }
      }
      if (bytes < file.size) throw new TypeError(`ended after ${bytes} of ${file.size} bytes`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
  if (file.sha256 !== null && (await fileSha256(part)) !== file.sha256) {
    await rm(part, { force: true });
    throw new HubUnreachable(
      `${id}: ${file.path} arrived damaged`,
      { id, file: file.path, sha256: file.sha256 },
      'It was thrown away; fetch it again',
    );
  }
  await rename(part, path);
}

/**
 * Tries until it works, is refused, or has failed HUB_ATTEMPTS_MAX times; `alive` puts off the end
 * of an attempt.
 */
async function attempt<T>(
  id: string,
  options: HubOptions,
  work: (fetchOnce: typeof fetch, alive: () => void) => Promise<T>,
): Promise<T> {
  for (let tried = 1; ; tried++) {
    const aborter = new AbortController();
    const stalled = setTimeout(
      () => aborter.abort(new TypeError('no byte came for too long')),
      options.stallMs ?? HUB_STALL_MS,
    );
    const fetchOnce: typeof fetch = (input, init) =>
      (options.fetch ?? fetch)(input, { ...init, signal: aborter.signal });
    try {
      return await work(fetchOnce, () => stalled.refresh());
    } catch (error) {
      if (error instanceof CheckpointFault) throw error;
      const status = error instanceof HubApiError ? error.statusCode : null;
      if (status !== null && status < 500 && status !== 408 && status !== 429)
        throw refusal(id, status, error);
      if (tried === HUB_ATTEMPTS_MAX) throw unreachable(id, tried, error);
    } finally {
      clearTimeout(stalled);
    }
    await delay((options.retryWaitMs ?? HUB_RETRY_WAIT_MS) * 2 ** (tried - 1));
  }
}

function refusal(id: string, status: number, cause: unknown): HubRefused {
  const hint =
    status === 404
      ? 'Check the id and the revision'
      : 'It may ask for its terms to be accepted and for an access token';
  return new HubRefused(`The hub does not give ${id} (HTTP ${status})`, { id, status }, hint, {
    cause,
  });
}

function unreachable(id: string, attempts: number, cause: unknown): HubUnreachable {
  const { message, cause: deeper } = cause as Error;
  const why = deeper instanceof Error ? deeper.message : message;
  return new HubUnreachable(
    `${id} could not be fetched from the hub in ${attempts} attempts: ${why}`,
    { id, attempts, why },
    'Check the network and its proxy; or fetch the model elsewhere and name its folder',
    { cause },
  );
}

function request(id: string, revision: string, { accessToken }: HubOptions) {
  return {
    repo: { type: 'model', name: id } as const,
    revision,
    ...(accessToken === undefined ? {} : { accessToken }),
  };
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
