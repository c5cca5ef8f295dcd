import { spawn } from 'node:child_process';
import { mkdtemp, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { namesUnder } from '../../../versions/stores/object-store.ts';
import { FileStore } from '../../../versions/stores/file-store.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import { conformsToObjectStore } from './object-store-conformance.ts';

const folders: string[] = [];
async function emptyFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'errata-file-store-'));
  folders.push(folder);
  return folder;
}
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

conformsToObjectStore(
  'FileStore',
  async () => new FileStore(join(await emptyFolder(), 'versions')),
);
conformsToObjectStore('MemoryStore', async () => new MemoryStore());

describe('FileStore', () => {
  it('lets exactly one of several processes write a name', async () => {
    const folder = await emptyFolder();
    const module = new URL('../../../versions/stores/file-store.ts', import.meta.url).href;
    const program = `import { FileStore } from ${JSON.stringify(module)};
      const store = new FileStore(process.argv[1]);
      let wins = 0;
      const bytes = Buffer.from(process.argv[2]);
      for (let i = 0; i < 40; i += 1)
        if ((await store.putIfAbsent('lineages/a/log/' + i, bytes)) === 'stored') wins += 1;
      console.log(wins);`;
    const wins = await Promise.all(
      ['one', 'two', 'three'].map((who) =>
        outputOf(['--import', 'tsx', '--input-type=module', '-e', program, folder, who]),
      ),
    );
    expect(wins.map(Number).reduce((sum, n) => sum + n)).toBe(40);
  });

  it('leaves no temporary file behind, whether the put won or lost', async () => {
    const folder = await emptyFolder();
    const store = new FileStore(folder);
    await store.putIfAbsent('a', Buffer.from('1'));
    await store.putIfAbsent('a', Buffer.from('2'));
    expect(await readdir(join(folder, '.tmp'))).toEqual([]);
  });

  it('sweeps files of a process that died during a put, and spares current ones', async () => {
    const folder = await emptyFolder();
    await mkdir(join(folder, '.tmp'));
    await writeFile(join(folder, '.tmp', 'dead'), 'half');
    await writeFile(join(folder, '.tmp', 'alive'), 'half');
    const longAgo = new Date(Date.now() - 7_200_000);
    await utimes(join(folder, '.tmp', 'dead'), longAgo, longAgo);
    await new FileStore(folder).putIfAbsent('a', Buffer.from('1'));
    expect(await readdir(join(folder, '.tmp'))).toEqual(['alive']);
  });

  it('does not show half-written files in a listing', async () => {
    const folder = await emptyFolder();
    const store = new FileStore(folder);
    await store.putIfAbsent('a', Buffer.from('1'));
    await writeFile(join(folder, '.tmp', 'half'), 'half');
    const names = await namesUnder(store, '');
    expect(names).toEqual(['a']);
  });
});

function outputOf(parameters: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(output) : reject(new Error(`exit code ${code}`)),
    );
  });
}
