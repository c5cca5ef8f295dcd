/**
 * Measures, in rounds, the rate of records from Kafka into the workflows' buffers. Ingest is paused
 * (SIGSTOP) while a round's records are written, so that writing does not slow the measured system.
 * Every round has its own lineages, so it starts with empty buffers and warm processes. The time of
 * the last update is read from workflow histories, so no query disturbs the round.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { lineageWorkflowId, type Acceptance } from '../../pipelines/workflows/contract.ts';
import type { LoadedSystem } from './loaded-system.ts';
import type { ProcessFigures } from './process-figures.ts';

export interface IngestRound {
  records: number;
  updates: number;
  /** Time from resuming ingest to the last answered update. */
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
    const { before, letGoAt } = await writtenWhileHeld(system, lineages, recordsPerLineage);
    while ((await system.lag(lineages)) > 0) await delay(LOOK_EVERY_MS);
    const after = system.figures();
    const records = recordsPerLineage * lineages.length;
    const cpuSecondsPerThousand = Object.fromEntries(
      Object.entries(after).map(([name, { cpuSeconds }]) => {
        const spent = cpuSeconds - (before[name]?.cpuSeconds ?? 0);
        return [name, (1_000 * spent) / records];
      }),
    );
    const taken = await takenFrom(system, lineages, { records, letGoAt });
    measured.push({ ...taken, cpuSecondsPerThousand });
    found(measured.at(-1)!);
  }
  return measured;
}

/** Writes records while ingest is stopped, for less than its consumer-group session timeout. */
async function writtenWhileHeld(
  system: LoadedSystem,
  lineages: readonly string[],
  recordsPerLineage: number,
): Promise<{ before: Record<string, ProcessFigures>; letGoAt: number }> {
  const { ingest } = system.pids();
  process.kill(ingest!, 'SIGSTOP');
  try {
    await system.submitToEach(lineages, recordsPerLineage);
    return { before: system.figures(), letGoAt: Date.now() };
  } finally {
    process.kill(ingest!, 'SIGCONT');
  }
}

async function takenFrom(
  system: LoadedSystem,
  lineages: readonly string[],
  { records, letGoAt }: { records: number; letGoAt: number },
): Promise<Omit<IngestRound, 'cpuSecondsPerThousand'>> {
  let lastAt = letGoAt;
  let [updates, accepted, events, bytes] = [0, 0, 0, 0];
  for (const lineage of lineages) {
    const handle = system.temporal.client.workflow.getHandle(lineageWorkflowId(lineage));
    const [history, description] = [await handle.fetchHistory(), await handle.describe()];
    events += description.historyLength;
    bytes += description.historySize ?? 0;
    for (const event of history.events ?? []) {
      const answered = event.workflowExecutionUpdateCompletedEventAttributes;
      if (!answered) continue;
      const { seconds, nanos } = event.eventTime!;
      lastAt = Math.max(lastAt, Number(seconds) * 1_000 + (nanos ?? 0) / 1e6);
      updates++;
      const payload = Buffer.from(answered.outcome!.success!.payloads![0]!.data!);
      accepted += (JSON.parse(payload.toString()) as Acceptance).accepted;
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
    eventsPerUpdate: events / updates,
    historyBytesPerRecord: bytes / records,
  };
}
