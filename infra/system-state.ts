/**
 * What `errata up` runs on this machine, as a file in the data folder that other commands read: where the servers
 * listen, which processes there are, since when. Only the supervisor writes it.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Configuration } from './configuration.ts';
import { identityOf } from './embedded/server-process.ts';

/** A process and what tells it from a later one with the same pid. */
export interface ProcessMark {
  pid: number;
  startTicks: string;
  bootId: string;
}

export type ProcessState = 'starting' | 'ready' | 'waiting to restart' | 'failed' | 'stopped';

export interface SupervisedProcess {
  name: string;
  state: ProcessState;
  mark: ProcessMark | null;
  /** ISO 8601. */
  startedAt: string | null;
  restarts: number;
  port: number | null;
  /** What it is doing, while it starts. */
  step: string | null;
  log: string;
}

export interface SystemState {
  format: 1;
  state: 'starting' | 'ready' | 'stopping';
  supervisor: ProcessMark;
  startedAt: string;
  lineages: string[];
  kafka: { brokers: string[]; embedded: boolean; pid: number | null };
  temporal: { address: string; namespace: string; embedded: boolean; pid: number | null; uiUrl: string | null };
  serveUrl: string | null;
  processes: SupervisedProcess[];
}

/** The mark of a running process; null where it does not run. */
export function markOf(pid: number): ProcessMark | null {
  const identity = identityOf(pid);
  return identity === undefined ? null : { pid, ...identity };
}

export function isRunning(mark: ProcessMark | null): boolean {
  if (mark === null) return false;
  const identity = identityOf(mark.pid);
  return identity !== undefined && identity.startTicks === mark.startTicks && identity.bootId === mark.bootId;
}

/** The system of this home if its supervisor runs. */
export function findSystem(home: string): SystemState | null {
  const state = lastSystem(home);
  return state !== null && isRunning(state.supervisor) ? state : null;
}

/** What was last written, whether it still runs or not. */
export function lastSystem(home: string): SystemState | null {
  try {
    const state = JSON.parse(readFileSync(stateFile(home), 'utf8')) as SystemState;
    return state.format === 1 ? state : null;
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
    kafka: configuration.kafka.brokers.length > 0 ? configuration.kafka : { ...configuration.kafka, brokers: system.kafka.brokers },
    temporal:
      configuration.temporal.address !== ''
        ? configuration.temporal
        : { ...configuration.temporal, address: system.temporal.address, namespace: system.temporal.namespace },
    serve: configuration.serve.url !== null ? configuration.serve : { ...configuration.serve, url: system.serveUrl },
  };
}

function stateFile(home: string): string {
  return join(home, 'run', 'system.json');
}
