/** How a comparison of two lineages reads on a terminal. */
import type { LineageComparison } from '../../operations/compare/compare-lineages.ts';
import { percent, shortened, type Output } from '../terminal/output.ts';

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
