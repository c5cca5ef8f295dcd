/**
 * `npm run bench:audit`: measures, on a lineage of many corrections, how long audits take and how
 * exactly versions are undone.
 */
import path from 'node:path';
import { Command } from 'commander';
import { engineOptions } from '../../infra/config/engine-options.ts';
import { factKeyOf, type CorrectionRevision } from '../../schemas/correction.ts';
import { FileStore } from '../../versions/stores/file-store.ts';
import { Versions } from '../../versions/versions.ts';
import { circumstances } from '../circumstances.ts';
import {
  during,
  openEngine,
  partOptions,
  positive,
  runCommand,
  setUp,
  writeResult,
} from '../command.ts';
import { loadCorrections } from '../load/load-corrections.ts';
import { readRecords } from '../../operations/tune/fact-records.ts';
import { batchEnds, EditedStream, secondsPerCorrection, STUDY_LINEAGE } from '../edited-stream.ts';
import { measureVerify } from './byte-changes.ts';
import { OverlayStore } from './overlay-store.ts';
import { auditReport, type AuditResult } from './report.ts';
import { measureRevert } from './reverted-version.ts';
import { measureRebuild, measureWhy } from './errata-command.ts';

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
measures why, verify, the undoing of a version in the middle, and a rebuild from the log, which
takes as long as the edits.`,
  )
  .option('--data <file>', "records in CounterFact's form (default: made-up companies' seats)")
  .option('--corrections <n>', 'how many', positive, 1_000)
  .option('--batch <n>', 'corrections per version', positive, 10)
  .option('--model <path>', 'a model folder or file')
  .option(
    '--folder <path>',
    'for a lineage of one model, data and batch size (default: studies/audit in the data folder)',
  )
  .option('--questions <n>', 'how often each kind of `why` is asked', positive, 20)
  .option('--changes <n>', 'single-byte changes, each looked for by a full check', positive, 200);
partOptions(program, 'audit', PARTS);

await program.parseAsync();
await runCommand('bench:audit', () => main(program.opts<Options>()));

async function main(options: Options): Promise<void> {
  const { data, corrections, only, model, batch } = options;
  const { configuration, progress } = await setUp(model);
  const folder = path.resolve(options.folder ?? path.join(configuration.home, 'studies', 'audit'));
  const revisions =
    data === undefined
      ? madeUp(corrections)
      : (await readRecords(data, 0, corrections)).map(({ revision }) => revision);
  const engine = await openEngine(engineOptions(configuration), progress);
  const ends = batchEnds(revisions.length, batch);
  const stream = new EditedStream(folder, engine, revisions, ends);
  const edit = (at: (done: number) => void) => stream.advanceTo(revisions.length, at);
  await during(progress, 'editing', edit, revisions.length);
  const { entry } = await stream.log.entry((await stream.log.read()).head.version);
  const result: AuditResult = {
    ...circumstances('bench:audit'),
    data: data === undefined ? 'made up' : path.basename(data),
    model: entry.base.name,
    lineage: {
      corrections: revisions.length,
      batch,
      versions: entry.version,
      hold: entry.corrections,
      secondsPerCorrection: secondsPerCorrection(stream.done) ?? 0,
    },
  };
  const environment = {
    ERRATA_HOME: configuration.home,
    ERRATA_VERSIONS: path.join(folder, 'versions'),
    ERRATA_LINEAGES: STUDY_LINEAGE,
    ...(model === undefined ? {} : { ERRATA_MODEL: path.resolve(model) }),
  };
  if (only.includes('why')) {
    const why = () => measureWhy(engine, stream, options.questions, environment);
    result.why = await during(progress, 'why', why);
  }
  const store = new FileStore(environment.ERRATA_VERSIONS);
  if (only.includes('verify')) {
    const { changes } = options;
    const verify = (at: (done: number) => void) => measureVerify(store, STUDY_LINEAGE, changes, at);
    result.verify = await during(progress, 'single-byte changes', verify, changes);
  }
  if (only.includes('revert')) {
    // Undo writes go to memory, so the stored lineage is unchanged.
    const lineage = { engine, versions: new Versions(new OverlayStore(store)) };
    const middle = Math.ceil(entry.version / 2);
    const revert = () => measureRevert(lineage, middle, (stage) => progress.note(stage));
    result.revert = await during(progress, `undoing version ${middle}`, revert);
  }
  await engine.close();
  if (only.includes('rebuild')) result.rebuild = await measureRebuild(environment);
  writeResult(options.out, 'audit', result, auditReport(result));
}

function madeUp(count: number): CorrectionRevision[] {
  return loadCorrections(STUDY_LINEAGE, 0, count).map((correction, i) => ({
    kind: 'correction',
    factKey: factKeyOf(correction),
    correction,
    position: { topic: `errata.${STUDY_LINEAGE}.corrections`, partition: 0, offset: String(i) },
  }));
}
