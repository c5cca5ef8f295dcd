/** Measures how well the verdict separates good batches from bad ones. */
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { markdownTable } from '../../tables.ts';
import { runStudy, type Keeping, type StudyOptions } from '../study-run.ts';
import { BATCH_KINDS } from './kinds.ts';
import {
  DISTRIBUTION_COLUMNS,
  PROPOSAL_COLUMNS,
  RATE_COLUMNS,
  distributionsOf,
  proposalsOf,
  ratesOf,
} from './rates.ts';
import { tryBatches, type Trial } from './trials.ts';

export interface VerdictOptions extends StudyOptions {
  prepared: number;
  batch: number;
}

const settings = DEFAULT_LINEAGE_SETTINGS.verdict;

export async function runVerdict(options: VerdictOptions): Promise<void> {
  await runStudy('verdict', options, async (run, all) => {
    const { batch: batchSize } = options;
    const [prepared, records] = [all.slice(0, options.prepared), all.slice(options.prepared)];
    if (records.length < batchSize)
      throw new Error(
        `${all.length} records leave no batch of ${batchSize} after the first ${options.prepared}`,
      );
    const trials: Trial[] = [];
    const found = async (trial: Trial) => {
      trials.push(trial);
      const results = {
        circumstances: run.circumstances(),
        settings,
        rates: ratesOf(trials),
        distributions: distributionsOf(trials),
        proposals: proposalsOf(trials, settings),
        trials,
      };
      const json = `${JSON.stringify(results, null, 2)}\n`;
      const report = reportOf(trials, batchSize, prepared.length);
      await run.write({ 'verdict.md': report, 'verdict.json': json }, `${report}\n`);
    };
    // Kinds that need the same parameters share an engine.
    const groups = new Map(
      BATCH_KINDS.map(({ parameters = {} }) => [JSON.stringify(parameters), parameters]),
    );
    for (const [key, parameters] of groups) {
      const kinds = BATCH_KINDS.filter((kind) => JSON.stringify(kind.parameters ?? {}) === key);
      const question = {
        ...{ prepared, records, batchSize, settings },
        circumstances: run.circumstances(parameters),
        preparedIn: run.circumstances(),
      };
      const count = prepared.length + Math.floor(records.length / batchSize) * kinds.length;
      await run.withEngine(async (engine) => {
        const points = (keeping: Keeping) => tryBatches(engine, kinds, question, keeping);
        await run.measure('version and trials', count, points, found);
      }, parameters);
    }
  });
}

function reportOf(trials: readonly Trial[], batchSize: number, prepared: number): string {
  const kinds = BATCH_KINDS.filter(({ name }) => trials.some((trial) => trial.kind === name));
  return `# The verdict on batches that are known to be good or bad

Batches of ${batchSize}, each tried on a version of ${prepared} corrections under the default \
thresholds.

${kinds.map(({ name, what }) => `- **${name}**: ${what}`).join('\n')}

## Decisions

${markdownTable(RATE_COLUMNS, ratesOf(trials))}
## Thresholds, each by itself

${markdownTable(PROPOSAL_COLUMNS, proposalsOf(trials, settings))}
## Scores of the batches after the edit

${markdownTable(DISTRIBUTION_COLUMNS, distributionsOf(trials))}`;
}
