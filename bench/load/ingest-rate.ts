/**
 * The rate of records from Kafka into the workflows' buffers, in rounds. Ingest is paused (SIGSTOP)
 * while a round's records are written, so writing costs the measured system nothing. Every round
 * has its own lineages, so it meets empty buffers and warm processes. The time of the last update
 * is read from the histories, so no query disturbs the round.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { lineageWorkflowId, type Acceptance } from '../../pipelines/workflows/contract.ts';
import type { LoadedSystem } from './loaded-system.ts';
import { loadCorrections } from './load-corrections.ts';
import { cpuBetween } from './process-figures.ts';

export interface IngestRound {
  records: number;
  updates: number;
  /** From the continuation of ingest to the last update that was answered. */
  seconds: number;
  recordsPerSecond: number;
  /** By process, per 1,000 records. */
  cpuSecondsPerThousand: Record<string, number>;
  eventsPerUpdate: number;
  historyBytesPerRecord: number;
}

const LOOK_EVERY_MS = 250;

export async function measureIngest(
  system: LoadedSystem,
  rounds: readonly (readonly string[])[],
  recordsPerLineage: number,
  found: (round: IngestRound) => void,
): Promise<IngestRound[]> {
  const measured: IngestRound[] = [];
  for (const lineages of rounds) {
    const { result: before, letGoAt } = await heldBack(system, async () => {
      for (const lineage of lineages)
        await system.submit(loadCorrections(lineage, 0, recordsPerLineage));
      return system.figures();
    });
    await untilTaken(system, lineages);
    const cpu = cpuBetween(before, system.figures());
    const records = recordsPerLineage * lineages.length;
    const round = await roundOf(system, lineages, { records, letGoAt, cpu });
    measured.push(round);
    found(round);
  }
  return measured;
}

/** Does the work while ingest is stopped, for less than its session of the consumer group. */
async function heldBack<Result>(
  system: LoadedSystem,
  work: () => Promise<Result>,
): Promise<{ result: Result; letGoAt: number }> {
  const { ingest } = system.pids();
  process.kill(ingest!, 'SIGSTOP');
  try {
    return { result: await work(), letGoAt: Date.now() };
  } finally {
    process.kill(ingest!, 'SIGCONT');
  }
}

async function untilTaken(system: LoadedSystem, lineages: readonly string[]): Promise<void> {
  while ((await system.lag(lineages)) > 0) await delay(LOOK_EVERY_MS);
}

async function roundOf(
  system: LoadedSystem,
  lineages: readonly string[],
  { records, letGoAt, cpu }: { records: number; letGoAt: number; cpu: Record<string, number> },
): Promise<IngestRound> {
  let lastAt = letGoAt;
  let [updates, accepted, events, bytes] = [0, 0, 0, 0];
  for (const lineage of lineages) {
    const handle = system.temporal.client.workflow.getHandle(lineageWorkflowId(lineage));
    const [history, description] = [await handle.fetchHistory(), await handle.describe()];
    events += description.historyLength;
    bytes += description.historySize ?? 0;
    for (const {
      eventTime,
      workflowExecutionUpdateCompletedEventAttributes: answered,
    } of history.events ?? []) {
      if (!answered) continue;
      lastAt = Math.max(lastAt, Number(eventTime!.seconds) * 1_000 + (eventTime!.nanos ?? 0) / 1e6);
      updates++;
      accepted += (
        JSON.parse(
          Buffer.from(answered.outcome!.success!.payloads![0]!.data!).toString(),
        ) as Acceptance
      ).accepted;
    }
  }
  if (accepted !== records)
    throw new Error(`${records} records were written and the lineages took ${accepted}`);
  const seconds = (lastAt - letGoAt) / 1_000;
  return {
    records,
    updates,
    seconds,
    recordsPerSecond: records / seconds,
    cpuSecondsPerThousand: Object.fromEntries(
      Object.entries(cpu).map(([name, spent]) => [name, (1_000 * spent) / records]),
    ),
    eventsPerUpdate: events / updates,
    historyBytesPerRecord: bytes / records,
  };
}
