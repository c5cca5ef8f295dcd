/** `npm run study:verdict`. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { readStream, type Range } from './study-records.ts';
import { markdownTable } from './tables.ts';
import { BATCH_KINDS, type BatchKind } from './verdict-kinds.ts';
import {
  DISTRIBUTION_COLUMNS,
  PROPOSAL_COLUMNS,
  RATE_COLUMNS,
  distributionsOf,
  proposalsOf,
  ratesOf,
} from './verdict-rates.ts';
import { tryBatches, type Trial } from './verdict-trials.ts';
import { openWorkplace, type WorkplaceOptions } from './workplace.ts';

export interface VerdictOptions extends WorkplaceOptions {
  records: Range[];
  prepared: number;
  batch: number;
}

export async function runVerdict(options: VerdictOptions): Promise<void> {
  const all = await readStream(options.data, options.records);
  const [prepared, records] = [all.slice(0, options.prepared), all.slice(options.prepared)];
  if (records.length < options.batch)
    throw new Error(
      `${all.length} records leave no batch of ${options.batch} behind the first ${options.prepared}`,
    );
  const place = await openWorkplace('verdict', options);
  const settings = DEFAULT_LINEAGE_SETTINGS.verdict;
  const trials: Trial[] = [];
  const files = ['verdict.md', 'verdict.json'].map((name) => path.join(place.folder, name)) as [
    string,
    string,
  ];
  const batches = Math.floor(records.length / options.batch);

  for (const { parameters, kinds } of byParameters(BATCH_KINDS)) {
    const engine = await place.openEngine(parameters);
    const preparing = place.progress.step('the version to try on', {
      amount: prepared.length,
      unit: 'items',
    });
    let trying: ReturnType<typeof place.progress.step> | null = null;
    let done = 0;
    try {
      await tryBatches(
        engine,
        kinds,
        {
          prepared,
          records,
          batchSize: options.batch,
          settings,
          circumstances: place.circumstances(parameters),
          preparedIn: place.circumstances(),
        },
        {
          folder: place.folder,
          points: place.points,
          prepared: (corrections) => preparing.at(corrections),
          tried: async (trial) => {
            if (trying === null) {
              preparing.done();
              trying = place.progress.step('trials', {
                amount: batches * kinds.length,
                unit: 'items',
              });
            }
            trying.at(++done);
            trials.push(trial);
            await mkdir(place.folder, { recursive: true });
            await writeFile(files[0], reportOf(trials));
            await writeFile(
              files[1],
              `${JSON.stringify({ circumstances: place.circumstances(), settings, rates: ratesOf(trials), distributions: distributionsOf(trials), proposals: proposalsOf(trials, settings), trials }, null, 2)}\n`,
            );
          },
        },
      );
      (trying as { done(): void } | null)?.done();
    } finally {
      await engine.close();
    }
  }
  process.stdout.write(`${reportOf(trials)}\n${files.join('\n')}\n`);

  function reportOf(known: readonly Trial[]): string {
    const kinds = BATCH_KINDS.filter(({ name }) => known.some((trial) => trial.kind === name));
    return [
      '# The verdict on batches that are known to be good or bad\n',
      `Batches of ${options.batch}, each tried on a version of ${prepared.length} corrections under the default thresholds.\n`,
      kinds.map(({ name, what }) => `- **${name}**: ${what}`).join('\n'),
      '\n## Decisions\n',
      markdownTable(RATE_COLUMNS, ratesOf(known)),
      '## Thresholds, each by itself\n',
      markdownTable(PROPOSAL_COLUMNS, proposalsOf(known, settings)),
      '## Scores of the batches after the edit\n',
      markdownTable(DISTRIBUTION_COLUMNS, distributionsOf(known)),
    ].join('\n');
  }
}

/** One engine for all kinds that need the same parameters. */
function byParameters(
  kinds: readonly BatchKind[],
): { parameters: HyperParameterOverrides; kinds: BatchKind[] }[] {
  const groups = new Map<string, { parameters: HyperParameterOverrides; kinds: BatchKind[] }>();
  for (const kind of kinds) {
    const parameters = kind.parameters ?? {};
    const key = JSON.stringify(parameters);
    const group = groups.get(key) ?? { parameters, kinds: [] };
    group.kinds.push(kind);
    groups.set(key, group);
  }
  return [...groups.values()];
}
