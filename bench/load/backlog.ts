/**
 * What a system without an edit worker does with a great backlog: the buffers fill, Kafka holds the
 * rest, and everything stays as it is however long it takes. Then an edit worker comes, and the
 * backlog shrinks.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { LineageStatus } from '../../pipelines/workflows/contract.ts';
import type { LoadedSystem } from './loaded-system.ts';
import { loadCorrections } from './load-corrections.ts';
import { cpuBetween, growthPerMinute, ProcessWatch, type Sample } from './process-figures.ts';

/** Where every record is. The sum of the last three is the first, or one is lost. */
export interface Whereabouts {
  produced: number;
  inKafka: number;
  inWorkflows: number;
  decided: number;
}

/** Records that are nowhere; negative where some are in two places. */
export function missingOf({ produced, inKafka, inWorkflows, decided }: Whereabouts): number {
  return produced - inKafka - inWorkflows - decided;
}

export interface ProcessMemory {
  name: string;
  firstBytes: number;
  highestBytes: number;
  lastBytes: number;
  growthBytesPerMinute: number;
  /** Of one core; 1 is a whole one. */
  cores: number;
}

export interface Backlog {
  records: number;
  /** Writing the records and filling the buffers. */
  filling: ProcessMemory[];
  fillingSeconds: number;
  /** While nothing can be done. */
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
    inWorkflows: sum(statuses, inWorkflow),
    decided: sum(statuses, decidedBy),
  };
}

function inWorkflow({ waiting, running }: LineageStatus): number {
  return waiting + (running?.revisions ?? 0);
}

function decidedBy({ outcomes }: LineageStatus): number {
  return Object.values(outcomes).reduce((total, count) => total + count, 0);
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

/** Until Kafka holds as much as a moment ago, several times over. */
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

/** Samples from now on; the function that it returns says what was seen. */
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
