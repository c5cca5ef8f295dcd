import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { homeAt } from '../../../infra/config/home.ts';
import { fetchModel } from '../../../infra/setup/fetch-model.ts';
import { silentProgress } from '../../../infra/setup/progress.ts';
import { goldenPath } from '../../golden/read-golden.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'errata-fetch-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const FILES = readdirSync(goldenPath('tiny', 'llama'));

/**
 * A hub with one model. Its first listing is held back until `opened`; `downloads` counts the
 * requests for file contents.
 */
function hub() {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const counted = { lists: 0, downloads: 0 };
  const fetchLike: typeof fetch = async (input, init) => {
    const { pathname } = new URL(input instanceof Request ? input.url : input.toString());
    if (pathname.startsWith('/api/')) {
      counted.lists++;
      await opened;
      return Response.json(
        FILES.map((path) => ({
          type: 'file',
          path,
          size: readFileSync(goldenPath('tiny', 'llama', path)).length,
        })),
      );
    }
    counted.downloads++;
    const bytes = new Uint8Array(
      readFileSync(goldenPath('tiny', 'llama', pathname.split('/').at(-1)!)),
    );
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(
      new Headers(init?.headers).get('range') ?? '',
    ) ?? [null, '0', String(bytes.length - 1)];
    return new Response(bytes.slice(Number(from), Number(to) + 1), {
      status: 206,
      headers: { 'content-range': `bytes ${from}-${to}/${bytes.length}`, etag: '"e"' },
    });
  };
  return { fetch: fetchLike, counted, open };
}

it('a model is fetched by one of two processes while the other waits', async () => {
  const { fetch, counted, open } = hub();
  const configuration = { home, hubToken: null };
  const notes: string[] = [];
  let waits!: () => void;
  const waiting = new Promise<void>((resolve) => (waits = resolve));
  const watched = {
    ...silentProgress,
    note: (text: string) => {
      notes.push(text);
      waits();
    },
  };
  const both = Promise.all([
    fetchModel(configuration, 'owner/model', watched, { fetch }),
    fetchModel(configuration, 'owner/model', watched, { fetch }),
  ]);
  await waiting;
  open();
  await both;
  expect(notes).toEqual([expect.stringContaining('owner/model')]);
  expect(counted.lists).toBe(1);
  expect(readdirSync(join(homeAt(home).hubModels, 'owner', 'model')).sort()).toEqual(
    ['.fetched.json', ...FILES].sort(),
  );
});

it('a failed fetch lets the next process try', async () => {
  const refuse: typeof fetch = () => Promise.resolve(new Response('', { status: 401 }));
  const configuration = { home, hubToken: null };
  await expect(
    fetchModel(configuration, 'owner/model', silentProgress, { fetch: refuse }),
  ).rejects.toThrow('owner/model');
  const { fetch, open } = hub();
  open();
  await fetchModel(configuration, 'owner/model', silentProgress, { fetch });
  expect(readdirSync(join(homeAt(home).hubModels, 'owner', 'model'))).toContain('.fetched.json');
});
