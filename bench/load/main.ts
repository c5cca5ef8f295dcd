/** `npm run bench:load`: ingest rate, a waiting backlog, catching up, delay to the answer. */
import path from 'node:path';
import { Command } from 'commander';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import { BUFFER_BYTES_CEILING } from '../../pipelines/workflows/contract.ts';
import { circumstances } from '../circumstances.ts';
import { during, namesIn, positive, runCommand, setUp, writeResult } from '../command.ts';
import { DELAY_CORRECTIONS, measureAnswerDelay } from './answer-delay.ts';
import { measureBacklog, missingOf } from './backlog.ts';
import { catchUp, measureCatchUp } from './catch-up.ts';
import { measureIngest } from './ingest-rate.ts';
import { LoadedSystem, type LoadedSystemOptions } from './loaded-system.ts';
import { loadReport, type LoadResult } from './report.ts';

const PARTS = ['ingest', 'backlog', 'catch-up', 'delay'] as const;

interface Options {
  records: number;
  lineages: number;
  partitions: number;
  rounds: number;
  roundRecords: number;
  wait: number;
  catchUpSeconds: number;
  catchUpRecords: number;
  delays: number;
  model?: string;
  only: (typeof PARTS)[number][];
  out: string;
}

/** The largest buffers that are allowed, and no batch to empty them. */
const FILL_ONLY = {
  ERRATA_BUFFER_EDITS_MAX: '100000',
  ERRATA_BUFFER_BYTES_MAX: String(BUFFER_BYTES_CEILING),
  ERRATA_BATCH_EDITS_MAX: '10000',
  ERRATA_BATCH_WAIT_MS: '86400000',
};
/** No batch is refused: how well a model learns about made-up companies does not matter. */
const PASS_EVERYTHING = {
  ERRATA_REQUIRE_EFFECTIVE: 'false',
  ERRATA_GENERALISATION_MIN: '0',
  ERRATA_LOCALITY_MIN: '0',
  ERRATA_RETENTION_MIN: '0',
  ERRATA_CANARY_RATIO_MAX: '100',
  ERRATA_EDIT_NORM_MAX: '1000',
};
const CATCH_UP_BATCH = { ERRATA_BATCH_EDITS_MAX: '50', ERRATA_SHARD_EDITS_MAX: '50' };
const DELAY_BATCH_WAITS_MS = [2_000, 0];

const program = new Command('npm run bench:load --')
  .description(
    `Measures the stream on a system of its own (embedded Kafka and Temporal in a temporary folder,
our processes as in production), in four parts: ingest, backlog, catch-up, delay.`,
  )
  .option('--records <n>', 'the backlog', positive, 100_000)
  .option('--lineages <n>', 'lineages that share it', positive, 4)
  .option('--partitions <n>', 'partitions of each topic', positive, 3)
  .option(
    '--rounds <n>',
    'rounds of the ingest measurement; the first meets processes that have just started',
    positive,
    6,
  )
  .option(
    '--round-records <n>',
    'records per lineage and round; they must fit the buffer',
    positive,
    1_500,
  )
  .option('--wait <seconds>', 'how long the backlog waits and is watched', positive, 300)
  .option(
    '--catch-up-seconds <seconds>',
    'how long an edit worker then works on the backlog',
    positive,
    120,
  )
  .option('--catch-up-records <n>', 'records that are edited to the last one', positive, 2_000)
  .option(
    '--delays <n>',
    `single corrections per setting, at most ${DELAY_CORRECTIONS / 2}`,
    positive,
    10,
  )
  .option(
    '--model <path>',
    'for the catch-up, where a small model is faster; the delay is that of the configured one',
  )
  .option('--only <parts>', `some of ${PARTS.join(', ')}, with commas between`, namesIn(PARTS), [
    ...PARTS,
  ])
  .option(
    '--out <folder>',
    'for load.json and load.md',
    path.join(PROJECT_ROOT, 'bench', 'results'),
  );

await program.parseAsync();
await runCommand('bench:load', () => main(program.opts<Options>()));

async function main(options: Options): Promise<void> {
  const { configuration, progress } = await setUp(undefined, ['kafka', 'temporal']);
  const { out, only, ...rest } = options;
  const result: LoadResult = { ...circumstances('bench:load'), options: { ...rest, only } };
  const names = Array.from({ length: options.lineages }, (_, i) => `load-${i}`);
  const named = options.model === undefined ? {} : { ERRATA_MODEL: path.resolve(options.model) };
  const passing = { ...PASS_EVERYTHING, ...named };
  const { home } = configuration;
  const step = async <Result>(label: string, work: () => Promise<Result>) =>
    await during(progress, label, work);
  const on = async (
    lineages: readonly string[],
    environment: Record<string, string>,
    work: (system: LoadedSystem) => Promise<void>,
  ) => await onSystem({ home, lineages, partitions: options.partitions, environment }, work);

  if (only.includes('ingest')) {
    const rounds = Array.from({ length: options.rounds }, (_, round) =>
      names.map((name) => `${name}-round-${round + 1}`),
    );
    await on(rounds.flat(), FILL_ONLY, async (system) => {
      result.ingest = await step('ingest', () =>
        measureIngest(system, rounds, options.roundRecords, ({ recordsPerSecond }) =>
          progress.note(`${Math.round(recordsPerSecond)} records/s`),
        ),
      );
    });
  }
  if (only.includes('backlog'))
    await on(names, passing, async (system) => {
      result.backlog = await step(`${options.records} records wait`, () =>
        measureBacklog(system, options.records, options.wait),
      );
      result.resumed = await step('an edit worker comes', () =>
        catchUp(system, options.records, options.catchUpSeconds),
      );
    });
  if (only.includes('catch-up'))
    await on(names, { ...passing, ...CATCH_UP_BATCH }, async (system) => {
      result.catchUp = await step(`${options.catchUpRecords} records, to the last one`, () =>
        measureCatchUp(system, options.catchUpRecords),
      );
    });
  if (only.includes('delay')) {
    result.delay = [];
    for (const [i, batchWaitMs] of DELAY_BATCH_WAITS_MS.entries())
      await on(['delay'], { ERRATA_BATCH_WAIT_MS: String(batchWaitMs) }, async (system) => {
        const loaded = () => Promise.all([system.run('edit-worker'), system.run('serve')]);
        await step('loading the models', loaded);
        const numbers = { from: i * options.delays, count: options.delays };
        const delay = () => measureAnswerDelay(system, batchWaitMs, numbers);
        result.delay!.push(await step(`answers, batchWaitMs ${batchWaitMs}`, delay));
      });
  }
  writeResult(out, 'load', result, loadReport(result));
  const ends = [result.backlog?.whereabouts, result.resumed?.after, result.catchUp?.after];
  if (ends.some((whereabouts) => whereabouts !== undefined && missingOf(whereabouts) !== 0))
    throw new Error('records are missing, or in two places');
}

/** Runs ingest and the workflow worker during the work. */
async function onSystem(
  options: LoadedSystemOptions,
  work: (system: LoadedSystem) => Promise<void>,
): Promise<void> {
  const system = await LoadedSystem.start(options);
  try {
    await Promise.all([system.run('workflow-worker'), system.run('ingest')]);
    await work(system);
  } finally {
    await system.stop();
  }
}
