/** Measures an edit worker on a backlog until every record has an outcome or time runs out. */
import { setTimeout as delay } from 'node:timers/promises';
import type { OutcomeStatus } from '../../schemas/outcome.ts';
import { untilNothingMoves, whereaboutsOf } from './backlog.ts';
import type { LoadedSystem } from './loaded-system.ts';
import { watchProcesses } from './process-figures.ts';

export type CatchUp = Awaited<ReturnType<typeof catchUp>>;

const LOOK_EVERY_MS = 500;

/** Writes the records, lets the buffers fill, then starts the edit worker. */
export async function measureCatchUp(system: LoadedSystem, records: number): Promise<CatchUp> {
  await system.submitToEach(system.lineages, records / system.lineages.length);
  await untilNothingMoves(system);
  return await catchUp(system, records, Number.POSITIVE_INFINITY);
}

/** Starts the edit worker and waits, for at most `secondsMax`, until every record is decided. */
export async function catchUp(system: LoadedSystem, records: number, secondsMax: number) {
  const before = await whereaboutsOf(system, records);
  const heard = new Map<string, OutcomeStatus>();
  const reader = await system.outcomes('beginning', ({ position, status }) => {
    heard.set(`${position.topic}-${position.partition}-${position.offset}`, status);
  });
  await system.run('edit-worker');
  const watch = watchProcesses(() => system.pids());
  const began = performance.now();
  while (heard.size < records && performance.now() - began < secondsMax * 1_000)
    await delay(LOOK_EVERY_MS);
  const { seconds, memory } = watch();
  const decided = heard.size;
  const outcomes: Partial<Record<OutcomeStatus, number>> = {};
  for (const status of heard.values()) outcomes[status] = (outcomes[status] ?? 0) + 1;
  await system.end('edit-worker');
  await reader.stop();
  // A record that moves during the count would be counted twice or missed.
  await untilNothingMoves(system);
  const after = await whereaboutsOf(system, records);
  const decidedPerSecond = decided / seconds;
  return { records, seconds, decided, decidedPerSecond, outcomes, before, after, memory };
}
