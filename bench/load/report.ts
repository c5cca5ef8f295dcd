/** What was measured, as text. */
import { circumstancesText, type Circumstances } from '../circumstances.ts';
import { digits, markdownTable, type Column } from '../study/tables.ts';
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
  const sections = [
    circumstancesText('Load', result),
    ...(result.ingest === undefined ? [] : [ingestSection(result.ingest)]),
    ...(result.backlog === undefined ? [] : [backlogSection(result.backlog)]),
    ...(result.resumed === undefined
      ? []
      : [catchUpSection('An edit worker comes to the backlog', result.resumed)]),
    ...(result.catchUp === undefined ? [] : [catchUpSection('To the last record', result.catchUp)]),
    ...(result.delay === undefined ? [] : [delaySection(result.delay)]),
  ];
  return sections.join('\n');
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

function backlogSection({
  records,
  filling,
  fillingSeconds,
  waiting,
  waitingSeconds,
  whereabouts,
  histories,
}: Backlog): string {
  const columns: Column<Backlog['histories'][number]>[] = [
    { name: 'lineage', of: ({ lineage }) => lineage },
    { name: 'history, events', of: ({ events }) => events },
    { name: 'bytes', of: ({ bytes }) => bytes },
    { name: 'events while waiting', of: ({ eventsWhileWaiting }) => eventsWhileWaiting },
  ];
  return [
    `## Backlog: ${records} records and no edit worker\n`,
    `${accounted(whereabouts)}\n`,
    `Written, and the buffers filled, in ${fillingSeconds.toFixed(0)} s:\n\n${memoryTable(filling)}`,
    `Waiting, ${waitingSeconds.toFixed(0)} s:\n\n${memoryTable(waiting)}`,
    markdownTable(columns, histories),
  ].join('\n');
}

function catchUpSection(
  title: string,
  { records, seconds, decided, decidedPerSecond, outcomes, before, after, memory }: CatchUp,
): string {
  const kinds = Object.entries(outcomes)
    .map(([status, count]) => `${count} ${status}`)
    .join(', ');
  return `## ${title}\n\n${decided} of ${records} records have an outcome after ${seconds.toFixed(0)} s (${decidedPerSecond.toFixed(1)}/s): ${kinds}.\n\nBefore: ${accounted(before)}\nAfter: ${accounted(after)}\n\n${memoryTable(memory)}`;
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
  return `${inKafka} in Kafka + ${inWorkflows} in the workflows + ${decided} decided = ${produced - missing} of ${produced}${missing === 0 ? '' : `: ${missing} MISSING`}.`;
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
