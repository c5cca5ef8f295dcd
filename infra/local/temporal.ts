/**
 * A real Temporal server on this machine: the Temporal CLI's development server, on the loopback
 * interface, with its history in a SQLite file and its web page.
 */
import path from 'node:path';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { registerSearchAttributes } from '../../pipelines/temporal/search-attributes.ts';
import { startOrFindServer, stopServer, type Ports } from './server-process.ts';

export interface EmbeddedTemporalOptions {
  /** Folder of history, log and server record. */
  readonly folder: string;
  /** The Temporal CLI, installed by the set-up. */
  readonly executable: string;
  readonly namespace?: string;
  /** Client port; 0 takes the last one if it is free, else any. */
  readonly port?: number;
  /** Port of the web page, chosen likewise. */
  readonly uiPort?: number;
  /** Used if `uiPort` is 0 and this one is free. */
  readonly preferredUiPort?: number;
  /** Days for which closed workflows are kept. */
  readonly retentionDays?: number;
}

export interface EmbeddedTemporal {
  /** `host:port` for clients. */
  readonly address: string;
  readonly uiUrl: string;
  readonly namespace: string;
  readonly pid: number;
  /** True if it was already running. */
  readonly found: boolean;
  stop(): Promise<void>;
}

export const EMBEDDED_NAMESPACE = 'errata';

const NAME = 'Temporal';
const RETENTION_DAYS = 365;
const DAY_MS = 24 * 3_600_000;
const READY_WAIT_MS = 60_000;
const STOP_WAIT_MS = 15_000;
const PROBE_WAIT_MS = 2_000;

/**
 * Starts this folder's server, or finds it running; resolves when it serves the namespace with
 * Errata's retention and search attributes. Throws `EmbeddedServerError`.
 */
export async function startEmbeddedTemporal(
  options: EmbeddedTemporalOptions,
): Promise<EmbeddedTemporal> {
  const { folder, executable, namespace = EMBEDDED_NAMESPACE, port = 0 } = options;
  const retentionMs = (options.retentionDays ?? RETENTION_DAYS) * DAY_MS;
  // The server also picks ports itself, and panics if another program takes one first.
  const { pid, found, ports } = await startOrFindServer({
    name: NAME,
    folder,
    ports: { frontend: port, ui: options.uiPort ?? 0 },
    preferredPorts: { ui: options.preferredUiPort ?? 0 },
    readyWaitMs: READY_WAIT_MS,
    command: async ({ frontend, ui }) => ({
      executable,
      args: [
        ...['server', 'start-dev', '--namespace', namespace, '--ip', '127.0.0.1'],
        ...['--port', String(frontend), '--ui-port', String(ui)],
        ...['--db-filename', path.join(folder, 'history.db')],
        // A write-ahead log accepts signals 3.5 times as fast; only a power cut can lose data.
        ...['--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL'],
        ...['--log-level', 'warn', '--log-format', 'json'],
      ],
    }),
    answers: (ports) => serve(addressOf(ports), namespace, retentionMs),
  });
  return {
    address: addressOf(ports),
    uiUrl: `http://127.0.0.1:${ports['ui']}`,
    namespace,
    pid,
    found,
    async stop() {
      await stopEmbeddedTemporal(folder);
    },
  };
}

/** Stops this folder's server, whoever started it; resolves to true if it was running. */
export async function stopEmbeddedTemporal(folder: string): Promise<boolean> {
  return stopServer(NAME, folder, STOP_WAIT_MS);
}

function addressOf({ frontend }: Ports): string {
  return `127.0.0.1:${frontend}`;
}

/** Resolves once the namespace has the retention and the search attributes. */
async function serve(address: string, namespace: string, retentionMs: number): Promise<void> {
  const connection = await Connection.connect({ address, connectTimeout: PROBE_WAIT_MS });
  try {
    await connection.withDeadline(Date.now() + PROBE_WAIT_MS, async () => {
      await connection.workflowService.updateNamespace({
        namespace,
        config: { workflowExecutionRetentionTtl: msToTs(retentionMs) },
      });
    });
    // If this fails, workflows run without search attributes, and ingest logs it.
    await registerSearchAttributes(connection, namespace);
  } finally {
    await connection.close();
  }
}
