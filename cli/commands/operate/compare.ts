import { engineOptions } from '../../../infra/config/engine-options.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type {
  ComparedLineage,
  LineageComparison,
} from '../../../operations/compare/compare-lineages.ts';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import { command, option } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { StatusLine } from '../../terminal/status-line.ts';
import { bold, dim, green, red } from '../../terminal/colours.ts';
import { counted, percent, shortened, table } from '../../terminal/text.ts';

/** `errata compare <a> <b>`: compares two lineages on the same probes. */
export default command({
  usage: 'compare <a> <b>',
  summary: 'compare two lineages on the same probes',
  description: `Asks two lineages the prompt, the paraphrases and the neighbours of every
correction that holds in either. Each is measured against its own base model. <a> and <b> are
names of lineages, with @ and a version where it is not HEAD. One model is loaded after the other;
nothing needs to run.`,
  examples: `
compare default@12 default  version 12 and HEAD of one lineage
compare default on-gpt2 --model-b openai-community/gpt2
  a fork on another base model`,
  operation: 'compare the lineages',
  options: {
    modelA: option(
      '--model-a <path or id>',
      'the model of the first lineage (default: the configured one)',
    ),
    modelB: option(
      '--model-b <path or id>',
      'the model of the second lineage (default: the configured one)',
    ),
  },
  async run(session, { modelA, modelB }, [a, b]) {
    const { output } = session;
    const sides = [sideOf(session, a!, modelA), sideOf(session, b!, modelB)] as const;
    const comparison = await compareLineages(output, ...sides);
    output.result(comparison, () => comparisonText(comparison, output));
  },
});

export async function compareLineages(
  output: Output,
  first: ComparedLineage,
  second: ComparedLineage,
): Promise<LineageComparison> {
  const { compareLineages } = await import('../../../operations/compare/compare-lineages.ts');
  const line = new StatusLine(output);
  try {
    return await compareLineages(first, second, (step, done, of) => line.set(step, done, of));
  } finally {
    line.end();
  }
}

function sideOf(session: Session, name: string, model: string | undefined): ComparedLineage {
  const [, lineage, version] = /^([^@]+)(?:@(\d+))?$/.exec(name) ?? [];
  if (lineage === undefined || !LINEAGE_NAME.test(lineage))
    throw misused(
      `"${name}" is not the name of a lineage`,
      'A lineage is named as `default`, or `default@12` for one of its versions.',
    );
  const configuration = session.configuration(model === undefined ? {} : { ERRATA_MODEL: model });
  return {
    log: openVersions(configuration).log(lineage),
    version: version === undefined ? null : Number(version),
    model: engineOptions(configuration),
  };
}

type Side = LineageComparison['sides'][number];

const SHOWN_MAX = 20;

const ROWS: [name: string, value: (side: Side) => string][] = [
  ['base model', ({ base }) => `${base.name} ${base.sha256.slice(0, 8)}`],
  ['corrections that hold', ({ corrections }) => String(corrections)],
  ['effective, of its own', ({ efficacy }) => percent(efficacy)],
  ['decoded, of its own', ({ efficacyGreedy }) => percent(efficacyGreedy)],
  ['effective, of all', ({ efficacyOfAll }) => percent(efficacyOfAll)],
  ['paraphrases', ({ paraphrases }) => percent(paraphrases)],
  ['neighbours unchanged', ({ neighbours }) => percent(neighbours)],
  ['perplexity over the base', ({ perplexityRatio }) => `× ${perplexityRatio.toFixed(4)}`],
  ['edit norm', ({ editNorm }) => editNorm.toFixed(4)],
  ['seconds', ({ seconds }) => seconds.toFixed(1)],
];

export function comparisonText(comparison: LineageComparison, output: Output): string {
  const { sides, asked, onlyFirst, onlySecond } = comparison;
  const { corrections, paraphrases, neighbours } = asked;
  return [
    bold(
      `${counted(corrections, 'correction')}, ${paraphrases} paraphrases and ` +
        `${neighbours} neighbours asked of both`,
    ),
    table(
      ['', ...sides.map(({ lineage, version }) => `${lineage}@${version}`)],
      ROWS.map(([name, value]) => [dim(name), value(sides[0]), value(sides[1])]),
    ),
    ...idLines(`Only in ${sides[0].lineage}`, onlyFirst),
    ...idLines(`Only in ${sides[1].lineage}`, onlySecond),
    '',
    ...differingLines(comparison, output),
  ].join('\n');
}

function differingLines({ sides, differing }: LineageComparison, output: Output): string[] {
  if (differing.length === 0) return ['Both answer all corrections alike.'];
  const columns = Math.floor((output.columns - 8) / 4);
  const rows = differing
    .slice(0, SHOWN_MAX)
    .map(({ prompt, target, answers: [first, second], effective }) => [
      shortened(prompt, columns),
      shortened(target, columns),
      (effective[0] ? green : red)(shortened(first, columns)),
      (effective[1] ? green : red)(shortened(second, columns)),
    ]);
  const more = differing.length - rows.length;
  return [
    bold(`Answers that differ (${differing.length})`),
    table(['prompt', 'target', sides[0].lineage, sides[1].lineage], rows),
    ...(more > 0 ? [dim(`and ${more} more; --json lists them all`)] : []),
  ];
}

function idLines(title: string, ids: readonly string[]): string[] {
  if (ids.length === 0) return [];
  const shown = ids.slice(0, SHOWN_MAX).map((id) => shortened(id, 60));
  const more = ids.length > SHOWN_MAX ? ` and ${ids.length - SHOWN_MAX} more` : '';
  return ['', `${bold(`${title} (${ids.length})`)}: ${shown.join(', ')}${more}`];
}
