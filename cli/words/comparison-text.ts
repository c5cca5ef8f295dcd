/** How a comparison of two lineages reads on a terminal. */
import type { LineageComparison } from '../../operations/compare/compare-lineages.ts';
import { counted, percent, shortened, type Output } from '../terminal/output.ts';

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
  const { bold, dim } = output.colours;
  const { sides, asked, onlyFirst, onlySecond } = comparison;
  const { corrections, paraphrases, neighbours } = asked;
  return [
    bold(
      `${counted(corrections, 'correction')}, ${paraphrases} paraphrases and ` +
        `${neighbours} neighbours asked of both`,
    ),
    output.table(
      ['', ...sides.map(({ lineage, version }) => `${lineage}@${version}`)],
      ROWS.map(([name, value]) => [dim(name), value(sides[0]), value(sides[1])]),
    ),
    ...idLines(`Only in ${sides[0].lineage}`, onlyFirst, output),
    ...idLines(`Only in ${sides[1].lineage}`, onlySecond, output),
    '',
    ...differingLines(comparison, output),
  ].join('\n');
}

function differingLines({ sides, differing }: LineageComparison, output: Output): string[] {
  if (differing.length === 0) return ['Both answer all corrections alike.'];
  const { bold, dim, green, red } = output.colours;
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
    output.table(['prompt', 'target', sides[0].lineage, sides[1].lineage], rows),
    ...(more > 0 ? [dim(`and ${more} more; --json lists them all`)] : []),
  ];
}

function idLines(title: string, ids: readonly string[], output: Output): string[] {
  if (ids.length === 0) return [];
  const shown = ids.slice(0, SHOWN_MAX).map((id) => shortened(id, 60));
  const more = ids.length > SHOWN_MAX ? ` and ${ids.length - SHOWN_MAX} more` : '';
  return ['', `${output.colours.bold(`${title} (${ids.length})`)}: ${shown.join(', ')}${more}`];
}
