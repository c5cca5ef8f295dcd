/**
 * Builds up a large backlog without an edit worker: the buffers fill, Kafka holds the rest, and
 * memory must not grow while it waits.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadedSystem } from './loaded-system.ts';
import { watchProcesses } from './process-figures.ts';

/** Record counts by place. The last three add up to the first unless records were lost. */
export interface Whereabouts {
  produced: number;
  inKafka: number;
  inWorkflows: number;
  decided: number;
}

/** Returns the number of lost records; negative if some are counted in two places. */
export function missingOf({ produced, inKafka, inWorkflows, decided }: Whereabouts): number {
  return produced - inKafka - inWorkflows - decided;
}

export type Backlog = Awaited<ReturnType<typeof measureBacklog>>;

const WRITTEN_AT_ONCE = 2_000;
const LOOK_EVERY_MS = 1_000;

export async function measureBacklog(system: LoadedSystem, records: number, waitSeconds: number) {
  const { lineages } = system;
  const filling = watchProcesses(() => system.pids());
  for (let written = 0; written < records; written += WRITTEN_AT_ONCE) {
    const share = Math.min(WRITTEN_AT_ONCE, records - written) / lineages.length;
    await system.submitToEach(lineages, share, written / lineages.length);
  }
  await untilNothingMoves(system);
  const filled = filling();

  const before = await system.histories();
  const waiting = watchProcesses(() => system.pids());
  await delay(waitSeconds * 1_000);
  const waited = waiting();
  const histories = (await system.histories()).map((history, i) => ({
    ...history,
    eventsWhileWaiting: history.events - before[i]!.events,
  }));
  return {
    records,
    /** While records are written and buffers fill. */
    filling: filled.memory,
    fillingSeconds: filled.seconds,
    /** While no edit worker runs. */
    waiting: waited.memory,
    waitingSeconds: waited.seconds,
    whereabouts: await whereaboutsOf(system, records),
    histories,
  };
}

export async function whereaboutsOf(system: LoadedSystem, produced: number): Promise<Whereabouts> {
  const inKafka = await system.lag();
  let [inWorkflows, decided] = [0, 0];
  for (const { waiting, running, outcomes } of await system.statuses()) {
    inWorkflows += waiting + (running?.revisions ?? 0);
    for (const count of Object.values(outcomes)) decided += count;
  }
  return { produced, inKafka, inWorkflows, decided };
}

/** Resolves when Kafka's lag has been unchanged several times in a row. */
export async function untilNothingMoves(system: LoadedSystem): Promise<void> {
  let last = -1;
  for (let still = 0; still < 3;) {
    const lag = await system.lag();
    still = lag === last ? still + 1 : 0;
    last = lag;
    await delay(LOOK_EVERY_MS);
  }
}
