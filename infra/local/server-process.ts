/**
 * A server as a separate process, found again if we were killed and stopped by its mark.
 * `server.json` in its folder records the process and its ports.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { messageOf } from '../../schemas/failures.ts';
import { holdExclusively } from '../setup/exclusive.mjs';
import { endProcess, isRunning, markOf, processMark } from './process-mark.ts';

export type Ports = Readonly<Record<string, number>>;

export interface ServerCommand {
  /** The name used in messages, such as `Kafka`. */
  readonly name: string;
  /** An existing data folder. */
  readonly folder: string;
  readonly executable: string;
  readonly args: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  /** The assigned ports, recorded so that a restart can use them again. */
  readonly ports: Ports;
  /** Resolves if the server answers; called repeatedly until it does. */
  readonly answers: () => Promise<void>;
  readonly readyWaitMs: number;
}

export interface EmbeddedServer {
  readonly name: string;
  readonly folder: string;
  /** The required ports; 0 for the last one, the preferred one or any other that is free. */
  readonly ports: Ports;
  readonly preferredPorts?: Ports;
  readonly readyWaitMs: number;
  /** Prepares a start on these ports. */
  command(ports: Ports): Promise<Pick<ServerCommand, 'executable' | 'args'>>;
  /** Resolves if the server on these ports answers. */
  answers(ports: Ports): Promise<void>;
}

const serverRecord = processMark
  .extend({ ports: z.record(z.string(), z.number().int().min(0).max(65_535)).readonly() })
  .readonly();

export type ServerRecord = z.infer<typeof serverRecord>;

/** A server failed to start or to stop. */
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

/** Another program may take a free port before the server does. */
const STARTS_MAX = 3;
const READY_PROBE_MS = 100;
const LOG_TAIL_CHARACTERS = 1_500;

/**
 * Starts this folder's server, or finds it running; resolves when it answers. Throws
 * `EmbeddedServerError`.
 */
export async function startOrFindServer(
  server: EmbeddedServer,
): Promise<ServerRecord & { found: boolean }> {
  const { folder, readyWaitMs } = server;
  mkdirSync(folder, { recursive: true });
  const turn = await holdExclusively(`start of ${folder}`, readyWaitMs);
  try {
    const running = await answeringServer(server);
    return running === null
      ? { ...(await startServer(server)), found: false }
      : { ...running, found: true };
  } finally {
    await turn.release();
  }
}

async function startServer(server: EmbeddedServer): Promise<ServerRecord> {
  for (const port of Object.values(server.ports))
    if (port !== 0 && !(await isFree(port)))
      throw failure(server, `Port ${port} is in use.`, 'Choose another one, or 0 for any.');
  for (let start = 1; ; start += 1) {
    // These ports may be the cause of a failed start, so only the first attempt uses them.
    const wanted = start === 1 ? { ...server.preferredPorts, ...lastPorts(server.folder) } : {};
    const ports: Record<string, number> = {};
    for (const [name, port] of Object.entries(server.ports))
      ports[name] = port !== 0 ? port : await freePort(wanted[name]);
    try {
      return await startServerProcess({
        ...server,
        ...(await server.command(ports)),
        ports,
        answers: () => server.answers(ports),
      });
    } catch (error) {
      const exited = error instanceof EmbeddedServerError && error.facts.exited;
      if (!exited || start === STARTS_MAX) throw error;
    }
  }
}

/** Returns the running server once it answers; null if none runs or it ends during the wait. */
async function answeringServer(server: EmbeddedServer): Promise<ServerRecord | null> {
  const deadlineMs = performance.now() + server.readyWaitMs;
  for (;;) {
    const running = runningServer(server.folder);
    if (running === undefined) return null;
    try {
      await server.answers(running.ports);
      return running;
    } catch (error) {
      if (performance.now() >= deadlineMs) {
        const process = `${server.name} (pid ${running.pid})`;
        const message = `${process} runs but does not answer: ${messageOf(error)}.`;
        throw failure(server, message, '`errata down` stops it.');
      }
    }
    await delay(READY_PROBE_MS);
  }
}

/**
 * Starts the server and waits until it answers. If it exits, or does not answer within
 * `readyWaitMs`, stops it and throws `EmbeddedServerError` with the end of its log.
 */
