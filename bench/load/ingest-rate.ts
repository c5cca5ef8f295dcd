/**
 * How fast records go from Kafka into the workflows' buffers, in rounds: ingest is held (SIGSTOP)
 * while the round's records are written, so that writing them costs the measured system nothing,
 * then let go. Every round has lineages of its own, so that it meets empty buffers and warm
 * processes; those of the other rounds are read as well and have nothing. When the last record was
 * in is read from the lineages' histories, so that nobody asks meanwhile.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { lineageWorkflowId, type Acceptance } from '../../pipelines/workflows/contract.ts';
import type { LoadedSystem } from './loaded-system.ts';
import { loadCorrections } from './load-corrections.ts';
import { cpuBetween } from './process-figures.ts';

export interface IngestRound {
  records: number;
  updates: number;
  /** From letting ingest go to the last update that was answered. */
  seconds: number;
  recordsPerSecond: number;
  /** Of each process, per 1,000 records. */
  cpuSecondsPerThousand: Record<string, number>;
  eventsPerUpdate: number;
  historyBytesPerRecord: number;
}

const LOOK_EVERY_MS = 250;

export async function measureIngest(
  system: LoadedSystem,
  rounds: readonly (readonly string[])[],
  recordsPerLineage: number,
  tell: (round: IngestRound) => void,
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
    measured.push(
      await roundOf(system, lineages, recordsPerLineage * lineages.length, letGoAt, cpu),
    );
    tell(measured.at(-1)!);
  }
  return measured;
}

/** Does the work while ingest stands still. Its session of the consumer group outlasts that. */
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
  records: number,
  letGoAt: number,
  cpu: Record<string, number>,
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
