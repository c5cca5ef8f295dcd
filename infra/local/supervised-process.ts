/**
 * A child process that is kept running: started, started again after a crash with a growing wait,
 * stopped in the end.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Announcement } from './supervisor-messages.ts';
import { markOf, type SupervisedProcess } from './system-state.ts';

export interface ProcessSpecification {
  name: string;
  executable: string;
  args: string[];
  environment: NodeJS.ProcessEnv;
  workingDirectory: string;
  /** File that its output is added to. */
  log: string;
}

export interface RestartPolicy {
  /**
   * Wait before the first restart; each further one in a row waits twice as long, up to the bound.
   */
  waitMsMin: number;
  waitMsMax: number;
  /** After so long in a row its earlier crashes are forgotten. */
  healthyMs: number;
  /** Failed starts in a row before it is given up, as long as it has never been ready. */
  firstStartsMax: number;
  /** How long one start may take before it counts as failed. */
  readyWaitMs: number;
}

export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  waitMsMin: 500,
  waitMsMax: 30_000,
  healthyMs: 60_000,
  firstStartsMax: 3,
  readyWaitMs: 1_800_000,
};

/** A process did not come up. */
export class ProcessStartError extends Error {
  override readonly name = 'ProcessStartError';
  constructor(
    message: string,
    readonly facts: { process: string; log: string; starts: number },
    readonly hint: string,
  ) {
    super(`${message} ${hint}`);
  }
}

export interface KeptProcess {
  readonly status: SupervisedProcess;
  /** Settles when it was first ready, or was given up (`ProcessStartError`). */
  readonly firstReady: Promise<void>;
  /** Ends it for good: SIGTERM, after `waitMs` SIGKILL. */
  stop(waitMs: number): Promise<void>;
}

/** Starts the process and keeps it running; `changed` is called after every change of `status`. */
export function keepRunning(
  specification: ProcessSpecification,
  policy: RestartPolicy,
  changed: (status: SupervisedProcess, event: string | null) => void,
): KeptProcess {
  const status: SupervisedProcess = {
    name: specification.name,
    state: 'starting',
    mark: null,
    startedAt: null,
    restarts: 0,
    port: null,
    step: null,
    log: specification.log,
  };
  const ready = withResolvers<void>();
  // Whoever stops before looking at it must not be met by an unhandled rejection.
  ready.promise.catch(() => {});
  const stopped = withResolvers<void>();
  let child: ChildProcess | null = null;
  let stopping = false;
  let everReady = false;
  let failuresInARow = 0;
  let restartTimer: NodeJS.Timeout | undefined;

  const giveUp = (reason: string): void => {
    status.state = 'failed';
    status.step = null;
    changed(status, reason);
    const tail = logTail(specification.log);
    ready.reject(
      new ProcessStartError(
        `${specification.name} does not start: ${reason}.${tail === '' ? '' : `\n${tail}\n`}`,
        { process: specification.name, log: specification.log, starts: failuresInARow },
        `Its log is ${specification.log}.`,
      ),
    );
    stopped.resolve();
  };

  const start = (): void => {
    const startedMs = performance.now();
    let wasReady = false;
    let refusal: string | null = null;
    let over = false;
    const log = openLog(specification.log);
    const current = spawn(specification.executable, specification.args, {
      cwd: specification.workingDirectory,
      env: specification.environment,
      stdio: ['ignore', log, log, 'ipc'],
    });
    closeSync(log);
    child = current;
    status.state = 'starting';
    status.mark = current.pid === undefined ? null : markOf(current.pid);
    status.startedAt = new Date().toISOString();
    const startTimer = setTimeout(() => current.kill('SIGKILL'), policy.readyWaitMs);
    changed(status, null);

    current.on('message', (message) => {
      const announcement = message as Announcement;
      if (announcement.kind === 'ready') {
        clearTimeout(startTimer);
        wasReady = true;
        everReady = true;
        status.state = 'ready';
        status.port = announcement.port ?? status.port;
        status.step = null;
        changed(status, 'ready');
        ready.resolve();
      } else if (announcement.kind === 'step') {
        status.step = describeStep(announcement);
        changed(status, null);
      } else if (announcement.kind === 'refused') {
        refusal = announcement.reason;
      }
    });

    const ended = (how: string): void => {
      if (over) return;
      over = true;
      clearTimeout(startTimer);
      child = null;
      status.mark = null;
      status.step = null;
      if (stopping) {
        status.state = 'stopped';
        changed(status, null);
        stopped.resolve();
        return;
      }
      failuresInARow =
        wasReady && performance.now() - startedMs >= policy.healthyMs ? 1 : failuresInARow + 1;
      if (refusal !== null && !everReady) return giveUp(refusal);
      if (!everReady && failuresInARow >= policy.firstStartsMax) return giveUp(how);
      const waitMs = Math.min(policy.waitMsMax, policy.waitMsMin * 2 ** (failuresInARow - 1));
      status.state = 'waiting to restart';
      status.restarts += 1;
      changed(status, `${how}; restarts in ${waitMs / 1000} s`);
      restartTimer = setTimeout(start, waitMs);
    };
    current.once('error', (error) => ended(`cannot be run: ${error.message}`));
    current.once('exit', (code, signal) =>
      ended(signal === null ? `ended with code ${code}` : `ended by ${signal}`),
    );
  };

  start();
  return {
    status,
    firstReady: ready.promise,
    async stop(waitMs) {
      stopping = true;
      clearTimeout(restartTimer);
      if (child === null) {
        if (status.state !== 'failed') status.state = 'stopped';
        return;
      }
      const victim: ChildProcess = child;
      victim.kill('SIGTERM');
      const killTimer = setTimeout(() => victim.kill('SIGKILL'), waitMs);
      await stopped.promise;
      clearTimeout(killTimer);
    },
  };
}

