/**
 * The state of the system that `errata up` runs on this machine, as a file in the data folder: the
 * addresses of the servers and the processes. The supervisor writes it; other commands read it.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Configuration } from '../config/configuration.ts';
import { isRunning, processMark } from './process-mark.ts';

/** Maximum size read, in bytes; a process takes about 300. */
const STATE_BYTES_MAX = 2 ** 20;

const pid = z.number().int().positive();
const port = z.number().int().min(0).max(65_535);

const supervised = z.object({
  name: z.string(),
  state: z.enum(['starting', 'ready', 'waiting to restart', 'failed', 'stopped']),
  mark: processMark.nullable(),
  /** ISO 8601. */
  startedAt: z.string().nullable(),
  restarts: z.number().int().nonnegative(),
  port: port.nullable(),
  /** The current step of its start. */
  step: z.string().nullable(),
  log: z.string(),
});

const systemState = z.object({
  format: z.literal(1),
  state: z.enum(['starting', 'ready', 'stopping']),
  supervisor: processMark,
  startedAt: z.string(),
  lineages: z.array(z.string()),
  kafka: z.object({ brokers: z.array(z.string()), embedded: z.boolean(), pid: pid.nullable() }),
  temporal: z.object({
    address: z.string(),
    namespace: z.string(),
    embedded: z.boolean(),
    pid: pid.nullable(),
    uiUrl: z.string().nullable(),
  }),
  serveUrl: z.string().nullable(),
  processes: z.array(supervised),
});

export type SupervisedProcess = z.infer<typeof supervised>;
export type SystemState = z.infer<typeof systemState>;

/** Returns the system of this data folder if its supervisor is running. */
export function findSystem(home: string): SystemState | null {
  const state = lastSystem(home);
  return state !== null && isRunning(state.supervisor) ? state : null;
}

/** Returns the last written state, running or not; null if none can be read. */
export function lastSystem(home: string): SystemState | null {
  try {
    if (statSync(stateFile(home)).size > STATE_BYTES_MAX) return null;
    return systemState.safeParse(JSON.parse(readFileSync(stateFile(home), 'utf8'))).data ?? null;
  } catch {
    return null;
  }
}

export function writeSystem(home: string, state: SystemState): void {
  const file = stateFile(home);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.half`, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(`${file}.half`, file);
}

export function forgetSystem(home: string): void {
  rmSync(stateFile(home), { force: true });
}

/** Adds the running system's addresses to the configuration. */
export function attached(configuration: Configuration, system: SystemState | null): Configuration {
  if (system === null) return configuration;
  const { kafka, temporal, serve } = configuration;
  const { address, namespace, uiUrl } = system.temporal;
  return {
    ...configuration,
    kafka: kafka.brokers.length > 0 ? kafka : { ...kafka, brokers: system.kafka.brokers },
    temporal:
      temporal.address !== ''
        ? temporal
        : { ...temporal, address, namespace, pageUrl: temporal.pageUrl ?? uiUrl },
    serve: { ...serve, url: serve.url ?? system.serveUrl },
  };
}

function stateFile(home: string): string {
  return join(home, 'run', 'system.json');
}
