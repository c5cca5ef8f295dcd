/**
 * A child process that is kept running: it is restarted after a crash with a growing wait, and
 * stopped at the end.
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
import { markOf } from './process-mark.ts';
import type { SupervisorMessage } from './supervisor-messages.ts';
import type { SupervisedProcess } from './system-state.ts';

export interface ProcessSpecification {
  name: string;
  executable: string;
  args: string[];
  environment: NodeJS.ProcessEnv;
  workingDirectory: string;
  /** The file to which its output is appended. */
  log: string;
}

export interface RestartPolicy {
  /** Wait before the first restart; doubles with each consecutive crash, up to `waitMsMax`. */
  waitMsMin: number;
  waitMsMax: number;
  /** After this time without a crash, earlier crashes no longer count. */
  healthyMs: number;
  /** Consecutive failed starts before giving up on a process that was never ready. */
  firstStartsMax: number;
  /** Maximum time of one start before it counts as failed. */
  readyWaitMs: number;
}

export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  waitMsMin: 500,
  waitMsMax: 30_000,
  healthyMs: 60_000,
  firstStartsMax: 3,
  readyWaitMs: 1_800_000,
};

/** A process failed to start. */
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

/** One start of the process. */
interface Run {
  child: ChildProcess;
  startedMs: number;
  startTimer: NodeJS.Timeout;
  wasReady: boolean;
  refusal: string | null;
  over: boolean;
}

/** Starts its process and keeps it running; calls `changed` after every change of `status`. */
export class KeptProcess {
  readonly status: SupervisedProcess;
  readonly #specification: ProcessSpecification;
  readonly #policy: RestartPolicy;
  readonly #changed: (status: SupervisedProcess, event: string | null) => void;
  readonly #ready = withResolvers();
  readonly #stopped = withResolvers();
  #run: Run | null = null;
  #stopping = false;
  #everReady = false;
  #failuresInARow = 0;
  #restartTimer: NodeJS.Timeout | undefined;

  constructor(
    specification: ProcessSpecification,
    policy: RestartPolicy,
    changed: (status: SupervisedProcess, event: string | null) => void,
  ) {
    this.#specification = specification;
    this.#policy = policy;
    this.#changed = changed;
    const { name, log } = specification;
    const begin = { mark: null, startedAt: null, restarts: 0, port: null, step: null };
    this.status = { name, state: 'starting', ...begin, log };
    // A caller that stops before awaiting this must not get an unhandled rejection.
    this.#ready.promise.catch(() => {});
    this.#start();
  }

  /** Settles when the process is first ready, or is given up (`ProcessStartError`). */
  get firstReady(): Promise<void> {
    return this.#ready.promise;
  }

