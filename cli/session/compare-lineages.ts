/** Two lineages asked the same, each by a model that is loaded here for it; one model at a time. */
import { engineOptions } from '../../infra/config/engine-options.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import {
  comparisonOf,
  measureLineage,
  probedCorrections,
  type LineageComparison,
  type MeasuredSide,
} from '../../operations/rebuild/lineage-comparison.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import type { History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { CommandFailure } from './command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { percent, shortened, type Output } from '../terminal/output.ts';
import type { Steps } from '../terminal/steps.ts';

export interface ComparedLineage {
  log: VersionLog;
  /** Null: HEAD. */
  version: number | null;
  /** Of the model that the lineage was made with. */
  configuration: Configuration;
}

/** Throws `CommandFailure` where a model is not the one that its lineage was made with. */
export async function compareLineages(
  first: ComparedLineage,
  second: ComparedLineage,
  steps: Steps,
): Promise<LineageComparison> {
  const [one, other] = [await historyOf(first), await historyOf(second)];
  const probed = probedCorrections(one, other);
  if (probed.length === 0)
    throw new CommandFailure(
      'compare the lineages',
      'no correction holds in either',
      null,
      EXIT.failure,
    );
  const measured: MeasuredSide[] = [];
  for (const [side, history] of [
    [first, one],
    [second, other],
  ] as const) {
    const engine = await ThreadEngine.open(
      { ...engineOptions(side.configuration), ...parametersOfHead(history) },
      (label, share) => steps.at(`${label} for ${side.log.lineage}`, Math.round(100 * share), 100),
    );
    try {
      await requireItsModel(engine, history);
      measured.push(
        await measureLineage(engine, side.log, history, probed, (done) =>
          steps.at(`asking ${side.log.lineage}`, done, probed.length),
        ),
      );
    } catch (error) {
      steps.fail();
      throw error;
    } finally {
      await engine.close();
    }
  }
  steps.end();
  return comparisonOf(measured[0]!, measured[1]!, probed);
}

async function historyOf({ log, version }: ComparedLineage): Promise<History> {
  const { head } = await log.read();
  if (version !== null && version > head.version)
    throw new CommandFailure(
      'compare the lineages',
      `lineage ${log.lineage} has versions up to ${head.version}`,
      '`errata log` lists them.',
      EXIT.usage,
    );
  return await log.at(version ?? head.version);
}

/** Those that made the version; of the base model the configured ones. */
function parametersOfHead({ latest }: History): { parameters?: HyperParameterOverrides } {
  return latest === null ? {} : { parameters: latest.entry.parameters };
}

async function requireItsModel(engine: ThreadEngine, { lineage, latest }: History): Promise<void> {
  const { model } = await engine.describe();
  if (latest === null || latest.entry.base.sha256 === model.sha256) return;
  throw new CommandFailure(
    'compare the lineages',
    `lineage ${lineage} was made with ${latest.entry.base.name} (${latest.entry.base.sha256.slice(0, 12)}), the model here is ${excerpt(model.name)} (${model.sha256.slice(0, 12)})`,
    'Name its model: --model-a for the first lineage, --model-b for the second.',
    EXIT.usage,
  );
}

export function comparisonText(
  { sides, asked, onlyFirst, onlySecond, differing }: LineageComparison,
  output: Output,
): string {
  const { bold, dim, green, red } = output.colours;
  const row = (
    name: string,
    value: (side: LineageComparison['sides'][number]) => string,
  ): string[] => [dim(name), value(sides[0]), value(sides[1])];
  const columns = Math.floor((output.columns - 8) / 4);
  const answer = (text: string, effective: boolean): string =>
    (effective ? green : red)(shortened(text, columns));
  return [
    bold(
      `${asked.corrections} correction${asked.corrections === 1 ? '' : 's'}, ${asked.paraphrases} paraphrases and ${asked.neighbours} neighbours asked of both`,
    ),
    output.table(
      ['', ...sides.map(({ lineage, version }) => `${lineage}@${version}`)],
      [
        row('base model', ({ base }) => `${base.name} ${base.sha256.slice(0, 8)}`),
        row('corrections that hold', ({ corrections }) => String(corrections)),
        row('effective, of its own', ({ efficacy }) => percent(efficacy)),
        row('decoded, of its own', ({ efficacyGreedy }) => percent(efficacyGreedy)),
        row('effective, of all', ({ efficacyOfAll }) => percent(efficacyOfAll)),
        row('paraphrases', ({ paraphrases }) => percent(paraphrases)),
        row('neighbours unchanged', ({ neighbours }) => percent(neighbours)),
        row('perplexity over the base', ({ perplexityRatio }) => `× ${perplexityRatio.toFixed(4)}`),
        row('edit norm', ({ editNorm }) => editNorm.toFixed(4)),
        row('seconds', ({ seconds }) => seconds.toFixed(1)),
      ],
    ),
    ...named(`Only in ${sides[0].lineage}`, onlyFirst, output),
    ...named(`Only in ${sides[1].lineage}`, onlySecond, output),
    ...(differing.length === 0
      ? ['', 'All corrections are answered alike by both.']
      : [
          '',
          bold(`Answered otherwise (${differing.length})`),
          output.table(
            ['prompt', 'asked', sides[0].lineage, sides[1].lineage],
            differing
              .slice(0, SHOWN_MAX)
              .map(({ prompt, target, answers, effective }) => [
                shortened(prompt, columns),
                shortened(target, columns),
                answer(answers[0], effective[0]),
                answer(answers[1], effective[1]),
              ]),
          ),
        ]),
    ...(differing.length > SHOWN_MAX
      ? [dim(`and ${differing.length - SHOWN_MAX} more; --json names them`)]
      : []),
  ].join('\n');
}

const SHOWN_MAX = 20;

function named(title: string, ids: readonly string[], output: Output): string[] {
  if (ids.length === 0) return [];
  const more = ids.length > SHOWN_MAX ? ` and ${ids.length - SHOWN_MAX} more` : '';
  return [
    '',
    `${output.colours.bold(`${title} (${ids.length})`)}: ${ids
      .slice(0, SHOWN_MAX)
      .map((id) => shortened(id, 60))
      .join(', ')}${more}`,
  ];
}
