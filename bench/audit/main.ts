/**
 * `npm run bench:audit`: how long an auditor waits and how exactly things are undone, on a lineage
 * of many corrections.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { pino } from 'pino';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { homeAt, PROJECT_ROOT } from '../../infra/config/home.ts';
import { progressOn } from '../../infra/setup/progress.ts';
import { provision } from '../../infra/setup/provision/index.ts';
import { LocalEngine } from '../../model/engine/local-engine.ts';
import { factKeyOf, type CorrectionRevision } from '../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { OPEN } from '../../serving/access/access.ts';
import { createServing } from '../../serving/server.ts';
import { FileStore } from '../../versions/stores/file-store.ts';
import { Versions } from '../../versions/versions.ts';
import { loadCorrections } from '../load/load-corrections.ts';
import { readRecords } from '../records.ts';
import { batchEnds, EditedStream, STUDY_LINEAGE } from '../study/edited-stream.ts';
import { circumstances } from '../circumstances.ts';
import { during, partsIn, positive } from '../parts.ts';
import { measureVerify } from './byte-changes.ts';
import { OverlayStore } from './overlay-store.ts';
import { auditReport, type AuditResult } from './report.ts';
import { measureRevert } from './reverted-version.ts';
import { measureWhy } from './why-seconds.ts';

const PARTS = ['why', 'verify', 'revert', 'rebuild'] as const;
type Part = (typeof PARTS)[number];

interface Options {
  data?: string;
  corrections: number;
  batch: number;
  model?: string;
  folder?: string;
  questions: number;
  changes: number;
  only: Part[];
  out: string;
}

const program = new Command('npm run bench:audit --')
  .description(
    'Edits corrections into a lineage that is kept in a folder (a second run goes on with it), then measures why, verify, the undoing of a version in the middle, and a rebuild from the log.',
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
    'where the lineage is kept (default: studies/audit in the data folder); of one model, data and batch size',
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
    `some of ${PARTS.join(', ')}, with commas between; a rebuild takes as long as the edits did`,
    partsIn(PARTS),
    [...PARTS],
  )
  .option(
    '--out <folder>',
    'where audit.json and audit.md are written',
    path.join(PROJECT_ROOT, 'bench', 'results'),
  );

await program.parseAsync();
try {
  await main(program.opts<Options>());
} catch (error) {
  process.stderr.write(
    `bench:audit: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exitCode = 1;
}

async function main({ data, corrections, batch, model, only, ...options }: Options): Promise<void> {
  const configuration = readConfiguration({
    ...process.env,
    ...(model === undefined ? {} : { ERRATA_MODEL: model }),
  });
  const progress = progressOn(process.stderr);
  await provision(['tensorflow', ...(configuration.model === null ? (['model'] as const) : [])], {
    home: homeAt(configuration.home),
    device: configuration.device,
    progress,
  });
  const folder = path.resolve(options.folder ?? path.join(configuration.home, 'studies', 'audit'));
  const revisions =
    data === undefined
      ? madeUp(corrections)
      : (await readRecords(data, 0, corrections)).map(({ revision }) => revision);
  const loading = progress.step('loading the model');
  const engine = await LocalEngine.open(engineOptions(configuration));
  loading.done();

  const stream = await EditedStream.open(
    folder,
    engine,
    revisions,
    batchEnds(revisions.length, batch),
  );
  const editing = progress.step('editing', { amount: revisions.length, unit: 'items' });
  await stream.advanceTo(revisions.length, (done) => editing.at(done));
  editing.done();
  const edited = stream.done.filter(({ seconds }) => seconds !== null);
  const { entry } = await stream.versions
    .log(STUDY_LINEAGE)
    .entry((await stream.versions.log(STUDY_LINEAGE).read()).head.version);
  const result: AuditResult = {
    ...circumstances('bench:audit'),
    data: data === undefined ? 'made up' : path.basename(data),
    model: entry.base.name,
    lineage: {
      corrections: revisions.length,
      batch,
      versions: entry.version,
      hold: entry.corrections,
      secondsPerCorrection:
        edited.reduce((sum, { seconds }) => sum + seconds!, 0) /
        Math.max(
          1,
          edited.reduce((sum, { begin, end }) => sum + end - begin, 0),
        ),
    },
  };
  const store = new FileStore(path.join(folder, 'versions'));

  if (only.includes('why')) {
    const { active } = await stream.versions.log(STUDY_LINEAGE).read();
    const asked = everyNth([...active.values()], options.questions);
    const environment = {
      ERRATA_HOME: configuration.home,
      ERRATA_VERSIONS: path.join(folder, 'versions'),
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
    result.why = await during(progress, 'why', async () => [
      await measureWhy(
        'correction id',
        asked.map(({ correctionId }) => ({ args: ['--correction', correctionId], correctionId })),
        environment,
      ),
      await measureWhy(
        'subject',
        asked.map(({ correctionId, subject }) => ({ args: ['--subject', subject], correctionId })),
        environment,
      ),
      await measureWhy(
        'prompt, of a running serve',
        asked.map(({ correctionId, prompt }) => ({ args: ['--prompt', prompt], correctionId })),
        { ...environment, ERRATA_SERVE_URL: url },
      ),
    ]);
    await serving.close();
  }
  if (only.includes('verify')) {
    const step = progress.step('single-byte changes', { amount: options.changes, unit: 'items' });
    result.verify = await measureVerify(store, STUDY_LINEAGE, options.changes, (done) =>
      step.at(done),
    );
    step.done();
  }
  if (only.includes('revert')) {
    // The kept lineage stays as it is.
    const versions = new Versions(new OverlayStore(store));
    const middle = Math.ceil(entry.version / 2);
    result.revert = await during(progress, `undoing version ${middle}`, () =>
      measureRevert(
        engine,
        versions,
        STUDY_LINEAGE,
        middle,
        DEFAULT_LINEAGE_SETTINGS.verdict,
        (stage) => progress.note(stage),
      ),
    );
  }
  await engine.close();
  if (only.includes('rebuild')) {
    const began = performance.now();
    const report = await rebuilt(path.join(folder, 'versions'), {
      ...(model === undefined ? {} : { ERRATA_MODEL: path.resolve(model) }),
    });
    result.rebuild = { seconds: (performance.now() - began) / 1_000, report };
  }

  mkdirSync(options.out, { recursive: true });
  writeFileSync(path.join(options.out, 'audit.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(path.join(options.out, 'audit.md'), auditReport(result));
  process.stdout.write(auditReport(result));
}

function madeUp(count: number): CorrectionRevision[] {
  return loadCorrections(STUDY_LINEAGE, 0, count).map((correction, i) => ({
    kind: 'correction',
    factKey: factKeyOf(correction),
    correction,
    position: { topic: `errata.${STUDY_LINEAGE}.corrections`, partition: 0, offset: String(i) },
  }));
}

/** `errata rebuild` in a process of its own; what it reports is its JSON. */
function rebuilt(versions: string, environment: Record<string, string>): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [
        path.join(PROJECT_ROOT, 'cli', 'errata.mjs'),
        'rebuild',
        '--lineage',
        STUDY_LINEAGE,
        '--as',
        'rebuilt',
        '--json',
      ],
      {
        env: {
          ...process.env,
          ERRATA_VERSIONS: versions,
          ERRATA_LINEAGES: STUDY_LINEAGE,
          ...environment,
        },
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', () => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()));
      } catch (error) {
        reject(new Error('errata rebuild gave no report', { cause: error }));
      }
    });
  });
}

function everyNth<Item>(items: readonly Item[], count: number): Item[] {
  return Array.from(
    { length: Math.min(count, items.length) },
    (_, i) => items[Math.floor((i * items.length) / Math.min(count, items.length))]!,
  );
}