  /** Stops the process permanently: SIGTERM, then SIGKILL after `waitMs`. */
  async stop(waitMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restartTimer);
    if (this.#run === null) {
      if (this.status.state !== 'failed') this.status.state = 'stopped';
      return;
    }
    const { child } = this.#run;
    child.kill('SIGTERM');
    const killTimer = setTimeout(() => child.kill('SIGKILL'), waitMs);
    await this.#stopped.promise;
    clearTimeout(killTimer);
  }

  #start(): void {
    const { executable, args, workingDirectory, environment, log } = this.#specification;
    const logFile = openLog(log);
    const child = spawn(executable, args, {
      cwd: workingDirectory,
      env: environment,
      stdio: ['ignore', logFile, logFile, 'ipc'],
    });
    closeSync(logFile);
    const startTimer = setTimeout(() => child.kill('SIGKILL'), this.#policy.readyWaitMs);
    const startedMs = performance.now();
    const run = { child, startedMs, startTimer, wasReady: false, refusal: null, over: false };
    this.#run = run;
    this.status.state = 'starting';
    this.status.mark = child.pid === undefined ? null : markOf(child.pid);
    this.status.startedAt = new Date().toISOString();
    this.#changed(this.status, null);
    child.on('message', (message) => this.#receive(run, message as SupervisorMessage));
    child.once('error', (error) => this.#end(run, `cannot be run: ${error.message}`));
    child.once('exit', (code, signal) =>
      this.#end(run, signal === null ? `ended with code ${code}` : `ended by ${signal}`),
    );
  }

  #receive(run: Run, message: SupervisorMessage): void {
    const { status } = this;
    if (message.kind === 'refused') {
      run.refusal = message.reason;
    } else if (message.kind === 'step') {
      const { label, amount = 0, total = 0 } = message;
      status.step = total === 0 ? label : `${label} ${Math.floor((100 * amount) / total)} %`;
      this.#changed(status, null);
    } else if (message.kind === 'ready') {
      clearTimeout(run.startTimer);
      run.wasReady = true;
      this.#everReady = true;
      status.state = 'ready';
      status.port = message.port ?? status.port;
      status.step = null;
      this.#changed(status, 'ready');
      this.#ready.resolve();
    }
  }

  #end(run: Run, how: string): void {
    if (run.over) return;
    run.over = true;
    clearTimeout(run.startTimer);
    const { status } = this;
    this.#run = null;
    status.mark = null;
    status.step = null;
    if (this.#stopping) {
      status.state = 'stopped';
      this.#changed(status, null);
      this.#stopped.resolve();
      return;
    }
    const { healthyMs, firstStartsMax, waitMsMin, waitMsMax } = this.#policy;
    const wasHealthy = run.wasReady && performance.now() - run.startedMs >= healthyMs;
    this.#failuresInARow = wasHealthy ? 1 : this.#failuresInARow + 1;
    if (!this.#everReady && (run.refusal !== null || this.#failuresInARow >= firstStartsMax))
      return this.#giveUp(run.refusal ?? how);
    const waitMs = Math.min(waitMsMax, waitMsMin * 2 ** (this.#failuresInARow - 1));
    status.state = 'waiting to restart';
    status.restarts += 1;
    this.#changed(status, `${how}; restarts in ${waitMs / 1000} s`);
    this.#restartTimer = setTimeout(() => this.#start(), waitMs);
  }

  #giveUp(reason: string): void {
    const { name, log } = this.#specification;
    this.status.state = 'failed';
    this.#changed(this.status, reason);
    const cause = causeIn(log);
    this.#ready.reject(
      new ProcessStartError(
        `${name} does not start: ${reason}.${cause === '' ? '' : `\n${cause}\n`}`,
        { process: name, log, starts: this.#failuresInARow },
        `Its log is ${log}.`,
      ),
    );
    this.#stopped.resolve();
  }
}

const LOG_BYTES_MAX = 20_000_000;
const LOG_TAIL_CHARACTERS = 4_000;
const LOG_ERRORS_MAX = 3;
const PINO_LEVEL_ERROR = 50;

/**
 * Opens the log for appending. A large log first replaces the previous one, so at most two are
 * kept.
 */
function openLog(log: string): number {
  mkdirSync(dirname(log), { recursive: true });
  if (existsSync(log) && statSync(log).size > LOG_BYTES_MAX) renameSync(log, `${log}.1`);
  return openSync(log, 'a');
}

/**
 * Returns the last errors in a log of JSON lines (our processes' format), else the end of the log.
 */
function causeIn(log: string): string {
  let tail: string;
  try {
    tail = readFileSync(log, 'utf8').slice(-LOG_TAIL_CHARACTERS);
  } catch {
    return '';
  }
  const errors = tail.split('\n').flatMap(errorIn).slice(-LOG_ERRORS_MAX);
  return errors.length > 0 ? [...new Set(errors)].join('\n') : tail.trim();
}

function errorIn(line: string): string[] {
  try {
    const {
      level = 0,
      msg = line,
      reason = msg,
    } = JSON.parse(line) as {
      level?: number;
      msg?: string;
      reason?: string;
    };
    return level >= PINO_LEVEL_ERROR ? [reason] : [];
  } catch {
    return [];
  }
}

/** Node 20 has no `Promise.withResolvers`. */
function withResolvers() {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((resolver, rejecter) => {
    resolve = resolver;
    reject = rejecter;
  });
  return { promise, resolve, reject };
}
