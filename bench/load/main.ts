/**
 * `npm run bench:load`: how much comes in, what waits and how, and how long it takes to the answer.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { readConfiguration, type Configuration } from '../../infra/config/configuration.ts';
import { homeAt, PROJECT_ROOT } from '../../infra/config/home.ts';
import { progressOn } from '../../infra/setup/progress.ts';
import { provision } from '../../infra/setup/provision/index.ts';
import { BUFFER_BYTES_CEILING } from '../../pipelines/workflows/contract.ts';
import { circumstances } from '../circumstances.ts';
import { during, partsIn, positive } from '../parts.ts';
import { DELAY_CORRECTIONS, measureAnswerDelay } from './answer-delay.ts';
import { measureBacklog, missingOf } from './backlog.ts';
import { catchUp, measureCatchUp } from './catch-up.ts';
import { measureIngest } from './ingest-rate.ts';
import { LoadedSystem } from './loaded-system.ts';
import { loadReport, type LoadResult } from './report.ts';

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
  only: Part[];
  out: string;
}

const PARTS = ['ingest', 'backlog', 'catch-up', 'delay'] as const;
type Part = (typeof PARTS)[number];

/** Buffers as large as they may be, and no batch that would empty them. */
const FILL_ONLY = {
  ERRATA_BUFFER_EDITS_MAX: '100000',
  ERRATA_BUFFER_BYTES_MAX: String(BUFFER_BYTES_CEILING),
  ERRATA_BATCH_EDITS_MAX: '10000',
  ERRATA_BATCH_WAIT_MS: '86400000',
};
/**
 * Whether a made-up company moved is nothing that a model has to be good at: every batch is let in.
 */
const LET_IN = {
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
    'Measures the stream on a system of its own (embedded Kafka and Temporal in a temporary folder, the processes as production runs them), in four parts: ingest, backlog, catch-up, delay.',
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
    'records per lineage and round; they have to fit the buffer',
    positive,
    1_500,
  )
  .option('--wait <seconds>', 'how long the backlog waits and is watched', positive, 300)
  .option(
    '--catch-up-seconds <seconds>',
    'how long an edit worker then takes from the backlog',
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
    'the model of the catch-up: a small one catches up sooner. The delay is always that of the configured one',
  )
  .option('--only <parts>', `some of ${PARTS.join(', ')}, with commas between`, partsIn(PARTS), [
    ...PARTS,
  ])
  .option(
    '--out <folder>',
    'where load.json and load.md are written',
    path.join(PROJECT_ROOT, 'bench', 'results'),
  );

await program.parseAsync();
try {
  await main(program.opts<Options>());
} catch (error) {
  process.stderr.write(
    `bench:load: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exitCode = 1;
}

async function main(options: Options): Promise<void> {
  const configuration = readConfiguration();
  const progress = progressOn(process.stderr);
  await provision(
    [
      'kafka',
      'temporal',
      'tensorflow',
      ...(configuration.model === null ? (['model'] as const) : []),
    ],
    { home: homeAt(configuration.home), device: configuration.device, progress },
  );
  const { out, ...asked } = options;
  const result: LoadResult = { ...circumstances('bench:load'), options: asked };
  const model = options.model === undefined ? {} : { ERRATA_MODEL: path.resolve(options.model) };
  const names = Array.from({ length: options.lineages }, (_, i) => `load-${i}`);
  const measured = (
    lineages: readonly string[],
    environment: Record<string, string>,
    work: (system: LoadedSystem) => Promise<void>,
  ) => onSystem(configuration, lineages, options.partitions, environment, work);

  if (options.only.includes('ingest')) {
    const rounds = Array.from({ length: options.rounds }, (_, round) =>
      names.map((name) => `${name}-round-${round + 1}`),
    );
    await measured(rounds.flat(), FILL_ONLY, async (system) => {
      result.ingest = await during(progress, 'ingest', () =>
        measureIngest(system, rounds, options.roundRecords, ({ recordsPerSecond }) =>
          progress.note(`${Math.round(recordsPerSecond)} records/s`),
        ),
      );
    });
  }
  if (options.only.includes('backlog')) {
    await measured(names, { ...LET_IN, ...model }, async (system) => {
      result.backlog = await during(progress, `${options.records} records wait`, () =>
        measureBacklog(system, options.records, options.wait),
      );
      result.resumed = await during(progress, 'an edit worker comes', () =>
        catchUp(system, options.records, options.catchUpSeconds),
      );
    });
  }
  if (options.only.includes('catch-up')) {
    await measured(names, { ...LET_IN, ...CATCH_UP_BATCH, ...model }, async (system) => {
      result.catchUp = await during(
        progress,
        `${options.catchUpRecords} records, to the last one`,
        () => measureCatchUp(system, options.catchUpRecords),
      );
    });
  }
  if (options.only.includes('delay')) {
    result.delay = [];
    for (const [i, batchWaitMs] of DELAY_BATCH_WAITS_MS.entries()) {
      await measured(['delay'], { ERRATA_BATCH_WAIT_MS: String(batchWaitMs) }, async (system) => {
        await during(progress, 'the models load', () =>
          Promise.all([system.run('edit-worker'), system.run('serve')]),
        );
        result.delay!.push(
          await during(progress, `answers, batchWaitMs ${batchWaitMs}`, () =>
            measureAnswerDelay(system, batchWaitMs, i * options.delays, options.delays),
          ),
        );
      });
    }
  }

  mkdirSync(out, { recursive: true });
  writeFileSync(path.join(out, 'load.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(path.join(out, 'load.md'), loadReport(result));
  process.stdout.write(loadReport(result));
  const ends = [result.backlog?.whereabouts, result.resumed?.after, result.catchUp?.after].filter(
    (whereabouts) => whereabouts !== undefined,
  );
  if (ends.some((whereabouts) => missingOf(whereabouts) !== 0))
    throw new Error('records are missing, or in two places');
}

/** With ingest and the workflow worker running; stopped whatever happens. */
async function onSystem(
  configuration: Configuration,
  lineages: readonly string[],
  partitions: number,
  environment: Record<string, string>,
  work: (system: LoadedSystem) => Promise<void>,
): Promise<void> {
  const system = await LoadedSystem.start({
    home: configuration.home,
    lineages,
    partitions,
    environment,
  });
  try {
    await Promise.all([system.run('workflow-worker'), system.run('ingest')]);
    await work(system);
  } finally {
    await system.stop();
  }
}
