import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

interface Told {
  kind: string;
  port?: number;
  label?: string;
  reason?: string;
}

function start(way: string, environment: NodeJS.ProcessEnv = {}) {
  const child = fork(fileURLToPath(new URL('./drilled-process.ts', import.meta.url)), [way], {
    execArgv: ['--import', 'tsx'],
    // What the tests' own environment says of Errata is not these processes' affair.
    env: {
      ...Object.fromEntries(
        Object.entries(process.env).filter(([name]) => !name.startsWith('ERRATA_')),
      ),
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  children.push(child);
  const told: Told[] = [];
  let log = '';
  const waiting: (() => void)[] = [];
  child.stdout!.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.on('message', (message) => {
    told.push(message as Told);
    for (const look of waiting.splice(0)) look();
  });
  return {
    child,
    told,
    /** Resolves when it was told so. */
    hears: async (kind: string): Promise<Told> => {
      for (;;) {
        const found = told.find((one) => one.kind === kind);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    // Not by its 'close', which never comes once the parent has disconnected.
    ended: Promise.all([once(child, 'exit'), once(child.stdout!, 'end')]).then(([[code]]) => ({
      code: code as number | null,
      messages: log
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    })),
  };
}

describe('a process of ours', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)(
    'tells its steps and that it is ready, drains at %s and ends well',
    async (signal) => {
      const { child, told, hears, ended } = start('well');
      expect(await hears('ready')).toEqual({ kind: 'ready', port: 4_321 });
      expect(told[0]).toEqual({ kind: 'step', label: 'warming up', amount: 0.5, total: 1 });
      child.kill(signal);
      const { code, messages } = await ended;
      expect(code).toBe(0);
      expect(told.at(-1)).toEqual({ kind: 'drained' });
      expect(messages).toEqual(['Ready', 'Stopping', 'Stopped']);
    },
  );

  it('drains when its supervisor is gone', async () => {
    const { child, hears, ended } = start('well');
    await hears('ready');
    child.disconnect();
    expect((await ended).code).toBe(0);
  });

  it('ends at once when it is stopped before it was ready', async () => {
    const { child, hears, ended } = start('start-never-ends');
    await hears('step');
    child.kill('SIGTERM');
    expect((await ended).code).toBe(0);
  });

  it.each([
    ['its start fails', 'start-fails'],
    ['it ends by itself', 'ends-by-itself'],
  ])('ends badly when %s', async (_, way) => {
    const { told, ended } = start(way);
    const { code, messages } = await ended;
    expect(code).toBe(1);
    expect(messages).toContain('The process cannot go on');
    expect(told.some(({ kind }) => kind === 'refused')).toBe(false);
  });

  it('ends badly when it cannot drain', async () => {
    const { child, hears, ended } = start('drain-fails');
    await hears('ready');
    child.kill('SIGTERM');
    const { code, messages } = await ended;
    expect(code).toBe(1);
    expect(messages).toContain('The drain failed');
  });

  it('refuses a faulty configuration, which no restart would mend', async () => {
    const { hears, ended } = start('well', { ERRATA_BATCH_EDITS_MAX: 'many' });
    expect((await hears('refused')).reason).toContain('ERRATA_BATCH_EDITS_MAX');
    expect((await ended).code).toBe(1);
  });
});
