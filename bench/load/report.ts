import { circumstancesText, type Circumstances } from '../circumstances.ts';
import { digits, markdownTable, type Column } from '../tables.ts';
import type { AnswerDelays } from './answer-delay.ts';
import { missingOf, type Backlog, type Whereabouts } from './backlog.ts';
import type { CatchUp } from './catch-up.ts';
import type { IngestRound } from './ingest-rate.ts';
import type { ProcessMemory } from './process-figures.ts';

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
    ['round', (round) => rounds.indexOf(round) + 1],
    ['records', 'records'],
    ['updates', 'updates'],
    ['seconds', 'seconds', digits(2)],
    ['records/s', 'recordsPerSecond', digits(0)],
    ...processes.map((name): Column<IngestRound> => {
      const spent = (round: IngestRound) => round.cpuSecondsPerThousand[name] ?? null;
      return [`${name}, CPU s per 1,000`, spent, digits(3)];
    }),
    ['events per update', 'eventsPerUpdate', digits(1)],
    ['history, bytes per record', 'historyBytesPerRecord', digits(0)],
  ];
  return `## Ingest: from Kafka into the lineages' buffers\n\n${markdownTable(columns, rounds)}`;
}

function backlogSection(backlog: Backlog): string {
  const { records, filling, fillingSeconds, waiting, waitingSeconds } = backlog;
  const columns: Column<Backlog['histories'][number]>[] = [
    ['lineage', 'lineage'],
    ['history, events', 'events'],
    ['bytes', 'bytes'],
    ['events while waiting', 'eventsWhileWaiting'],
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
    ['batchWaitMs', 'batchWaitMs'],
    ['corrections', ({ seconds }) => seconds.length],
    ['refused by the probes', 'refused'],
    ['median, s', 'medianSeconds', digits(1)],
    ['p95, s', 'p95Seconds', digits(1)],
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
  const megabytes = (count: number) => (bytes: number) => digits(count)(bytes / 1e6);
  return markdownTable<ProcessMemory>(
    [
      ['process', 'name'],
      ['first, MB', 'firstBytes', megabytes(0)],
      ['highest, MB', 'highestBytes', megabytes(0)],
      ['last, MB', 'lastBytes', megabytes(0)],
      ['growth, MB a minute', 'growthBytesPerMinute', megabytes(1)],
      ['cores', 'cores', digits(3)],
    ],
    memory,
  );
}
