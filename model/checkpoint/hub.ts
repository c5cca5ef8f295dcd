/**
 * Fetches a model from the Hugging Face hub into a folder that openCheckpoint reads. Only this file
 * imports @huggingface/hub. Each file grows as `<name>.part`, which a later call continues, and is
 * renamed when it is complete and its checksum is right. `.fetched.json` is written last, so a
 * folder with it is complete. The caller must not fetch into one folder twice at the same time.
 */
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { downloadFile, HubApiError, listFiles } from '@huggingface/hub';
import { CheckpointFault, UnsupportedCheckpoint } from '../format/faults.ts';
import { SHARDS_MAX } from '../format/safetensors-files.ts';
import { isHubId } from './hub-id.ts';
import { fileSha256 } from './identity.ts';

const HUB_LISTED_FILES_MAX = 10_000;
export const HUB_ATTEMPTS_MAX = 4;
const HUB_STALL_MS = 60_000;
const HUB_RETRY_WAIT_MS = 1_000;
const CONFIG_BYTES_MAX = 2 ** 24;
const COMPLETE_NAME = '.fetched.json';
const SMALL_FILES = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
];

export interface HubOptions {
  /** A branch, tag or commit; `main` by default. */
  revision?: string;
  accessToken?: string;
  progress?: (doneBytes: number, totalBytes: number) => void;
  fetch?: typeof fetch;
  /** An attempt ends after this many milliseconds without a byte; HUB_STALL_MS by default. */
  stallMs?: number;
  /** Wait before the second attempt, then doubled; HUB_RETRY_WAIT_MS by default. */
  retryWaitMs?: number;
}

/** The hub was not reached, or the connection broke too often. Another call continues. */
export class HubUnreachable extends CheckpointFault {
  override readonly name = 'HubUnreachable';
}

/** The hub lacks the model or refuses to send it. */
export class HubRefused extends CheckpointFault {
  override readonly name = 'HubRefused';
}

/**
 * Fetches the model into `<modelsFolder>/<owner>/<name>` if it is not there, and returns the
 * folder. Throws HubUnreachable, HubRefused, or UnsupportedCheckpoint for a model without
 * safetensors.
 */
export async function fetchFromHub(
  id: string,
  modelsFolder: string,
  options: HubOptions = {},
): Promise<string> {
  const hub = new Hub(id, options);
  const folder = join(modelsFolder, ...id.split('/'));
  if (await isComplete(folder, hub.revision)) return folder;
  const files = selectFiles(id, await hub.list());
  await mkdir(folder, { recursive: true });
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let before = 0;
  for (const file of files) {
    await hub.fetchWhole(folder, file, (bytes) => options.progress?.(before + bytes, total));
    before += file.size;
  }
  const note = { id, revision: hub.revision, files };
  await writeFile(join(folder, `${COMPLETE_NAME}.part`), JSON.stringify(note));
  await rename(join(folder, `${COMPLETE_NAME}.part`), join(folder, COMPLETE_NAME));
  return folder;
}

/**
 * Fetches only config.json, a few kilobytes, into the folder. Throws HubUnreachable, HubRefused.
 */
export async function fetchConfigFromHub(
  id: string,
  folder: string,
  options: HubOptions = {},
): Promise<void> {
  const text = await new Hub(id, options).config();
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), text);
}

interface HubFile {
  path: string;
  size: number;
  /** Null for small files, for which the hub gives no sha256. */
  sha256: string | null;
}

