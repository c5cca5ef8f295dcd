import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DEFAULT_RESTART_POLICY,
  keepRunning,
  ProcessStartError,
  type KeptProcess,
  type RestartPolicy,
} from '../../../infra/local/supervised-process.ts';
import { isRunning, type SupervisedProcess } from '../../../infra/local/system-state.ts';

const READY_AND_STAY = `process.send({ kind: 'ready', port: 4711 }); process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);`;
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

describe('a process that is kept running', () => {
  it('is ready when it says so, and tells its port and identity', async () => {
    kept = keep(READY_AND_STAY);
    await kept.firstReady;
    expect(kept.status).toMatchObject({ state: 'ready', port: 4711, restarts: 0 });
    expect(isRunning(kept.status.mark)).toBe(true);
  });

  it('is started again after it was killed', async () => {
    const seen = follow();
    kept = keep(READY_AND_STAY, POLICY, seen.changed);
    await kept.firstReady;
    const first = kept.status.mark!.pid;
    process.kill(first, 'SIGKILL');
    await seen.until((status) => status.state === 'ready' && status.restarts === 1);
    expect(kept.status.mark!.pid).not.toBe(first);
  });

  it('waits twice as long after each crash in a row, up to the bound', async () => {
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

  it('is given up when its first starts fail, with the end of its log and where that is', async () => {
    kept = keep(`console.error('no such model'); process.exit(1);`);
    const error = await kept.firstReady.catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ProcessStartError);
    expect((error as ProcessStartError).message).toContain('no such model');
    expect((error as ProcessStartError).message).toContain(join(folder, 'log'));
    expect((error as ProcessStartError).facts.starts).toBe(POLICY.firstStartsMax);
    expect(kept.status.state).toBe('failed');
  });

  it('is given up with the errors that it logged, without the rest of its log', async () => {
    kept = keep(
      `console.log('{"level":30,"msg":"Loading"}'); console.log('{"level":60,"reason":"the disk is full","msg":"Ended"}'); process.exit(1);`,
    );
    const error = (await kept.firstReady.catch((cause: unknown) => cause)) as ProcessStartError;
    expect(error.message).toContain('the disk is full');
    expect(error.message).not.toContain('Loading');
  });

  it('is given up at once when it refuses', async () => {
    kept = keep(
      `process.send({ kind: 'refused', reason: 'port 80 is not allowed' }, () => process.exit(1));`,
    );
    const error = (await kept.firstReady.catch((cause: unknown) => cause)) as ProcessStartError;
    expect(error.message).toContain('port 80 is not allowed');
    expect(error.facts.starts).toBe(1);
  });

  it('is given up when it cannot be run at all', async () => {
    kept = keepRunning(
      { ...specification(''), executable: join(folder, 'absent') },
      POLICY,
      () => {},
    );
    await expect(kept.firstReady).rejects.toThrow(/cannot be run/);
  });

  it('is killed when it does not end by itself', async () => {
    kept = keep(
      `process.on('SIGTERM', () => {}); process.send({ kind: 'ready' }); setInterval(() => {}, 1000);`,
    );
    await kept.firstReady;
    const mark = kept.status.mark;
    await kept.stop(50);
    expect(isRunning(mark)).toBe(false);
    expect(kept.status.state).toBe('stopped');
  });

  it('shows the step it is in while it starts', async () => {
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

  it('writes what it prints to its log', async () => {
    kept = keep(`console.log('hello from the child');` + READY_AND_STAY);
    await kept.firstReady;
    await kept.stop(STOP_WAIT_MS);
    expect(readFileSync(join(folder, 'log'), 'utf8')).toContain('hello from the child');
  });
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
  return keepRunning(specification(script), policy, changed);
}

/** Follows the changes, so that a test can wait for one without looking again and again. */
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
