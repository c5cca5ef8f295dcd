import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
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
import { testFolder } from '../../harness/clean-up.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

interface Requested {
  path: string;
  range: string | null;
}

const addressOf = (input: Parameters<typeof fetch>[0]) =>
  input instanceof Request ? input.url : input.toString();

function listed([path, bytes]: [string, Uint8Array]) {
  const file = { type: 'file', path, size: bytes.length };
  if (!path.endsWith('.safetensors')) return file;
  const oid = createHash('sha256').update(bytes).digest('hex');
  return { ...file, lfs: { oid, size: bytes.length, pointerSize: 120 } };
}

/** A hub with one model, `owner/model`, which may misbehave when a file's content is requested. */
function hubWith(
  files: Record<string, Uint8Array>,
  misbehave?: (request: Requested, body: Uint8Array) => Response | undefined,
) {
  const requests: Requested[] = [];
  const answer: typeof fetch = async (input, init) => {
    const url = new URL(addressOf(input));
    const range = new Headers(init?.headers).get('range');
    requests.push({ path: url.pathname, range });
    if (url.pathname === '/api/models/owner/model/tree/main')
      return Response.json(Object.entries(files).map(listed));
    const bytes = files[url.pathname.replace('/owner/model/resolve/main/', '')];
    if (bytes === undefined) return new Response('', { status: 404 });
    const whole = ['', '0', String(bytes.length - 1)];
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range ?? '') ?? whole;
    const body = bytes.slice(Number(from), Number(to) + 1);
    const headers = { 'content-range': `bytes ${from}-${to}/${bytes.length}`, etag: '"e"' };
    return misbehave?.(requests.at(-1)!, body) ?? new Response(body, { status: 206, headers });
  };
  return { answer, requests };
}

const contentOf = (...file: string[]) => new Uint8Array(readFileSync(goldenPath('tiny', ...file)));
const modelFiles = (name: string): Record<string, Uint8Array> =>
  Object.fromEntries(
    readdirSync(goldenPath('tiny', name)).map((file) => [file, contentOf(name, file)]),
  );
const fetchWith = (answer: typeof fetch, more: { stallMs?: number } = {}) =>
  fetchFromHub('owner/model', folder, { fetch: answer, retryWaitMs: 0, ...more });
const isBytes = ({ path, range }: Requested) =>
  path.endsWith('.safetensors') && range !== 'bytes=0-0';
const quick = { retryWaitMs: 0 };

test('a model is fetched into a folder that opens without further files', async () => {
  const further = ['pytorch_model.bin', 'onnx/model.onnx', 'README.md'];
  const more = Object.fromEntries(further.map((name) => [name, new Uint8Array(9)]));
  const { answer } = hubWith({ ...modelFiles('qwen2'), ...more });
  const seen: [number, number][] = [];
  const path = await fetchFromHub('owner/model', folder, {
    fetch: answer,
    progress: (done, total) => seen.push([done, total]),
  });
  expect(path).toBe(join(folder, 'owner', 'model'));
  const kept = ['.fetched.json', ...Object.keys(modelFiles('qwen2'))];
  expect(readdirSync(path).sort()).toEqual(kept.sort());
  expect(seen.at(-1)![0]).toBe(seen.at(-1)![1]);
  const checkpoint = await openCheckpoint(path);
  expect(checkpoint.config.layers).toBe(3);
  await checkpoint.close();
});

test('config.json is fetched without the weights', async () => {
  const hub = hubWith(modelFiles('llama'));
  await fetchConfigFromHub('owner/model', folder, { ...quick, fetch: hub.answer });
  expect(readdirSync(folder)).toEqual(['config.json']);
  expect((await readModelShape(folder)).config.layers).toBe(4);
  expect(hub.requests.some(isBytes)).toBe(false);
  const bare = hubWith({ 'model.gguf': new Uint8Array([1]) });
  const refused = fetchConfigFromHub('owner/model', folder, { ...quick, fetch: bare.answer });
  await expect(refused).rejects.toThrow(HubRefused);
});

test('a model that was fetched is not requested again', async () => {
  const { answer, requests } = hubWith(modelFiles('llama'));
  await fetchFromHub('owner/model', folder, { fetch: answer });
  const before = requests.length;
  await fetchFromHub('owner/model', folder, { fetch: answer });
  expect(requests.length).toBe(before);
});

