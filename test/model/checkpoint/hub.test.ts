import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  openCheckpoint,
  readModelShape,
  UnsupportedCheckpoint,
} from '../../../model/checkpoint/checkpoint.ts';
import {
  fetchConfigFromHub,
  fetchFromHub,
  HUB_ATTEMPTS_MAX,
  HubRefused,
  HubUnreachable,
} from '../../../model/checkpoint/hub.ts';
import { isHubId } from '../../../model/checkpoint/hub-id.ts';
import { goldenPath } from '../../golden/read-golden.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-hub-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Asked {
  path: string;
  range: string | null;
}

const addressOf = (input: Parameters<typeof fetch>[0]) =>
  input instanceof Request ? input.url : input.toString();

/**
 * A hub with one model on it, `owner/model`, that may be made to misbehave on a request for a
 * file's bytes.
 */
function hubWith(
  files: Record<string, Uint8Array>,
  misbehave?: (asked: Asked, body: Uint8Array) => Response | undefined,
) {
  const asked: Asked[] = [];
  const answer: typeof fetch = async (input, init) => {
    const url = new URL(addressOf(input));
    const range = new Headers(init?.headers).get('range');
    asked.push({ path: url.pathname, range });
    if (url.pathname === '/api/models/owner/model/tree/main') {
      return Response.json(
        Object.entries(files).map(([path, bytes]) => ({
          type: 'file',
          path,
          size: bytes.length,
          ...(path.endsWith('.safetensors')
            ? {
                lfs: {
                  oid: createHash('sha256').update(bytes).digest('hex'),
                  size: bytes.length,
                  pointerSize: 120,
                },
              }
            : {}),
        })),
      );
    }
    const bytes = files[url.pathname.replace('/owner/model/resolve/main/', '')];
    if (bytes === undefined) return new Response('', { status: 404 });
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range ?? '') ?? [
      null,
      '0',
      String(bytes.length - 1),
    ];
    const body = bytes.slice(Number(from), Number(to) + 1);
    const headers = { 'content-range': `bytes ${from}-${to}/${bytes.length}`, etag: '"e"' };
    return misbehave?.(asked.at(-1)!, body) ?? new Response(body, { status: 206, headers });
  };
  return { answer, asked };
}

const modelFiles = (name: string): Record<string, Uint8Array> =>
  Object.fromEntries(
    readdirSync(goldenPath('tiny', name)).map((file) => [
      file,
      new Uint8Array(readFileSync(goldenPath('tiny', name, file))),
    ]),
  );
const isBytes = ({ path, range }: Asked) => path.endsWith('.safetensors') && range !== 'bytes=0-0';
const quick = { retryWaitMs: 0 };