const LOG_BYTES_MAX = 20_000_000;
const LOG_TAIL_CHARACTERS = 4_000;
const LOG_ERRORS_MAX = 3;
/** pino's. */
const LOG_LEVEL_ERROR = 50;

function describeStep(step: Extract<Announcement, { kind: 'step' }>): string {
  if (step.amount === undefined || step.total === undefined || step.total === 0) return step.label;
  return `${step.label} ${Math.floor((100 * step.amount) / step.total)} %`;
}

/**
 * Opens the log for adding; a large one becomes the old log first, so that there are two at most.
 */
function openLog(log: string): number {
  mkdirSync(dirname(log), { recursive: true });
  if (existsSync(log) && statSync(log).size > LOG_BYTES_MAX) renameSync(log, `${log}.1`);
  return openSync(log, 'a');
}

/**
 * Why it ended, by its log: its last errors if it logs JSON as ours do, else the end of what it
 * wrote.
 */
function logTail(log: string): string {
  let tail: string;
  try {
    tail = readFileSync(log, 'utf8').slice(-LOG_TAIL_CHARACTERS);
  } catch {
    return '';
  }
  const errors = tail.split('\n').flatMap(errorOf).slice(-LOG_ERRORS_MAX);
  return errors.length > 0 ? [...new Set(errors)].join('\n') : tail.trim();
}

function errorOf(line: string): string[] {
  try {
    const { level, msg, reason } = JSON.parse(line) as {
      level?: number;
      msg?: string;
      reason?: string;
    };
    return (level ?? 0) >= LOG_LEVEL_ERROR ? [reason ?? msg ?? line] : [];
  } catch {
    return [];
  }
}

interface Resolvers<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

/** Node 20 has no `Promise.withResolvers`. */
function withResolvers<T>(): Resolvers<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((resolver, rejecter) => {
    resolve = resolver;
    reject = rejecter;
  });
  return { promise, resolve, reject };
}