test('a fetch continues after a broken connection', async () => {
  let breaks = 2;
  const { answer, requests } = hubWith(modelFiles('llama'), (request, body) => {
    if (!isBytes(request) || breaks-- <= 0) return undefined;
    return new Response(ReadableStream.from([body.slice(0, 50_000)]), { status: 206 });
  });
  const path = await fetchWith(answer);
  const size = statSync(join(path, 'model.safetensors')).size;
  expect(requests.filter(isBytes).map(({ range }) => range)).toEqual([
    null,
    `bytes=50000-${size - 1}`,
    `bytes=100000-${size - 1}`,
  ]);
  const fetched = new Uint8Array(readFileSync(join(path, 'model.safetensors')));
  expect(fetched).toEqual(contentOf('llama', 'model.safetensors'));
});

test('a later call continues a fetch, and no partial file has the final name', async () => {
  const path = join(folder, 'owner', 'model');
  let down = true;
  const { answer, requests } = hubWith(modelFiles('llama'), (request, body) => {
    if (!isBytes(request) || !down) return undefined;
    return new Response(body.slice(0, 20_000), { status: 206 });
  });
  await expect(fetchWith(answer)).rejects.toThrow(HubUnreachable);
  expect(readdirSync(path)).toContain('model.safetensors.part');
  expect(readdirSync(path)).not.toContain('model.safetensors');
  expect(readdirSync(path)).not.toContain('.fetched.json');
  down = false;
  requests.length = 0;
  await fetchWith(answer);
  const [range, ...others] = requests.filter(isBytes).map((request) => request.range);
  expect(range).toMatch(/^bytes=80000-/);
  expect(others).toEqual([]);
  await (await openCheckpoint(path)).close();
});

test('a file that arrived damaged from the hub is deleted', async () => {
  const { answer } = hubWith(modelFiles('llama'), (request, body) =>
    isBytes(request) ? new Response(body.fill(0), { status: 206 }) : undefined,
  );
  await expect(fetchWith(answer)).rejects.toThrow(/model\.safetensors arrived damaged/);
  const left = readdirSync(join(folder, 'owner', 'model'));
  expect(left.filter((name) => name.startsWith('model'))).toEqual([]);
});

test('a fetch that stalls fails after HUB_ATTEMPTS_MAX attempts', async () => {
  const { answer, requests } = hubWith(modelFiles('llama'), () => undefined);
  const stalling: typeof fetch = (input, init) => {
    if (!addressOf(input).includes('model.safetensors')) return answer(input, init);
    requests.push({ path: 'stalled', range: null });
    return new Promise((_, reject) =>
      init!.signal!.addEventListener('abort', () => reject(init!.signal!.reason as Error)),
    );
  };
  const fetched = fetchWith(stalling, { stallMs: 5 });
  await expect(fetched).rejects.toThrow(/no byte came for too long/);
  expect(requests.filter(({ path }) => path === 'stalled')).toHaveLength(HUB_ATTEMPTS_MAX);
});

test('an unreachable hub is reported with a hint', async () => {
  const offline: typeof fetch = () =>
    Promise.reject(new TypeError('fetch failed', { cause: new Error('getaddrinfo ENOTFOUND') }));
  const fetched = fetchWith(offline);
  await expect(fetched).rejects.toThrow(HubUnreachable);
  await expect(fetched).rejects.toThrow(
    /owner\/model: not fetched in 4 attempts: getaddrinfo ENOTFOUND\..*name its folder/,
  );
  expect(readdirSync(folder)).toEqual([]);
});

test.each([
  [404, /Check the id/],
  [401, /access token/],
  [403, /terms may have to be accepted/],
])('a model for which the hub answers %i is refused at once', async (status, message) => {
  let calls = 0;
  const refusing: typeof fetch = async () => {
    calls++;
    return new Response('{}', { status });
  };
  const fetched = fetchWith(refusing);
  await expect(fetched).rejects.toThrow(HubRefused);
  await expect(fetched).rejects.toThrow(message);
  expect(calls).toBe(1);
});

test.each([
  ['weights', /no weights in safetensors/, ['config.json', 'tokenizer.json', 'pytorch_model.bin']],
  ['a tokeniser', /no tokenizer\.json/, ['config.json', 'model.safetensors']],
])('a model without %s is refused before anything is fetched', async (_, message, names) => {
  const files = Object.fromEntries(names.map((name) => [name, new Uint8Array(4)]));
  const { answer, requests } = hubWith(files);
  const fetched = fetchWith(answer);
  await expect(fetched).rejects.toThrow(UnsupportedCheckpoint);
  await expect(fetched).rejects.toThrow(message);
  expect(requests).toHaveLength(1);
});

test.each([
  ...['owner', 'a/b/c', '../secret', 'owner/..', './model', '/abs/path', 'owner/name.git'],
  ...['C:\\model', ''],
])('%j is not the id of a model', async (id) => {
  expect(isHubId(id)).toBe(false);
  await expect(fetchFromHub(id, folder)).rejects.toThrow(HubRefused);
});
