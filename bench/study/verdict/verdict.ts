/** How well the verdict tells good batches from bad ones. */
import type { HyperParameterOverrides } from '../../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { markdownTable } from '../../tables.ts';
import { runStudy, type StudyOptions } from '../study-run.ts';
import { BATCH_KINDS, type BatchKind } from './kinds.ts';
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
    const write = async () => {
      const report = reportOf(trials, batchSize, prepared.length);
      const circumstances = run.circumstances();
      const results = {
        circumstances,
        settings,
        rates: ratesOf(trials),
        distributions: distributionsOf(trials),
        proposals: proposalsOf(trials, settings),
        trials,
      };
      const json = `${JSON.stringify(results, null, 2)}\n`;
      await run.write({ 'verdict.md': report, 'verdict.json': json }, `${report}\n`);
    };
    for (const { parameters, kinds } of byParameters(BATCH_KINDS)) {
      const engine = await run.openEngine(parameters);
      const question = {
        prepared,
        records,
        batchSize,
        settings,
        circumstances: run.circumstances(parameters),
        preparedIn: run.circumstances(),
      };
      const found = async (trial: Trial) => {
        trials.push(trial);
        await write();
      };
      const count = prepared.length + Math.floor(records.length / batchSize) * kinds.length;
      let done = prepared.length;
      try {
        await run.step<Trial, unknown>('version and trials', count, found, (keeping) =>
          tryBatches(engine, kinds, question, {
            ...keeping,
            found: async (trial) => {
              await keeping.found(trial);
              keeping.edited(++done);
            },
          }),
        );
      } finally {
        await engine.close();
      }
    }
  });
}

function reportOf(trials: readonly Trial[], batchSize: number, prepared: number): string {
  const kinds = BATCH_KINDS.filter(({ name }) => trials.some((trial) => trial.kind === name));
  return [
    '# The verdict on batches that are known to be good or bad\n',
    `Batches of ${batchSize}, each tried on a version of ${prepared} corrections under the default \
thresholds.\n`,
    kinds.map(({ name, what }) => `- **${name}**: ${what}`).join('\n'),
    '\n## Decisions\n',
    markdownTable(RATE_COLUMNS, ratesOf(trials)),
    '## Thresholds, each by itself\n',
    markdownTable(PROPOSAL_COLUMNS, proposalsOf(trials, settings)),
    '## Scores of the batches after the edit\n',
    markdownTable(DISTRIBUTION_COLUMNS, distributionsOf(trials)),
  ].join('\n');
}

interface KindGroup {
  parameters: HyperParameterOverrides;
  kinds: BatchKind[];
}

/** Groups the kinds by the parameters that they need, so that each group shares an engine. */
function byParameters(kinds: readonly BatchKind[]): KindGroup[] {
  const groups = new Map<string, KindGroup>();
  for (const kind of kinds) {
    const parameters = kind.parameters ?? {};
    const key = JSON.stringify(parameters);
    groups.set(key, { parameters, kinds: [...(groups.get(key)?.kinds ?? []), kind] });
  }
  return [...groups.values()];
}