async function isComplete(folder: string, revision: string): Promise<boolean> {
  try {
    const note = JSON.parse(await readFile(join(folder, COMPLETE_NAME), 'utf8')) as {
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

/**
 * Selects the configuration, the tokeniser and the weights: `model.safetensors`, the only file, or
 * the shards.
 */
function selectFiles(id: string, files: HubFile[]): HubFile[] {
  const inRoot = files.filter(({ path }) => !/[/\\]/.test(path));
  const named = (name: string) => inRoot.find(({ path }) => path === name);
  const weights = inRoot.filter(({ path }) => path.endsWith('.safetensors'));
  const whole = named('model.safetensors') ?? (weights.length === 1 ? weights[0] : undefined);
  const shards = weights.filter(({ path }) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(path));
  const index = named('model.safetensors.index.json');
  const chosen = whole !== undefined ? [whole] : index !== undefined ? [index, ...shards] : [];
  if (chosen.length === 0 || shards.length > SHARDS_MAX)
    throw new UnsupportedCheckpoint(
      id,
      'no weights in safetensors',
      'Choose a model that has model.safetensors, or fetch its GGUF file and name its path',
    );
  for (const needed of ['config.json', 'tokenizer.json'])
    if (named(needed) === undefined)
      throw new UnsupportedCheckpoint(
        id,
        `no ${needed}`,
        'Choose a model of the Hugging Face layout with a fast tokeniser',
      );
  return [...inRoot.filter(({ path }) => SMALL_FILES.includes(path)), ...chosen];
}

class Hub {
  readonly revision: string;

  constructor(
    readonly id: string,
    private readonly options: HubOptions,
  ) {
    if (!isHubId(id)) throw new HubRefused(id, 'not the id of a model', 'An id is owner/name');
    this.revision = options.revision ?? 'main';
  }

  list(): Promise<HubFile[]> {
    return this.#attempt(async (fetchOnce) => {
      const files: HubFile[] = [];
      for await (const entry of listFiles({ ...this.#request(), fetch: fetchOnce })) {
        if (files.length >= HUB_LISTED_FILES_MAX)
          throw this.#refused(`lists over ${HUB_LISTED_FILES_MAX} files`, 'Choose another model');
        if (entry.type === 'file')
          files.push({ path: entry.path, size: entry.size, sha256: entry.lfs?.oid ?? null });
      }
      return files;
    });
  }

  config(): Promise<string> {
    const hint =
      'Choose a model of the Hugging Face layout, or fetch its GGUF file and name its path';
    return this.#attempt(async (fetchOnce) => {
      const blob = await this.#download('config.json', fetchOnce);
      if (blob === null) throw this.#refused('no config.json', hint);
      if (blob.size > CONFIG_BYTES_MAX)
        throw this.#refused(`its config.json has over ${CONFIG_BYTES_MAX} bytes`, hint);
      return blob.text();
    });
  }

  async fetchWhole(
    folder: string,
    file: HubFile,
    progress: (bytes: number) => void,
  ): Promise<void> {
    const path = join(folder, file.path);
    if ((await sizeOf(path)) === file.size) return;
    const part = `${path}.part`;
    // Without a checksum, a part from another revision would go unnoticed. Such files are small.
    if (file.sha256 === null || (await sizeOf(part)) > file.size) await rm(part, { force: true });
    await this.#attempt(async (fetchOnce, alive) => {
      const blob = await this.#download(file.path, fetchOnce);
      if (blob === null) throw this.#refused(`lists ${file.path} but lacks it`, 'Try again later');
      await this.#append(part, blob, file, (bytes) => {
        alive();
        progress(bytes);
      });
    });
    if (file.sha256 !== null && (await fileSha256(part)) !== file.sha256) {
      await rm(part, { force: true });
      const hint = 'It was deleted; fetch it again';
      throw new HubUnreachable(this.id, `${file.path} arrived damaged`, hint);
    }
    await rename(part, path);
  }

  async #append(
    part: string,
    blob: Blob,
    { path, size }: HubFile,
    progress: (bytes: number) => void,
  ): Promise<void> {
    let bytes = await sizeOf(part);
    const handle = await open(part, 'a');
    try {
      const rest = bytes < size ? blob.slice(bytes, size).stream() : [];
      for await (const chunk of rest as AsyncIterable<Uint8Array>) {
        bytes += chunk.length;
        if (bytes > size)
          throw this.#refused(`${path} is longer than its ${size} bytes`, 'Try again later');
        await handle.writeFile(chunk);
        progress(bytes);
      }
      if (bytes < size) throw new TypeError(`ended after ${bytes} of ${size} bytes`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /**
   * Retries until `work` succeeds, is refused, or has failed HUB_ATTEMPTS_MAX times. `alive`
   * postpones the end of an attempt.
   */
  async #attempt<T>(work: (fetchOnce: typeof fetch, alive: () => void) => Promise<T>): Promise<T> {
    const { stallMs = HUB_STALL_MS, retryWaitMs = HUB_RETRY_WAIT_MS } = this.options;
    for (let tried = 1; ; tried++) {
      const aborter = new AbortController();
      const stalled = setTimeout(
        () => aborter.abort(new TypeError('no byte came for too long')),
        stallMs,
      );
      const fetchOnce: typeof fetch = (input, init) =>
        (this.options.fetch ?? fetch)(input, { ...init, signal: aborter.signal });
      try {
        return await work(fetchOnce, () => stalled.refresh());
      } catch (error) {
        this.#giveUp(error, tried);
      } finally {
        clearTimeout(stalled);
      }
      await delay(retryWaitMs * 2 ** (tried - 1));
    }
  }

  /** Throws unless another attempt may help. */
  #giveUp(error: unknown, tried: number): void {
    if (error instanceof CheckpointFault) throw error;
    const status = error instanceof HubApiError ? error.statusCode : null;
    if (status !== null && status < 500 && status !== 408 && status !== 429)
      throw this.#refused(
        `the hub refuses it (HTTP ${status})`,
        status === 404
          ? 'Check the id and the revision'
          : 'Its terms may have to be accepted, or it may need an access token',
        { cause: error },
      );
    if (tried < HUB_ATTEMPTS_MAX) return;
    const { message, cause } = error as Error;
    throw new HubUnreachable(
      this.id,
      `not fetched in ${tried} attempts: ${cause instanceof Error ? cause.message : message}`,
      'Check the network and its proxy; or fetch the model elsewhere and name its folder',
      { cause: error },
    );
  }

  #refused(fault: string, hint: string, options?: ErrorOptions): HubRefused {
    return new HubRefused(this.id, fault, hint, options);
  }

  #download(path: string, fetchOnce: typeof fetch): Promise<Blob | null> {
    return downloadFile({ ...this.#request(), path, xet: false, fetch: fetchOnce });
  }

  #request() {
    const { accessToken } = this.options;
    return {
      repo: { type: 'model', name: this.id } as const,
      revision: this.revision,
      ...(accessToken === undefined ? {} : { accessToken }),
    };
  }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
