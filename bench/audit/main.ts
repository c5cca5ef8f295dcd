/**
 * `npm run bench:audit`: how long an auditor waits and how exactly versions are undone, on a
 * lineage of many corrections.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { Command } from 'commander';
import { pino } from 'pino';
import type { Configuration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { PROJECT_ROOT } from '../../infra/config/home.ts';
import type { Progress } from '../../infra/setup/progress.ts';
import type { LocalEngine } from '../../model/engine/local-engine.ts';
import { factKeyOf, type CorrectionRevision } from '../../schemas/correction.ts';
import { OPEN } from '../../serving/access/access.ts';
import { createServing } from '../../serving/server.ts';
import { FileStore } from '../../versions/stores/file-store.ts';
import { Versions } from '../../versions/versions.ts';
import { circumstances } from '../circumstances.ts';
import {
  during,
  namesIn,
  openEngine,
  positive,
  runCommand,
  setUp,
  writeResult,
} from '../command.ts';
import { loadCorrections } from '../load/load-corrections.ts';
import { readRecords } from '../../operations/tune/fact-records.ts';
import { batchEnds, EditedStream, STUDY_LINEAGE } from '../study/edited-stream.ts';
import { secondsPerCorrection } from '../study/stream-measures.ts';
import { measureVerify } from './byte-changes.ts';
import { OverlayStore } from './overlay-store.ts';
import { auditReport, type AuditResult } from './report.ts';
import { measureRevert } from './reverted-version.ts';
import { measureWhy, type WhySeconds } from './why-seconds.ts';

const PARTS = ['why', 'verify', 'revert', 'rebuild'] as const;

interface Options {
  data?: string;
  corrections: number;
  batch: number;
  model?: string;
  folder?: string;
  questions: number;
  changes: number;
  only: (typeof PARTS)[number][];
  out: string;
}

const program = new Command('npm run bench:audit --')
  .description(
    `Edits corrections into a lineage that is kept in a folder (a second run resumes it), then
measures why, verify, the undoing of a version in the middle, and a rebuild from the log.`,
  )
  .option(
    '--data <file>',
    "records in CounterFact's form (default: made-up seats of made-up companies)",
  )
  .option('--corrections <n>', 'how many', positive, 1_000)
  .option('--batch <n>', 'corrections per version', positive, 10)
  .option('--model <path>', 'a model folder or file')
  .option(
    '--folder <path>',
    `for a lineage of one model, data and batch size (default: studies/audit in the data
folder)`,
  )
  .option('--questions <n>', 'how often each kind of `why` is asked', positive, 20)
  .option(
    '--changes <n>',
    'single-byte changes, each looked for by a check of everything',
    positive,
    200,
  )
  .option(
    '--only <parts>',
    `some of ${PARTS.join(', ')}, with commas between; a rebuild takes as long as the edits`,
    namesIn(PARTS),
    [...PARTS],
  )
  .option(
    '--out <folder>',
    'for audit.json and audit.md',
    path.join(PROJECT_ROOT, 'bench', 'results'),
  );

await program.parseAsync();
await runCommand('bench:audit', () => main(program.opts<Options>()));

async function main(options: Options): Promise<void> {
  const { data, corrections, only, model } = options;
  const { configuration, progress } = await setUp(model);
  const folder = path.resolve(options.folder ?? path.join(configuration.home, 'studies', 'audit'));
  const revisions =
    data === undefined
      ? madeUp(corrections)
      : (await readRecords(data, 0, corrections)).map(({ revision }) => revision);
  const engine = await openEngine(engineOptions(configuration), progress);
  const ends = batchEnds(revisions.length, options.batch);
  const stream = await EditedStream.open(folder, engine, revisions, ends);
  const edit = (at: (done: number) => void) => stream.advanceTo(revisions.length, at);
  await during(progress, 'editing', edit, revisions.length);
  const result = await resultOf(stream, options, revisions.length);
  const bench = { engine, stream, progress, options };
  const versionsFolder = path.join(folder, 'versions');
  if (only.includes('why')) result.why = await why(bench, configuration, versionsFolder);
  const store = new FileStore(versionsFolder);
  if (only.includes('verify'))
    result.verify = await during(
      progress,
      'single-byte changes',
      (at) => measureVerify(store, STUDY_LINEAGE, options.changes, at),
      options.changes,
    );
  if (only.includes('revert')) {
    // The kept lineage stays as it is.
    const versions = new Versions(new OverlayStore(store));
    const middle = Math.ceil(result.lineage.versions / 2);
    result.revert = await during(progress, `undoing version ${middle}`, () =>
      measureRevert({ engine, versions, lineage: STUDY_LINEAGE }, middle, (stage) =>
        progress.note(stage),
      ),
    );
  }
  await engine.close();
  if (only.includes('rebuild')) {
    const began = performance.now();
    const named = model === undefined ? {} : { ERRATA_MODEL: path.resolve(model) };
    const report = await rebuilt(versionsFolder, named);
    result.rebuild = { seconds: (performance.now() - began) / 1_000, report };
  }
  writeResult(options.out, 'audit', result, auditReport(result));
}

async function resultOf(
  stream: EditedStream,
  { data, batch }: Options,
  corrections: number,
): Promise<AuditResult> {
  const log = stream.versions.log(STUDY_LINEAGE);
  const { entry } = await log.entry((await log.read()).head.version);
  return {
    ...circumstances('bench:audit'),
    data: data === undefined ? 'made up' : path.basename(data),
    model: entry.base.name,
    lineage: {
      corrections,
      batch,
      versions: entry.version,
      hold: entry.corrections,
      secondsPerCorrection: secondsPerCorrection(stream.done, ({ seconds }) => seconds!) ?? 0,
    },
  };
}

async function why(
  {
    engine,
    stream,
    progress,
    options,
  }: { engine: LocalEngine; stream: EditedStream; progress: Progress; options: Options },
  configuration: Configuration,
  versionsFolder: string,
): Promise<WhySeconds[]> {
  const { active } = await stream.versions.log(STUDY_LINEAGE).read();
  const asked = everyNth([...active.values()], options.questions);
  const environment = {
    ERRATA_HOME: configuration.home,
    ERRATA_VERSIONS: versionsFolder,
    ERRATA_LINEAGES: STUDY_LINEAGE,
  };
  const serving = createServing({
    engine,
    versions: stream.versions,
    logger: pino({ level: 'silent' }),
    users: () => OPEN,
    lineages: [STUDY_LINEAGE],
  });
  await during(progress, 'serving', () => serving.start());
  const url = await serving.server.listen({ host: '127.0.0.1', port: 0 });
  const served = { ...environment, ERRATA_SERVE_URL: url };
  const questions = (args: (one: (typeof asked)[number]) => string[]) =>
    asked.map((one) => ({ args: args(one), correctionId: one.correctionId }));
  try {
    return await during(progress, 'why', async () => [
      await measureWhy(
        'correction id',
        questions(({ correctionId }) => ['--correction', correctionId]),
        environment,
      ),
      await measureWhy(
        'subject',
        questions(({ subject }) => ['--subject', subject]),
        environment,
      ),
      await measureWhy(
        'prompt, of a running serve',
        questions(({ prompt }) => ['--prompt', prompt]),
        served,
      ),
    ]);
  } finally {
    await serving.close();
  }
}

function madeUp(count: number): CorrectionRevision[] {
  return loadCorrections(STUDY_LINEAGE, 0, count).map((correction, i) => ({
    kind: 'correction',
    factKey: factKeyOf(correction),
    correction,
    position: { topic: `errata.${STUDY_LINEAGE}.corrections`, partition: 0, offset: String(i) },
  }));
}

/** Runs `errata rebuild` in a process of its own; resolves to its JSON. */
function rebuilt(versions: string, environment: Record<string, string>): Promise<unknown> {
  const command = path.join(PROJECT_ROOT, 'cli', 'errata.mjs');
  const args = [command, 'rebuild', '--lineage', STUDY_LINEAGE, '--as', 'rebuilt', '--json'];
  const set = { ERRATA_VERSIONS: versions, ERRATA_LINEAGES: STUDY_LINEAGE, ...environment };
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...set },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', () => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()));
      } catch (error) {
        reject(new Error('errata rebuild printed no report', { cause: error }));
      }
    });
  });
}

function everyNth<Item>(items: readonly Item[], count: number): Item[] {
  const length = Math.min(count, items.length);
  return Array.from({ length }, (_, i) => items[Math.floor((i * items.length) / length)]!);
}
