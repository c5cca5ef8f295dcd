/** `npm run bench:load`: ingest rate, waiting backlog, catching up, and delay to the answer. */
import path from 'node:path';
import { Command } from 'commander';
import { BUFFER_BYTES_CEILING } from '../../pipelines/workflows/contract.ts';
import { circumstances } from '../circumstances.ts';
import { during, partOptions, positive, runCommand, setUp, writeResult } from '../command.ts';
import { DELAY_CORRECTIONS, measureAnswerDelay } from './answer-delay.ts';
import { measureBacklog, missingOf } from './backlog.ts';
import { catchUp, measureCatchUp } from './catch-up.ts';
import { measureIngest, type IngestRound } from './ingest-rate.ts';
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

/** The largest allowed buffers, and no batches to empty them. */
const FILL_ONLY = {
  ERRATA_BUFFER_EDITS_MAX: '100000',
  ERRATA_BUFFER_BYTES_MAX: String(BUFFER_BYTES_CEILING),
  ERRATA_BATCH_EDITS_MAX: '10000',
  ERRATA_BATCH_WAIT_MS: '86400000',
};
/** Accepts every batch: how well a model learns about invented companies does not matter here. */
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
/** Each correction can be used only once. */
const DELAYS_MAX = DELAY_CORRECTIONS / DELAY_BATCH_WAITS_MS.length;

const program = new Command('npm run bench:load --')
  .description(
    `Measures the stream on a system of its own (embedded Kafka and Temporal in a temporary folder,
our processes as in production), in four parts: ingest, backlog, catch-up, delay.`,
  )
  .option('--records <n>', 'the backlog', positive, 100_000)
  .option('--lineages <n>', 'lineages that share it', positive, 4)
  .option('--partitions <n>', 'partitions of each topic', positive, 3)
  .option('--rounds <n>', 'rounds of ingest; processes have just started in the first', positive, 6)
  .option('--round-records <n>', 'per lineage and round; they must fit the buffer', positive, 1_500)
  .option('--wait <seconds>', 'how long the backlog waits and is watched', positive, 300)
  .option('--catch-up-seconds <seconds>', 'of an edit worker on the backlog', positive, 120)
  .option('--catch-up-records <n>', 'records that are edited to the last one', positive, 2_000)
  .option('--delays <n>', `corrections per setting, at most ${DELAYS_MAX}`, positive, 10)
  .option('--model <path>', 'for the catch-up (a small one is faster); not for the delay');
partOptions(program, 'load', PARTS);

await program.parseAsync();
await runCommand('bench:load', () => main(program.opts<Options>()));

async function main(options: Options): Promise<void> {
  const { configuration, progress } = await setUp(undefined, ['kafka', 'temporal']);
  const { out, only, ...rest } = options;
  const { home } = configuration;
  const { partitions, records, catchUpRecords, delays: count } = options;
  const result: LoadResult = { ...circumstances('bench:load'), options: { ...rest, only } };
  const names = Array.from({ length: options.lineages }, (_, i) => `load-${i}`);
  const named = options.model === undefined ? {} : { ERRATA_MODEL: path.resolve(options.model) };
  const passing = { ...PASS_EVERYTHING, ...named };
  const step = <Result>(label: string, work: () => Promise<Result>) =>
    during(progress, label, work);

  if (only.includes('ingest')) {
    const rounds = Array.from({ length: options.rounds }, (_, round) =>
      names.map((name) => `${name}-round-${round + 1}`),
    );
    const found = ({ recordsPerSecond }: IngestRound) =>
      progress.note(`${Math.round(recordsPerSecond)} records/s`);
    const on = { home, partitions, lineages: rounds.flat(), environment: FILL_ONLY };
    await onSystem(on, async (system) => {
      const ingest = () => measureIngest(system, rounds, options.roundRecords, found);
      result.ingest = await step('ingest', ingest);
    });
  }
  if (only.includes('backlog'))
    await onSystem({ home, partitions, lineages: names, environment: passing }, async (system) => {
      const backlog = () => measureBacklog(system, records, options.wait);
      const resumed = () => catchUp(system, records, options.catchUpSeconds);
      result.backlog = await step(`${records} records wait`, backlog);
      result.resumed = await step('an edit worker starts', resumed);
    });
  if (only.includes('catch-up')) {
    const environment = { ...passing, ...CATCH_UP_BATCH };
    await onSystem({ home, partitions, lineages: names, environment }, async (system) => {
      const all = () => measureCatchUp(system, catchUpRecords);
      result.catchUp = await step(`${catchUpRecords} records, to the last one`, all);
    });
  }
  if (only.includes('delay')) {
    result.delay = [];
    for (const [i, batchWaitMs] of DELAY_BATCH_WAITS_MS.entries()) {
      const environment = { ERRATA_BATCH_WAIT_MS: String(batchWaitMs) };
      await onSystem({ home, partitions, lineages: ['delay'], environment }, async (system) => {
        const load = () => Promise.all([system.run('edit-worker'), system.run('serve')]);
        const delay = () => measureAnswerDelay(system, batchWaitMs, { from: i * count, count });
        await step('loading the models', load);
        result.delay!.push(await step(`answers, batchWaitMs ${batchWaitMs}`, delay));
      });
    }
  }
  writeResult(out, 'load', result, loadReport(result));
  const ends = [result.backlog?.whereabouts, result.resumed?.after, result.catchUp?.after];
  if (ends.some((whereabouts) => whereabouts !== undefined && missingOf(whereabouts) !== 0))
    throw new Error('records are missing, or in two places');
}

/** Runs the work while ingest and the workflow worker run. */
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
