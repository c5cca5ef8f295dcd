import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  DEFAULT_RESTART_POLICY,
  ProcessStartError,
  KeptProcess,
  type RestartPolicy,
} from '../../../infra/local/supervised-process.ts';
import { isRunning } from '../../../infra/local/process-mark.ts';
import type { SupervisedProcess } from '../../../infra/local/system-state.ts';

const READY_AND_STAY = `
  process.send({ kind: 'ready', port: 4711 });
  process.on('SIGTERM', () => process.exit(0));
  setInterval(() => {}, 1000);`;
const POLICY: RestartPolicy = { ...DEFAULT_RESTART_POLICY, waitMsMin: 1, waitMsMax: 4 };
const STOP_WAIT_MS = 10_000;

let folder: string;
let kept: KeptProcess | null;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-kept-'));
  kept = null;
});
afterEach(async () => {
  await kept?.stop(STOP_WAIT_MS);
  rmSync(folder, { recursive: true, force: true });
});

test('a supervised process is ready when it reports so, with its port and mark', async () => {
  kept = keep(READY_AND_STAY);
  await kept.firstReady;
  expect(kept.status).toMatchObject({ state: 'ready', port: 4711, restarts: 0 });
  expect(isRunning(kept.status.mark)).toBe(true);
});

test('a killed process is started again', async () => {
  const seen = follow();
  kept = keep(READY_AND_STAY, POLICY, seen.changed);
  await kept.firstReady;
  const first = kept.status.mark!.pid;
  process.kill(first, 'SIGKILL');
  await seen.until((status) => status.state === 'ready' && status.restarts === 1);
  expect(kept.status.mark!.pid).not.toBe(first);
});

test('the wait doubles with each crash in a row, up to the bound', async () => {
  const seen = follow();
  kept = keep(
    `process.send({ kind: 'ready' }); setImmediate(() => process.exit(3));`,
    POLICY,
    seen.changed,
  );
  await seen.until((status) => status.restarts === 5);
  expect(
    seen.events
      .filter((event) => event.includes('restarts in'))
      .slice(0, 5)
      .map((event) => event.replace(/.*; restarts in /, '')),
  ).toEqual(['0.001 s', '0.002 s', '0.004 s', '0.004 s', '0.004 s']);
});

test('a process that fails its first starts is given up, with the end of its log', async () => {
  kept = keep(`console.error('no such model'); process.exit(1);`);
  const error = await kept.firstReady.catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ProcessStartError);
  expect((error as ProcessStartError).message).toContain('no such model');
  expect((error as ProcessStartError).message).toContain(join(folder, 'log'));
  expect((error as ProcessStartError).facts.starts).toBe(POLICY.firstStartsMax);
  expect(kept.status.state).toBe('failed');
});

test('a process that is given up shows only the errors from its log', async () => {
  kept = keep(
    `console.log('{"level":30,"msg":"Loading"}');
     console.log('{"level":60,"reason":"the disk is full","msg":"Ended"}');
     process.exit(1);`,
  );
  const error = (await kept.firstReady.catch((cause: unknown) => cause)) as ProcessStartError;
  expect(error.message).toContain('the disk is full');
  expect(error.message).not.toContain('Loading');
});

test('a process that refuses to start is given up at once', async () => {
  kept = keep(
    `process.send({ kind: 'refused', reason: 'port 80 is not allowed' }, () => process.exit(1));`,
  );
  const error = (await kept.firstReady.catch((cause: unknown) => cause)) as ProcessStartError;
  expect(error.message).toContain('port 80 is not allowed');
  expect(error.facts.starts).toBe(1);
});

test('a process that cannot be started is given up', async () => {
  kept = new KeptProcess(
    { ...specification(''), executable: join(folder, 'absent') },
    POLICY,
    () => {},
  );
  await expect(kept.firstReady).rejects.toThrow(/cannot be run/);
});

test('a process that ignores SIGTERM is killed', async () => {
  kept = keep(
    `process.on('SIGTERM', () => {});
     process.send({ kind: 'ready' });
     setInterval(() => {}, 1000);`,
  );
  await kept.firstReady;
  const mark = kept.status.mark;
  await kept.stop(50);
  expect(isRunning(mark)).toBe(false);
  expect(kept.status.state).toBe('stopped');
});

test('the status shows the current step of a start', async () => {
  const seen = follow();
  kept = keep(
    `process.send({ kind: 'step', label: 'key statistics', amount: 1, total: 4 });` +
      READY_AND_STAY,
    POLICY,
    seen.changed,
  );
  await kept.firstReady;
  expect(seen.steps).toContain('key statistics 25 %');
  expect(kept.status.step).toBeNull();
});

test('the log contains the output of the process', async () => {
  kept = keep(`console.log('hello from the child');` + READY_AND_STAY);
  await kept.firstReady;
  await kept.stop(STOP_WAIT_MS);
  expect(readFileSync(join(folder, 'log'), 'utf8')).toContain('hello from the child');
});

function specification(script: string) {
  return {
    name: 'child',
    executable: process.execPath,
    args: ['-e', script],
    environment: process.env,
    workingDirectory: folder,
    log: join(folder, 'log'),
  };
}

function keep(
  script: string,
  policy = POLICY,
  changed: (status: SupervisedProcess, event: string | null) => void = () => {},
): KeptProcess {
  return new KeptProcess(specification(script), policy, changed);
}

/** Collects the changes, and lets a test wait for one. */
function follow() {
  const events: string[] = [];
  const steps: (string | null)[] = [];
  const waiting: { condition: (status: SupervisedProcess) => boolean; resolve: () => void }[] = [];
  return {
    events,
    steps,
    changed: (status: SupervisedProcess, event: string | null): void => {
      if (event !== null) events.push(event);
      steps.push(status.step);
      for (const one of waiting) if (one.condition(status)) one.resolve();
    },
    until: (condition: (status: SupervisedProcess) => boolean): Promise<void> =>
      new Promise<void>((resolve) => waiting.push({ condition, resolve })),
  };
}
