/**
 * A server that runs beside us as a process of its own: started, found again after we were killed,
 * stopped by its pid.
 *
 * Its folder holds `server.json`, which says which process it is. A pid alone is not an identity
 * (the kernel gives it out again), so the record carries the process's start time and the boot it
 * was started in.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

export interface ServerCommand {
  /** What it is called in messages, for example `Kafka`. */
  readonly name: string;
  /** Its data folder, which exists. */
  readonly folder: string;
  readonly executable: string;
  readonly args: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  /** Ports it was given; remembered, so that a restart takes the same ones where it can. */
  readonly ports: Readonly<Record<string, number>>;
  /**
   * Resolves if the server answers, rejects while it does not. Called again and again until it
   * does.
   */
  readonly answers: () => Promise<void>;
  readonly readyWaitMs: number;
}

/** Which process a server is. */
const serverRecord = z
  .object({
    pid: z.number().int().positive(),
    /** Clock ticks from boot to the start of the process. */
    startTicks: z.string(),
    bootId: z.string(),
    ports: z.record(z.string(), z.number().int().min(0).max(65_535)).readonly(),
  })
  .readonly();

export type ServerRecord = z.infer<typeof serverRecord>;

/** A server did not start, or did not stop. */
export class EmbeddedServerError extends Error {
  override readonly name = 'EmbeddedServerError';
  constructor(
    message: string,
    readonly facts: {
      readonly server: string;
      readonly folder: string;
      readonly log: string;
      readonly exited: boolean;
    },
    readonly hint: string,
  ) {
    super(`${message} ${hint}`);
  }
}

/**
 * Starts the server and waits until it answers. Throws `EmbeddedServerError` (with the end of its
 * log) when it exits or does not answer within `readyWaitMs`; then nothing of it is left running.
 */
export async function startServerProcess(command: ServerCommand): Promise<ServerRecord> {
  const log = logOf(command.folder);
  keepOneOldLog(log);
  const logFile = openSync(log, 'a');
  // A process group of its own: Ctrl-C on our terminal is for us, and we stop servers in order.
  const child = spawn(command.executable, command.args, {
    cwd: command.folder,
    env: command.environment ?? process.env,
    stdio: ['ignore', logFile, logFile],
    detached: true,
  });
  closeSync(logFile);
  const failure = new Promise<string>((resolve) => {
    child.once('error', (error) => {
      resolve(error.message);
    });
    child.once('exit', (code, signal) => {
      resolve(`it exited (${signal ?? String(code)})`);
    });
  });
  if (child.pid === undefined) throw notStarted(command, await failure, true);
  let record: ServerRecord;
  try {
    const identity = identityOf(child.pid);
    if (identity === undefined) throw notStarted(command, await failure, true);
    record = { pid: child.pid, ...identity, ports: command.ports };
    writeRecord(command.folder, record);
  } catch (error) {
    // Without a record nobody could ever find it again.
    child.kill('SIGKILL');
    throw error;
  }
  child.unref();

  let exited: string | undefined;
  void failure.then((reason) => {
    exited = reason;
  });
  const deadlineMs = performance.now() + command.readyWaitMs;
  let lastRefusal = 'no answer yet';
  while (performance.now() < deadlineMs) {
    if (exited !== undefined) {
      forgetServer(command.folder);
      throw notStarted(command, exited, true);
    }
    try {
      await command.answers();
      return record;
    } catch (error) {
      lastRefusal = error instanceof Error ? error.message : String(error);
      await delay(READY_PROBE_MS);
    }
  }
  await stopServer(command.name, command.folder, 0);
  throw notStarted(
    command,
    `it did not answer within ${command.readyWaitMs / 1000} s (${lastRefusal})`,
    false,
  );
}

/**
 * The server of this folder if it runs, whoever started it; forgets the record of one that does
 * not.
 */
export function runningServer(folder: string): ServerRecord | undefined {
  const record = readRecord(folder);
  return record !== undefined && isAlive(record) ? record : undefined;
}

/**
 * The server of this folder once it answers; undefined if none runs, or if it ends while we wait
 * (after a kill that was only just sent, for example). Throws `EmbeddedServerError` if it runs and
 * does not answer within `waitMs`.
 */
export async function answeringServer(
  name: string,
  folder: string,
  answers: (record: ServerRecord) => Promise<void>,
  waitMs: number,
): Promise<ServerRecord | undefined> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    const running = runningServer(folder);
    if (running === undefined) return undefined;
    try {
      await answers(running);
      return running;
    } catch (error) {
      if (performance.now() >= deadlineMs) {
        throw new EmbeddedServerError(
          `${name} (pid ${running.pid}) runs but does not answer: ${error instanceof Error ? error.message : String(error)}.`,
          { server: name, folder, log: logOf(folder), exited: false },
          'errata down stops it.',
        );
      }
    }
    await delay(READY_PROBE_MS);
  }
}

