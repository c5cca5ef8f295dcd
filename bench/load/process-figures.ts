/** Resident memory and CPU time of processes, from /proc. */
import { readFileSync } from 'node:fs';

export type ProcessFigures = ReturnType<typeof figuresOf>;
export type ProcessMemory = ReturnType<typeof memoryOf>;

export interface Sample extends ProcessFigures {
  /** Milliseconds since the watch began. */
  atMs: number;
}

/** Linux fixes both values for user space. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;
const SAMPLE_EVERY_MS = 1_000;

/** Reads the figures of a running process; throws if it is not running. */
export function figuresOf(pid: number) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may contain spaces. User and system time are fields 12 and 13 after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const resident = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
  return {
    residentBytes: resident * PAGE_BYTES,
    /** User plus system time since the process started. */
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
  };
}

/**
 * Samples processes every second until the returned function is called. That function returns
 * figures for the processes that ran.
 */
export function watchProcesses(
  pids: () => Record<string, number>,
): () => { seconds: number; memory: ProcessMemory[] } {
  const samples = new Map<string, Sample[]>();
  const began = performance.now();
  const sample = () => {
    const atMs = performance.now() - began;
    for (const [name, pid] of Object.entries(pids())) {
      try {
        samples.set(name, [...(samples.get(name) ?? []), { atMs, ...figuresOf(pid) }]);
      } catch {
        continue;
      }
    }
  };
  sample();
  const timer = setInterval(sample, SAMPLE_EVERY_MS);
  return () => {
    clearInterval(timer);
    sample();
    const seconds = (performance.now() - began) / 1_000;
    const memory = [...samples].map(([name, seen]) => memoryOf(name, seen, seconds));
    return { seconds, memory };
  };
}

function memoryOf(name: string, samples: readonly Sample[], seconds: number) {
  const [first, last] = [samples[0]!, samples.at(-1)!];
  return {
    name,
    firstBytes: first.residentBytes,
    highestBytes: Math.max(...samples.map(({ residentBytes }) => residentBytes)),
    lastBytes: last.residentBytes,
    growthBytesPerMinute: growthPerMinute(samples),
    /** Mean number of CPU cores in use. */
    cores: (last.cpuSeconds - first.cpuSeconds) / seconds,
  };
}

/** Bytes of resident memory gained per minute, by least squares. */
export function growthPerMinute(samples: readonly Sample[]): number {
  const mean = (of: (sample: Sample) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const meanAt = mean(({ atMs }) => atMs);
  const meanBytes = mean(({ residentBytes }) => residentBytes);
  const covariance = mean((one) => (one.atMs - meanAt) * (one.residentBytes - meanBytes));
  const variance = mean(({ atMs }) => (atMs - meanAt) ** 2);
  return variance === 0 ? 0 : (covariance / variance) * 60_000;
}