describe('a model from the hub', () => {
  it('is fetched into a folder that can be opened, with what it needs and nothing else', async () => {
    const files = {
      ...modelFiles('qwen2'),
      'pytorch_model.bin': new Uint8Array(9),
      'onnx/model.onnx': new Uint8Array(9),
      'README.md': new Uint8Array(9),
    };
    const { answer } = hubWith(files);
    const seen: [number, number][] = [];
    const path = await fetchFromHub('owner/model', folder, {
      fetch: answer,
      progress: (done, total) => seen.push([done, total]),
    });
    expect(path).toBe(join(folder, 'owner', 'model'));
    expect(readdirSync(path).sort()).toEqual(
      ['.fetched.json', ...Object.keys(modelFiles('qwen2'))].sort(),
    );
    expect(seen.at(-1)![0]).toBe(seen.at(-1)![1]);
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.config.layers).toBe(3);
    await checkpoint.close();
  });

  it('is known by its config.json alone, without its weights', async () => {
    const hub = hubWith(modelFiles('llama'));
    await fetchConfigFromHub('owner/model', folder, { ...quick, fetch: hub.answer });
    expect(readdirSync(folder)).toEqual(['config.json']);
    expect((await readModelShape(folder)).config.layers).toBe(4);
    expect(hub.asked.some(isBytes)).toBe(false);
    const bare = hubWith({ 'model.gguf': new Uint8Array([1]) });
    await expect(
      fetchConfigFromHub('owner/model', folder, { ...quick, fetch: bare.answer }),
    ).rejects.toThrow(HubRefused);
  });

  it('is not asked for again once it is there', async () => {
    const { answer, asked } = hubWith(modelFiles('llama'));
    await fetchFromHub('owner/model', folder, { fetch: answer });
    const before = asked.length;
    await fetchFromHub('owner/model', folder, { fetch: answer });
    expect(asked.length).toBe(before);
  });

  it('goes on where the way to it broke', async () => {
    let breaks = 2;
    const { answer, asked } = hubWith(modelFiles('llama'), (request, body) => {
      if (!isBytes(request) || breaks-- <= 0) return undefined;
      const half = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(body.slice(0, 50_000));
          controller.close();
        },
      });
      return new Response(half, { status: 206 });
    });
    const path = await fetchFromHub('owner/model', folder, { fetch: answer, ...quick });
    const size = statSync(join(path, 'model.safetensors')).size;
    expect(asked.filter(isBytes).map(({ range }) => range)).toEqual([
      null,
      `bytes=50000-${size - 1}`,
      `bytes=100000-${size - 1}`,
    ]);
    expect(readFileSync(join(path, 'model.safetensors'))).toEqual(
      readFileSync(goldenPath('tiny', 'llama', 'model.safetensors')),
    );
  });

  it('goes on in a later call, and no half file bears its name', async () => {
    const path = join(folder, 'owner', 'model');
    let down = true;
    const { answer, asked } = hubWith(modelFiles('llama'), (request, body) => {
      if (!isBytes(request) || !down) return undefined;
      return new Response(body.slice(0, 20_000), { status: 206 });
    });
    await expect(fetchFromHub('owner/model', folder, { fetch: answer, ...quick })).rejects.toThrow(
      HubUnreachable,
    );
    expect(readdirSync(path)).toContain('model.safetensors.part');
    expect(readdirSync(path)).not.toContain('model.safetensors');
    expect(readdirSync(path)).not.toContain('.fetched.json');
    down = false;
    asked.length = 0;
    await fetchFromHub('owner/model', folder, { fetch: answer, ...quick });
    expect(asked.filter(isBytes).map(({ range }) => range)).toEqual([
      expect.stringMatching(/^bytes=80000-/),
    ]);
    await (await openCheckpoint(path)).close();
  });

  it('that arrived damaged is thrown away', async () => {
    const { answer } = hubWith(modelFiles('llama'), (request, body) =>
      isBytes(request) ? new Response(body.fill(0), { status: 206 }) : undefined,
    );
    await expect(fetchFromHub('owner/model', folder, { fetch: answer, ...quick })).rejects.toThrow(
      /model\.safetensors arrived damaged/,
    );
    expect(
      readdirSync(join(folder, 'owner', 'model')).filter((name) => name.startsWith('model')),
    ).toEqual([]);
  });

  it('that stalls is given up after so many attempts', async () => {
    const { answer, asked } = hubWith(modelFiles('llama'), () => undefined);
    const stalling: typeof fetch = (input, init) => {
      if (!addressOf(input).includes('model.safetensors')) return answer(input, init);
      asked.push({ path: 'stalled', range: null });
      return new Promise((_, reject) =>
        init!.signal!.addEventListener('abort', () => reject(init!.signal!.reason as Error)),
      );
    };
    const fetched = fetchFromHub('owner/model', folder, { fetch: stalling, stallMs: 5, ...quick });
    await expect(fetched).rejects.toThrow(/no byte came for too long/);
    expect(asked.filter(({ path }) => path === 'stalled')).toHaveLength(HUB_ATTEMPTS_MAX);
  });

  it('out of reach is told with the mend', async () => {
    const offline: typeof fetch = () =>
      Promise.reject(new TypeError('fetch failed', { cause: new Error('getaddrinfo ENOTFOUND') }));
    const fetched = fetchFromHub('owner/model', folder, { fetch: offline, ...quick });
    await expect(fetched).rejects.toThrow(HubUnreachable);
    await expect(fetched).rejects.toThrow(
      /owner\/model could not be fetched from the hub in 4 attempts: getaddrinfo ENOTFOUND\..*name its folder/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [404, /Check the id/],
    [401, /access token/],
    [403, /terms to be accepted/],
  ])('that the hub answers with %i for is refused at once', async (status, message) => {
    let calls = 0;
    const refusing: typeof fetch = async () => {
      calls++;
      return new Response('{}', { status });
    };
    const fetched = fetchFromHub('owner/model', folder, { fetch: refusing, ...quick });
    await expect(fetched).rejects.toThrow(HubRefused);
    await expect(fetched).rejects.toThrow(message);
    expect(calls).toBe(1);
  });

  it.each([
    [
      'weights in safetensors',
      /no weights in safetensors/,
      ['config.json', 'tokenizer.json', 'pytorch_model.bin'],
    ],
    ['a tokeniser', /no tokenizer\.json/, ['config.json', 'model.safetensors']],
  ])('without %s is refused before anything is fetched', async (_, message, names) => {
    const { answer, asked } = hubWith(
      Object.fromEntries(names.map((name) => [name, new Uint8Array(4)])),
    );
    const fetched = fetchFromHub('owner/model', folder, { fetch: answer, ...quick });
    await expect(fetched).rejects.toThrow(UnsupportedCheckpoint);
    await expect(fetched).rejects.toThrow(message);
    expect(asked).toHaveLength(1);
  });

  it.each([
    'owner',
    'a/b/c',
    '../secret',
    'owner/..',
    './model',
    '/abs/path',
    'owner/name.git',
    'C:\\model',
    '',
  ])('has no id like %j', async (id) => {
    expect(isHubId(id)).toBe(false);
    await expect(fetchFromHub(id, folder)).rejects.toThrow(HubRefused);
  });
});
