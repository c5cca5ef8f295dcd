import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { ExclusiveTimeout, holdExclusively } from '../../../infra/setup/exclusive.mjs';

const purposeOf = (name: string): string => `test ${name} ${process.pid}`;

test('a second holder waits until the first releases the lock', async () => {
  const purpose = purposeOf('order');
  const events: string[] = [];
  const first = await holdExclusively(purpose, 60_000);
  let waits: () => void = () => {};
  const waiting = new Promise<void>((resolve) => (waits = resolve));
  const second = holdExclusively(purpose, 60_000, () => {
    events.push('second waits');
    waits();
  }).then(async (turn) => {
    events.push('second holds');
    await turn.release();
  });
  await waiting;
  events.push('first releases');
  await first.release();
  await second;
  expect(events).toEqual(['second waits', 'first releases', 'second holds']);
});

test('of many contenders only one holds the lock at a time', async () => {
  const purpose = purposeOf('crowd');
  let inside = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      const turn = await holdExclusively(purpose, 60_000);
      inside += 1;
      most = Math.max(most, inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
      await turn.release();
    }),
  );
  expect(most).toBe(1);
});

test('the lock of a killed holder is released', async () => {
  const purpose = purposeOf('killed');
  const module = new URL('../../../infra/setup/exclusive.mjs', import.meta.url).href;
  const program = `import(${JSON.stringify(module)})
    .then(({ holdExclusively }) => holdExclusively(${JSON.stringify(purpose)}, 1000))
    .then(() => console.log('holding'));`;
  const holder = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  const turn = await holdExclusively(purpose, 60_000, () => holder.kill('SIGKILL'));
  await turn.release();
  expect(holder.signalCode ?? (await once(holder, 'exit'))[1]).toBe('SIGKILL');
});

test('a wait past its limit fails with the purpose of the lock', async () => {
  const purpose = purposeOf('bound');
  const first = await holdExclusively(purpose, 1_000);
  await expect(holdExclusively(purpose, 50)).rejects.toThrow(ExclusiveTimeout);
  await expect(holdExclusively(purpose, 50)).rejects.toThrow(purpose);
  await first.release();
});
