/**
 * A real Temporal server on this machine: the command line's development server with its history in
 * a SQLite file, on the loopback interface, web page included.
 */
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { registerSearchAttributes } from '../../pipelines/temporal/search-attributes.ts';
import { holdExclusively } from '../setup/exclusive.mjs';
import {
  answeringServer,
  EmbeddedServerError,
  freePort,
  isFree,
  lastPorts,
  logOf,
  runningServer,
  startServerProcess,
  stopServer,
  type ServerRecord,
} from './server-process.ts';

export interface EmbeddedTemporalOptions {
  /** Folder for history, log and pid file; made if need be. */
  readonly folder: string;
  /** The Temporal command line, as the set-up left it. */
  readonly executable: string;
  readonly namespace?: string;
  /** Port for clients; 0 takes the one of the last time, or any free one. */
  readonly port?: number;
  /** Port of the web page; 0 likewise. */
  readonly uiPort?: number;
  /** For so many days workflows that have ended are remembered. */
  readonly retentionDays?: number;
}

export interface EmbeddedTemporal {
  /** `host:port` for clients. */
  readonly address: string;
  /** The web page. */
  readonly uiUrl: string;
  readonly namespace: string;
  readonly pid: number;
  /** Whether it ran already, started by somebody else. */
  readonly found: boolean;
  stop(): Promise<void>;
}

export const EMBEDDED_NAMESPACE = 'errata';

/**
 * Starts the server of this folder, or finds it running, and resolves when it serves the namespace
 * with our retention and our search attributes.
 */
export async function startEmbeddedTemporal(
  options: EmbeddedTemporalOptions,
): Promise<EmbeddedTemporal> {
  const namespace = options.namespace ?? EMBEDDED_NAMESPACE;
  mkdirSync(options.folder, { recursive: true });
  const turn = await holdExclusively(`start of ${options.folder}`, READY_WAIT_MS);
  try {
    const ready = (record: ServerRecord): Promise<void> =>
      serves(addressOf(record), namespace, retentionOf(options), PROBE_WAIT_MS);
    const running = await answeringServer(NAME, options.folder, ready, READY_WAIT_MS);
    if (running !== undefined) return handle(options.folder, namespace, running, true);
    return handle(options.folder, namespace, await start(options, namespace), false);
  } finally {
    await turn.release();
  }
}

/** Stops the server of this folder if it runs, whoever started it; true if it ran. */
export async function stopEmbeddedTemporal(folder: string): Promise<boolean> {
  return stopServer(NAME, folder, STOP_WAIT_MS);
}

/** The server of this folder if its process runs; it may still be starting. */
export function findEmbeddedTemporal(
  folder: string,
): { readonly address: string; readonly uiUrl: string; readonly pid: number } | undefined {
  const running = runningServer(folder);
  return running === undefined
    ? undefined
    : { address: addressOf(running), uiUrl: uiUrlOf(running), pid: running.pid };
}

const NAME = 'Temporal';
const RETENTION_DAYS = 365;
const DAY_MS = 24 * 3_600_000;
const READY_WAIT_MS = 60_000;
const STOP_WAIT_MS = 15_000;
const PROBE_WAIT_MS = 2_000;
/** Somebody may take a free port before the server does. */
const START_ATTEMPTS_MAX = 3;

function handle(
  folder: string,
  namespace: string,
  record: ServerRecord,
  found: boolean,
): EmbeddedTemporal {
  return {
    address: addressOf(record),
    uiUrl: uiUrlOf(record),
    namespace,
    pid: record.pid,
    found,
    async stop() {
      await stopEmbeddedTemporal(folder);
    },
  };
}

function addressOf(record: ServerRecord): string {
  return `127.0.0.1:${record.ports['frontend'] ?? 0}`;
}

function uiUrlOf(record: ServerRecord): string {
  return `http://127.0.0.1:${record.ports['ui'] ?? 0}`;
}

async function start(options: EmbeddedTemporalOptions, namespace: string): Promise<ServerRecord> {
  for (const port of [options.port ?? 0, options.uiPort ?? 0]) {
    if (port !== 0 && !(await isFree(port))) throw portTaken(options.folder, port);
  }
  for (let attempt = 1; ; attempt++) {
    const last = attempt === 1 ? lastPorts(options.folder) : {};
    const frontend = options.port || (await freePort(last['frontend']));
    const ui = options.uiPort || (await freePort(last['ui']));
    try {
      return await startServerProcess({
        name: NAME,
        folder: options.folder,
        executable: options.executable,
        args: [
          ...[
            'server',
            'start-dev',
            '--ip',
            '127.0.0.1',
            '--port',
            String(frontend),
            '--ui-port',
            String(ui),
          ],
          ...['--db-filename', path.join(options.folder, 'history.db'), '--namespace', namespace],
          // With a write-ahead log signals are taken 3.5 times as fast; a kill loses nothing, only
          // a power cut could.
          ...['--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL'],
          ...['--log-level', 'warn', '--log-format', 'json'],
        ],
        ports: { frontend, ui },
        answers: () =>
          serves(`127.0.0.1:${frontend}`, namespace, retentionOf(options), PROBE_WAIT_MS),
        readyWaitMs: READY_WAIT_MS,
      });
    } catch (error) {
      // It takes further ports by itself, and panics where somebody else took one of them first.
      const mayStartYet =
        error instanceof EmbeddedServerError &&
        error.facts.exited &&
        existsSync(options.executable);
      if (!mayStartYet || attempt === START_ATTEMPTS_MAX) throw error;
    }
  }
}

function portTaken(folder: string, port: number): EmbeddedServerError {
  return new EmbeddedServerError(
    `Port ${port} is taken.`,
    { server: NAME, folder, log: logOf(folder), exited: true },
    'Choose another one, or 0 for any.',
  );
}

function retentionOf({ retentionDays = RETENTION_DAYS }: EmbeddedTemporalOptions): number {
  return retentionDays * DAY_MS;
}

/**
 * Resolves once the server knows the namespace, took our retention for it and knows our search
 * attributes.
 */
async function serves(
  address: string,
  namespace: string,
  retentionMs: number,
  waitMs: number,
): Promise<void> {
  const connection = await Connection.connect({ address, connectTimeout: waitMs });
  try {
    await connection.withDeadline(Date.now() + waitMs, async () => {
      await connection.workflowService.updateNamespace({
        namespace,
        config: { workflowExecutionRetentionTtl: msToTs(retentionMs) },
      });
    });
    // Where that fails, the workflows do without, and ingest says so.
    await registerSearchAttributes(connection, namespace);
  } finally {
    await connection.close();
  }
}
