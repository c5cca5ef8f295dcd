/** Resident memory and processor time of processes, from /proc. */
import { readFileSync } from 'node:fs';

export interface ProcessFigures {
  residentBytes: number;
  /** User and system time since its start. */
  cpuSeconds: number;
}

export interface Sample extends ProcessFigures {
  /** Milliseconds since the watch began. */
  atMs: number;
}

/** Linux fixes both for user space. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;

/** Reads the figures of a running process; throws if it does not run. */
export function figuresOf(pid: number): ProcessFigures {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold spaces; user and system time are fields 12 and 13 after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const resident = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
  return {
    residentBytes: resident * PAGE_BYTES,
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
  };
}

/** Samples processes at an interval until it is stopped, skipping those that do not run. */
export class ProcessWatch {
  readonly samples: Record<string, Sample[]> = {};
  readonly #pids: () => Record<string, number>;
  readonly #began = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(pids: () => Record<string, number>, everyMs: number) {
    this.#pids = pids;
    this.#timer = setInterval(() => this.#sample(), everyMs);
    this.#sample();
  }

  stop(): Record<string, Sample[]> {
    clearInterval(this.#timer);
    this.#sample();
    return this.samples;
  }

  #sample(): void {
    const atMs = performance.now() - this.#began;
    for (const [name, pid] of Object.entries(this.#pids())) {
      try {
        (this.samples[name] ??= []).push({ atMs, ...figuresOf(pid) });
      } catch {
        continue;
      }
    }
  }
}

/** Processor seconds of each process between two readings. */
export function cpuBetween(
  before: Record<string, ProcessFigures>,
  after: Record<string, ProcessFigures>,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after).map(([name, { cpuSeconds }]) => [
      name,
      cpuSeconds - (before[name]?.cpuSeconds ?? 0),
    ]),
  );
}

/** Bytes of resident memory gained per minute, by least squares. */
export function growthPerMinute(samples: readonly Sample[]): number {
  const meanAt = samples.reduce((sum, { atMs }) => sum + atMs, 0) / samples.length;
  const meanBytes =
    samples.reduce((sum, { residentBytes }) => sum + residentBytes, 0) / samples.length;
  const covariance = samples.reduce(
    (sum, { atMs, residentBytes }) => sum + (atMs - meanAt) * (residentBytes - meanBytes),
    0,
  );
  const variance = samples.reduce((sum, { atMs }) => sum + (atMs - meanAt) ** 2, 0);
  return variance === 0 ? 0 : (covariance / variance) * 60_000;
}
