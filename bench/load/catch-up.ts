/** How an edit worker works a backlog off, until every record has an outcome or time is up. */
import { setTimeout as delay } from 'node:timers/promises';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import type { OutcomeStatus } from '../../schemas/editing.ts';
import {
  untilNothingMoves,
  watched,
  whereaboutsOf,
  type ProcessMemory,
  type Whereabouts,
} from './backlog.ts';
import type { LoadedSystem } from './loaded-system.ts';
import { loadCorrections } from './load-corrections.ts';

export interface CatchUp {
  records: number;
  seconds: number;
  /** Records with an outcome on the outcomes topics. */
  decided: number;
  decidedPerSecond: number;
  outcomes: Partial<Record<OutcomeStatus, number>>;
  before: Whereabouts;
  after: Whereabouts;
  memory: ProcessMemory[];
}

const LOOK_EVERY_MS = 500;

/** Writes the records, lets the buffers fill, and then starts the edit worker. */
export async function measureCatchUp(system: LoadedSystem, records: number): Promise<CatchUp> {
  const share = records / system.lineages.length;
  for (const lineage of system.lineages) await system.submit(loadCorrections(lineage, 0, share));
  await untilNothingMoves(system);
  return await catchUp(system, records, Number.POSITIVE_INFINITY);
}

/** Starts the edit worker and watches until all is decided, for at most `secondsMax`. */
export async function catchUp(
  system: LoadedSystem,
  records: number,
  secondsMax: number,
): Promise<CatchUp> {
  const before = await whereaboutsOf(system, records);
  const heard = new Map<string, OutcomeStatus>();
  const reader = await tail(
    system.kafka,
    system.lineages,
    { from: 'beginning', format: SINGLE_OBJECT_FORMAT },
    (announcement) => {
      if (announcement.kind !== 'outcome') return;
      const { topic, partition, offset } = announcement.outcome.position;
      heard.set(`${topic}-${partition}-${offset}`, announcement.outcome.status);
    },
  );
  await system.run('edit-worker');
  const watch = watched(system);
  const began = performance.now();
  while (heard.size < records && performance.now() - began < secondsMax * 1_000)
    await delay(LOOK_EVERY_MS);
  const { seconds, memory } = watch();
  const decided = heard.size;
  const outcomes: CatchUp['outcomes'] = {};
  for (const status of heard.values()) outcomes[status] = (outcomes[status] ?? 0) + 1;
  await system.end('edit-worker');
  await reader.stop();
  // A record that moves during the count would be counted twice, or not at all.
  await untilNothingMoves(system);
  return {
    records,
    seconds,
    decided,
    decidedPerSecond: decided / seconds,
    outcomes,
    before,
    after: await whereaboutsOf(system, records),
    memory,
  };
}