export async function startServerProcess(command: ServerCommand): Promise<ServerRecord> {
  const { folder, readyWaitMs } = command;
  const logFile = openLog(logOf(folder));
  // A separate process group: Ctrl-C on our terminal is for us, and we stop servers in order.
  const child = spawn(command.executable, command.args, {
    cwd: folder,
    env: command.environment ?? process.env,
    stdio: ['ignore', logFile, logFile],
    detached: true,
  });
  closeSync(logFile);
  let end = null as string | null;
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`it exited (${signal ?? String(code)})`));
  }).then((how) => (end = how));
  if (child.pid === undefined) throw notStarted(command, await ended, false);
  const mark = markOf(child.pid);
  if (mark === null) throw notStarted(command, await ended, true);
  const record = { ...mark, ports: command.ports };
  try {
    writeRecord(folder, record);
  } catch (error) {
    // Without a record the process could never be found again.
    child.kill('SIGKILL');
    throw error;
  }
  child.unref();

  const deadlineMs = performance.now() + readyWaitMs;
  let refusal = 'no answer yet';
  while (performance.now() < deadlineMs) {
    if (end !== null) {
      rmSync(recordOf(folder), { force: true });
      throw notStarted(command, end, true);
    }
    try {
      await command.answers();
      return record;
    } catch (error) {
      refusal = messageOf(error);
      await delay(READY_PROBE_MS);
    }
  }
  await stopServer(command.name, folder, 0);
  const waited = `it did not answer within ${readyWaitMs / 1000} s (${refusal})`;
  throw notStarted(command, waited, false);
}

/**
 * Returns this folder's server if its process runs, whoever started it. It may still be starting.
 */
export function runningServer(folder: string): ServerRecord | undefined {
  const record = readRecord(folder);
  return record !== undefined && isRunning(record) ? record : undefined;
}

/** Returns the last ports of this folder's server, running or not. */
export function lastPorts(folder: string): Ports {
  return readRecord(folder)?.ports ?? {};
}

/**
 * Stops this folder's server, and kills it after `stopWaitMs`. Resolves to true if one was running.
 * Throws `EmbeddedServerError` if the process survives.
 */
export async function stopServer(
  name: string,
  folder: string,
  stopWaitMs: number,
): Promise<boolean> {
  const record = runningServer(folder);
  if (record === undefined) return false;
  if (await endProcess(record, stopWaitMs)) return true;
  throw failure(
    { name, folder },
    `${name} (pid ${record.pid}) does not end.`,
    'It may hang on a disk or network file system.',
  );
}

/** Returns a loopback port that was just free: `preferred` if possible. */
export async function freePort(preferred = 0): Promise<number> {
  const port = (await listenOnce(preferred)) ?? (await listenOnce(0));
  if (port === null) throw new Error('No port is free on the loopback interface.');
  return port;
}

/** Tells whether this loopback port is free. */
export async function isFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== null;
}

function logOf(folder: string): string {
  return path.join(folder, 'server.log');
}

/** Each start begins a new log and keeps only the previous one, so that logs stay bounded. */
function openLog(log: string): number {
  mkdirSync(path.dirname(log), { recursive: true });
  if (existsSync(log)) renameSync(log, `${log}.1`);
  return openSync(log, 'a');
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

type Named = Pick<ServerCommand, 'name' | 'folder'>;

export function failure(
  { name, folder }: Named,
  message: string,
  hint: string,
  exited = false,
): EmbeddedServerError {
  return new EmbeddedServerError(
    message,
    { server: name, folder, log: logOf(folder), exited },
    hint,
  );
}

function notStarted(command: Named, reason: string, exited: boolean): EmbeddedServerError {
  const log = logOf(command.folder);
  let tail = '';
  try {
    tail = `\n${readFileSync(log, 'utf8').slice(-LOG_TAIL_CHARACTERS)}`.trimEnd();
  } catch {
    // Without a log, the message has only the reason.
  }
  const message = `${command.name} did not start: ${reason}.${tail}`;
  return failure(command, message, `The whole log is in ${log}.`, exited);
}

/** Listens briefly; resolves to the port, or to null if it is in use. */
function listenOnce(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host: '127.0.0.1' }, () => {
      const { port: free } = server.address() as AddressInfo;
      server.close(() => resolve(free));
    });
  });
}
