/** The report of the load measurements. */
import { circumstancesText, type Circumstances } from '../circumstances.ts';
import { digits, markdownTable, type Column } from '../tables.ts';
import type { AnswerDelays } from './answer-delay.ts';
import { missingOf, type Backlog, type ProcessMemory, type Whereabouts } from './backlog.ts';
import type { CatchUp } from './catch-up.ts';
import type { IngestRound } from './ingest-rate.ts';

export interface LoadResult extends Circumstances {
  options: object;
  ingest?: IngestRound[];
  backlog?: Backlog;
  resumed?: CatchUp;
  catchUp?: CatchUp;
  delay?: AnswerDelays[];
}

export function loadReport(result: LoadResult): string {
  const { ingest, backlog, resumed, catchUp, delay } = result;
  const sections = [
    circumstancesText('Load', result),
    ingest && ingestSection(ingest),
    backlog && backlogSection(backlog),
    resumed && catchUpSection('An edit worker comes to the backlog', resumed),
    catchUp && catchUpSection('To the last record', catchUp),
    delay && delaySection(delay),
  ];
  return sections.filter((section) => section !== undefined).join('\n');
}

function ingestSection(rounds: readonly IngestRound[]): string {
  const processes = Object.keys(rounds[0]?.cpuSecondsPerThousand ?? {});
  const columns: Column<IngestRound>[] = [
    { name: 'round', of: (round) => rounds.indexOf(round) + 1 },
    { name: 'records', of: ({ records }) => records },
    { name: 'updates', of: ({ updates }) => updates },
    { name: 'seconds', of: ({ seconds }) => seconds, as: digits(2) },
    { name: 'records/s', of: ({ recordsPerSecond }) => recordsPerSecond, as: digits(0) },
    ...processes.map((name): Column<IngestRound> => ({
      name: `${name}, CPU s per 1,000`,
      of: ({ cpuSecondsPerThousand }) => cpuSecondsPerThousand[name] ?? null,
      as: digits(3),
    })),
    { name: 'events per update', of: ({ eventsPerUpdate }) => eventsPerUpdate, as: digits(1) },
    {
      name: 'history, bytes per record',
      of: ({ historyBytesPerRecord }) => historyBytesPerRecord,
      as: digits(0),
    },
  ];
  return `## Ingest: from Kafka into the lineages' buffers\n\n${markdownTable(columns, rounds)}`;
}

function backlogSection(backlog: Backlog): string {
  const { records, filling, fillingSeconds, waiting, waitingSeconds } = backlog;
  const columns: Column<Backlog['histories'][number]>[] = [
    { name: 'lineage', of: ({ lineage }) => lineage },
    { name: 'history, events', of: ({ events }) => events },
    { name: 'bytes', of: ({ bytes }) => bytes },
    { name: 'events while waiting', of: ({ eventsWhileWaiting }) => eventsWhileWaiting },
  ];
  return [
    `## Backlog: ${records} records and no edit worker\n`,
    `${accounted(backlog.whereabouts)}\n`,
    `Written and buffers filled in ${fillingSeconds.toFixed(0)} s:\n\n${memoryTable(filling)}`,
    `Waiting for ${waitingSeconds.toFixed(0)} s:\n\n${memoryTable(waiting)}`,
    markdownTable(columns, backlog.histories),
  ].join('\n');
}

function catchUpSection(
  title: string,
  { records, seconds, decided, decidedPerSecond, outcomes, before, after, memory }: CatchUp,
): string {
  const kinds = Object.entries(outcomes).map(([status, count]) => `${count} ${status}`);
  return `## ${title}

${decided} of ${records} records have an outcome after ${seconds.toFixed(0)} s \
(${decidedPerSecond.toFixed(1)}/s): ${kinds.join(', ')}.

Before: ${accounted(before)}
After: ${accounted(after)}

${memoryTable(memory)}`;
}

function delaySection(delays: readonly AnswerDelays[]): string {
  const columns: Column<AnswerDelays>[] = [
    { name: 'batchWaitMs', of: ({ batchWaitMs }) => batchWaitMs },
    { name: 'corrections', of: ({ seconds }) => seconds.length },
    { name: 'refused by the probes', of: ({ refused }) => refused },
    { name: 'median, s', of: ({ medianSeconds }) => medianSeconds, as: digits(1) },
    { name: 'p95, s', of: ({ p95Seconds }) => p95Seconds, as: digits(1) },
  ];
  return `## From a correction to the answer\n\n${markdownTable(columns, delays)}`;
}

function accounted(whereabouts: Whereabouts): string {
  const { produced, inKafka, inWorkflows, decided } = whereabouts;
  const missing = missingOf(whereabouts);
  const sum = `${inKafka} in Kafka + ${inWorkflows} in the workflows + ${decided} decided`;
  const counted = `${sum} = ${produced - missing} of ${produced}`;
  return missing === 0 ? `${counted}.` : `${counted}: ${missing} MISSING.`;
}

function memoryTable(memory: readonly ProcessMemory[]): string {
  const megabytes = (
    name: string,
    of: (process: ProcessMemory) => number,
  ): Column<ProcessMemory> => ({ name, of: (process) => of(process) / 1e6, as: digits(0) });
  const columns: Column<ProcessMemory>[] = [
    { name: 'process', of: ({ name }) => name },
    megabytes('first, MB', ({ firstBytes }) => firstBytes),
    megabytes('highest, MB', ({ highestBytes }) => highestBytes),
    megabytes('last, MB', ({ lastBytes }) => lastBytes),
    {
      name: 'growth, MB a minute',
      of: ({ growthBytesPerMinute }) => growthBytesPerMinute / 1e6,
      as: digits(1),
    },
    { name: 'cores', of: ({ cores }) => cores, as: digits(3) },
  ];
  return markdownTable(columns, memory);
}
