import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { endWithReader } from '../../../cli/terminal/closed-output.ts';
import { listenForInterruption } from '../../../cli/terminal/interruption.ts';

const broken = (code: string) => Object.assign(new Error(code), { code });

test('a closed output ends a command quietly', async () => {
  const main = fileURLToPath(new URL('../../../cli/main.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), main, '--help'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said += text.toString()));
  const [code] = (await once(child, 'close')) as [number];
  expect(said).toBe('');
  expect(code).toBe(0);
}, 60_000);

test('a closed output interrupts a command that waits for Ctrl-C', async () => {
  const stream = new PassThrough();
  endWithReader([stream]);
  const interruption = listenForInterruption();
  stream.emit('error', broken('EPIPE'));
  await expect(interruption.came).resolves.toBeNull();
});

test('other faults of the output are thrown', () => {
  const stream = new PassThrough();
  endWithReader([stream]);
  expect(() => stream.emit('error', broken('ENOSPC'))).toThrow('ENOSPC');
});
