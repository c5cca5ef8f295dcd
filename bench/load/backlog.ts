/**
 * A large backlog without an edit worker: the buffers fill, Kafka holds the rest, and nothing grows
 * while it waits.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadedSystem } from './loaded-system.ts';
import { loadCorrections } from './load-corrections.ts';
import { cpuBetween, growthPerMinute, ProcessWatch, type Sample } from './process-figures.ts';

/** Numbers of records by place. The last three add up to the first, or some are lost. */
export interface Whereabouts {
  produced: number;
  inKafka: number;
  inWorkflows: number;
  decided: number;
}

/** Number of lost records; negative if some are counted in two places. */
export function missingOf({ produced, inKafka, inWorkflows, decided }: Whereabouts): number {
  return produced - inKafka - inWorkflows - decided;
}

export interface ProcessMemory {
  name: string;
  firstBytes: number;
  highestBytes: number;
  lastBytes: number;
  growthBytesPerMinute: number;
  /** Mean use of processor cores. */
  cores: number;
}

export interface Backlog {
  records: number;
  /** Writing the records and filling the buffers. */
  filling: ProcessMemory[];
  fillingSeconds: number;
  /** While there is no edit worker. */
  waiting: ProcessMemory[];
  waitingSeconds: number;
  whereabouts: Whereabouts;
  histories: { lineage: string; events: number; bytes: number; eventsWhileWaiting: number }[];
}

const WRITTEN_AT_ONCE = 2_000;
const SAMPLE_EVERY_MS = 1_000;
const LOOK_EVERY_MS = 1_000;

export async function measureBacklog(
  system: LoadedSystem,
  records: number,
  waitSeconds: number,
): Promise<Backlog> {
  const filling = watched(system);
  for (let written = 0; written < records; written += WRITTEN_AT_ONCE) {
    const share = Math.min(WRITTEN_AT_ONCE, records - written) / system.lineages.length;
    for (const lineage of system.lineages)
      await system.submit(loadCorrections(lineage, written / system.lineages.length, share));
  }
  await untilNothingMoves(system);
  const filled = filling();

  const before = await system.histories();
  const waiting = watched(system);
  await delay(waitSeconds * 1_000);
  const waited = waiting();
  const histories = (await system.histories()).map((history, i) => ({
    ...history,
    eventsWhileWaiting: history.events - before[i]!.events,
  }));
  return {
    records,
    filling: filled.memory,
    fillingSeconds: filled.seconds,
    waiting: waited.memory,
    waitingSeconds: waited.seconds,
    whereabouts: await whereaboutsOf(system, records),
    histories,
  };
}

export async function whereaboutsOf(system: LoadedSystem, produced: number): Promise<Whereabouts> {
  const [inKafka, statuses] = [await system.lag(), await system.statuses()];
  return {
    produced,
    inKafka,
    inWorkflows: sum(statuses.map(({ waiting, running }) => waiting + (running?.revisions ?? 0))),
    decided: sum(statuses.flatMap(({ outcomes }) => Object.values(outcomes))),
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Resolves when Kafka's lag has stayed the same several times in a row. */
export async function untilNothingMoves(system: LoadedSystem): Promise<void> {
  for (
    let last = -1, lag = await system.lag(), still = 0;
    still < 3;
    last = lag, lag = await system.lag()
  ) {
    still = lag === last ? still + 1 : 0;
    await delay(LOOK_EVERY_MS);
  }
}

/** Starts sampling; the function that it returns ends that and returns the figures. */
export function watched(system: LoadedSystem): () => { seconds: number; memory: ProcessMemory[] } {
  const before = system.figures();
  const began = performance.now();
  const watch = new ProcessWatch(() => system.pids(), SAMPLE_EVERY_MS);
  return () => {
    const samples = watch.stop();
    const seconds = (performance.now() - began) / 1_000;
    const cpu = cpuBetween(before, system.figures());
    return {
      seconds,
      memory: Object.entries(samples).map(([name, seen]) =>
        memoryOf(name, seen, (cpu[name] ?? 0) / seconds),
      ),
    };
  };
}

function memoryOf(name: string, samples: Sample[], cores: number): ProcessMemory {
  const bytes = samples.map(({ residentBytes }) => residentBytes);
  return {
    name,
    firstBytes: bytes[0]!,
    highestBytes: Math.max(...bytes),
    lastBytes: bytes.at(-1)!,
    growthBytesPerMinute: growthPerMinute(samples),
    cores,
  };
}