/** Ports that the server of this folder had last, running or not. */
export function lastPorts(folder: string): Readonly<Record<string, number>> {
  return readRecord(folder)?.ports ?? {};
}

/**
 * Asks the server of this folder to end, waits up to `stopWaitMs`, then kills it. Resolves when no
 * process is left; true if there was one. Throws `EmbeddedServerError` if even a killed one stays.
 */
export async function stopServer(
  name: string,
  folder: string,
  stopWaitMs: number,
): Promise<boolean> {
  const record = runningServer(folder);
  if (record === undefined) return false;
  if (stopWaitMs > 0) {
    signal(record.pid, 'SIGTERM');
    if (await gone(record, stopWaitMs)) return true;
  }
  signal(record.pid, 'SIGKILL');
  if (await gone(record, KILL_WAIT_MS)) return true;
  throw new EmbeddedServerError(
    `${name} (pid ${record.pid}) does not end.`,
    { server: name, folder, log: logOf(folder), exited: false },
    'It may hang on a disk or network file system.',
  );
}

/** A port on the loopback interface that was free a moment ago: `preferred` where that one is. */
export async function freePort(preferred = 0): Promise<number> {
  for (const port of preferred === 0 ? [0] : [preferred, 0]) {
    const free = await listenOnce(port);
    if (free !== undefined) return free;
  }
  throw new Error('No port is free on the loopback interface.');
}

/** Whether nothing listens on this port of the loopback interface. */
export async function isFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== undefined;
}

/** File that the server's output goes to. */
export function logOf(folder: string): string {
  return path.join(folder, 'server.log');
}

const READY_PROBE_MS = 100;
const GONE_PROBE_MS = 25;
const KILL_WAIT_MS = 10_000;
const LOG_TAIL_CHARACTERS = 1_500;

function isAlive(record: ServerRecord): boolean {
  const identity = identityOf(record.pid);
  return (
    identity !== undefined &&
    identity.startTicks === record.startTicks &&
    identity.bootId === record.bootId
  );
}

async function gone(record: ServerRecord, waitMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + waitMs;
  while (isAlive(record)) {
    if (performance.now() >= deadlineMs) return false;
    // It need not be a child of ours, so there is no event to wait for.
    await delay(GONE_PROBE_MS);
  }
  return true;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** What tells a process from a later one with the same pid; undefined where it does not run. */
export function identityOf(pid: number): { startTicks: string; bootId: string } | undefined {
  let stat: string;
  let threads: number;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    threads = readdirSync(`/proc/${pid}/task`).length;
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  // The second field is the command in brackets and may hold blanks: count from the last bracket.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0], fields[19]];
  // A process whose first thread has ended is dead only when the others have: until then they hold
  // its ports and files.
  const dead = (state === 'Z' || state === 'X') && threads <= 1;
  if (startTicks === undefined || dead) return undefined;
  return { startTicks, bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() };
}

function recordOf(folder: string): string {
  return path.join(folder, 'server.json');
}

function readRecord(folder: string): ServerRecord | undefined {
  try {
    return serverRecord.safeParse(JSON.parse(readFileSync(recordOf(folder), 'utf8'))).data;
  } catch {
    return undefined;
  }
}

function writeRecord(folder: string, record: ServerRecord): void {
  const half = `${recordOf(folder)}.${process.pid}`;
  writeFileSync(half, `${JSON.stringify(record)}\n`);
  renameSync(half, recordOf(folder));
}

function forgetServer(folder: string): void {
  rmSync(recordOf(folder), { force: true });
}

/** Logs grow without end otherwise: each start begins a new one and keeps the last. */
function keepOneOldLog(log: string): void {
  mkdirSync(path.dirname(log), { recursive: true });
  if (existsSync(log)) renameSync(log, `${log}.1`);
}

function notStarted(command: ServerCommand, reason: string, exited: boolean): EmbeddedServerError {
  const log = logOf(command.folder);
  let tail = '';
  try {
    tail = readFileSync(log, 'utf8').slice(-LOG_TAIL_CHARACTERS);
  } catch {
    // Without a log there is only the reason.
  }
  return new EmbeddedServerError(
    `${command.name} did not start: ${reason}.${tail === '' ? '' : `\n${tail}`}`,
    { server: command.name, folder: command.folder, log, exited },
    `The whole log is in ${log}.`,
  );
}

function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(undefined);
    });
    server.listen({ port, host: '127.0.0.1' }, () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === 'object' ? address?.port : undefined);
      });
    });
  });
}
