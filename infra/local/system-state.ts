/**
 * What `errata up` runs on this machine, as a file in the data folder that other commands read:
 * where the servers listen, which processes there are, since when. Only the supervisor writes it.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Configuration } from '../config/configuration.ts';
import { identityOf } from './server-process.ts';

/** Largest state that is read, in bytes: a process is some three hundred. */
const STATE_BYTES_MAX = 2 ** 20;

const pid = z.number().int().positive();
const port = z.number().int().min(0).max(65_535);

/** A process and what tells it from a later one with the same pid. */
const mark = z.object({ pid, startTicks: z.string(), bootId: z.string() });

const supervised = z.object({
  name: z.string(),
  state: z.enum(['starting', 'ready', 'waiting to restart', 'failed', 'stopped']),
  mark: mark.nullable(),
  /** ISO 8601. */
  startedAt: z.string().nullable(),
  restarts: z.number().int().nonnegative(),
  port: port.nullable(),
  /** What it is doing, while it starts. */
  step: z.string().nullable(),
  log: z.string(),
});

const systemState = z.object({
  format: z.literal(1),
  state: z.enum(['starting', 'ready', 'stopping']),
  supervisor: mark,
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

export type ProcessMark = z.infer<typeof mark>;
export type SupervisedProcess = z.infer<typeof supervised>;
export type ProcessState = SupervisedProcess['state'];
export type SystemState = z.infer<typeof systemState>;

/** The mark of a running process; null where it does not run. */
export function markOf(pid: number): ProcessMark | null {
  const identity = identityOf(pid);
  return identity === undefined ? null : { pid, ...identity };
}

export function isRunning(mark: ProcessMark | null): boolean {
  if (mark === null) return false;
  const identity = identityOf(mark.pid);
  return (
    identity !== undefined &&
    identity.startTicks === mark.startTicks &&
    identity.bootId === mark.bootId
  );
}

/** The system of this home if its supervisor runs. */
export function findSystem(home: string): SystemState | null {
  const state = lastSystem(home);
  return state !== null && isRunning(state.supervisor) ? state : null;
}

/**
 * What was last written, whether it still runs or not; null where there is nothing, or nothing that
 * can be read.
 */
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

/** The configuration with the addresses of the running system where it names none itself. */
export function attached(configuration: Configuration, system: SystemState | null): Configuration {
  if (system === null) return configuration;
  return {
    ...configuration,
    kafka:
      configuration.kafka.brokers.length > 0
        ? configuration.kafka
        : { ...configuration.kafka, brokers: system.kafka.brokers },
    temporal:
      configuration.temporal.address !== ''
        ? configuration.temporal
        : {
            ...configuration.temporal,
            address: system.temporal.address,
            namespace: system.temporal.namespace,
            pageUrl: configuration.temporal.pageUrl ?? system.temporal.uiUrl,
          },
    serve:
      configuration.serve.url !== null
        ? configuration.serve
        : { ...configuration.serve, url: system.serveUrl },
  };
}

function stateFile(home: string): string {
  return join(home, 'run', 'system.json');
}
