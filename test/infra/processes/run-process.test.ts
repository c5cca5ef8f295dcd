import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

interface Message {
  kind: string;
  port?: number;
  label?: string;
  reason?: string;
}

function start(behaviour: string, environment: NodeJS.ProcessEnv = {}) {
  const child = fork(
    fileURLToPath(new URL('./scripted-process.ts', import.meta.url)),
    [behaviour],
    {
      execArgv: ['--import', 'tsx'],
      // The environment without its own Errata settings.
      env: {
        ...Object.fromEntries(
          Object.entries(process.env).filter(([name]) => !name.startsWith('ERRATA_')),
        ),
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    },
  );
  children.push(child);
  const received: Message[] = [];
  let log = '';
  const waiting: (() => void)[] = [];
  child.stdout!.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.on('message', (message) => {
    received.push(message as Message);
    for (const look of waiting.splice(0)) look();
  });
  return {
    child,
    received,
    /** Resolves to the first message of this kind. */
    message: async (kind: string): Promise<Message> => {
      for (;;) {
        const found = received.find((one) => one.kind === kind);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    // After the parent has disconnected, 'close' never comes.
    ended: Promise.all([once(child, 'exit'), once(child.stdout!, 'end')]).then(([[code]]) => ({
      code: code as number | null,
      messages: log
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    })),
  };
}

test.each(['SIGTERM', 'SIGINT'] as const)(
  'a process reports its steps and its readiness, and drains at %s',
  async (signal) => {
    const { child, received, message, ended } = start('well');
    expect(await message('ready')).toEqual({ kind: 'ready', port: 4_321 });
    expect(received[0]).toEqual({ kind: 'step', label: 'warming up', amount: 0.5, total: 1 });
    child.kill(signal);
    const { code, messages } = await ended;
    expect(code).toBe(0);
    expect(received.at(-1)).toEqual({ kind: 'drained' });
    expect(messages).toEqual(['Ready', 'Stopping', 'Stopped']);
  },
);

test('a process drains when its supervisor is gone', async () => {
  const { child, message, ended } = start('well');
  await message('ready');
  child.disconnect();
  expect((await ended).code).toBe(0);
});

test('a process stopped before it is ready ends at once', async () => {
  const { child, message, ended } = start('start-never-ends');
  await message('step');
  child.kill('SIGTERM');
  expect((await ended).code).toBe(0);
});

test.each([
  ['its start fails', 'start-fails'],
  ['it ends on its own', 'ends-on-its-own'],
])('a process exits with 1 when %s', async (_, behaviour) => {
  const { received, ended } = start(behaviour);
  const { code, messages } = await ended;
  expect(code).toBe(1);
  expect(messages).toContain('The process cannot go on');
  expect(received.some(({ kind }) => kind === 'refused')).toBe(false);
});

test('a process exits with 1 when it cannot drain', async () => {
  const { child, message, ended } = start('drain-fails');
  await message('ready');
  child.kill('SIGTERM');
  const { code, messages } = await ended;
  expect(code).toBe(1);
  expect(messages).toContain('The drain failed');
});

test('a process refuses an invalid configuration, which a restart cannot fix', async () => {
  const { message, ended } = start('well', { ERRATA_BATCH_EDITS_MAX: 'many' });
  expect((await message('refused')).reason).toContain('ERRATA_BATCH_EDITS_MAX');
  expect((await ended).code).toBe(1);
});
