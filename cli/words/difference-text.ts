/** How the difference of two versions reads on a terminal. */
import type { AskedDifference } from '../../serving/api/audit.ts';
import type { Difference, Fact, VersionSide } from '../../versions/audit/difference.ts';
import type { VersionMark } from '../../versions/audit/version-mark.ts';
import { counted, shortened, type Output } from '../terminal/output.ts';
import { scoresTable } from './version-text.ts';

/** Lines of each section. */
const LISTED_MAX = 40;

export function differenceText(output: Output, difference: AskedDifference): string {
  const { bold, dim } = output.colours;
  const { from, to, lineage, passing, answers, asked, madeWith } = difference;
  const changes = changeSections(output, difference);
  const wide = Math.floor(output.columns / 2);
  const answerLines = answers.changed.map(({ prompt, kind, before, after, version }) => {
    const where = dim(`version ${version}`);
    const kindText = output.colours.cyan(kind.padEnd(10));
    return `${kindText} ${shortened(prompt, wide)}  ${arrow(before, after)}  ${where}`;
  });
  const made = madeWith.map((one) => `${one.path}: ${shown(one.from, 60)} → ${shown(one.to, 60)}`);
  const parts = [
    `${bold(sideText(from))}  →  ${bold(sideText(to))}   lineage ${lineage}`,
    ...(changes.length === 0 ? ['The same corrections hold in both.'] : changes),
    passing > 0 ? dim(`${counted(passing, 'correction')} came and left again in between.`) : '',
    section(output, 'Answers that the probes saw change', answerLines),
    answers.left > 0 ? dim(`and ${answers.left} more that were not kept.`) : '',
    ...askedParts(output, difference),
    asked.length === 0 && hasLeft(difference)
      ? dim('No probe saw the answers where a correction left; --ask asks both versions.')
      : '',
    scoresPart(output, difference),
    layersPart(output, difference),
    section(output, 'Made with', made),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function changeSections(output: Output, difference: Difference): string[] {
  const { bold, dim, green, red, yellow } = output.colours;
  const { added, superseded, retracted, reverted, contradicted, notYet, restored } = difference;
  const wide = Math.floor(output.columns / 2);
  const factText = ({ prompt, target, correctionId }: Fact, by: string): string => {
    const origin = dim(`${shortened(correctionId, 40)}, ${by}`);
    return `${shortened(prompt, wide)} → ${bold(shortened(target, 30))}  ${origin}`;
  };
  const plus = (fact: (typeof added)[number]) =>
    `${green('+')} ${factText(fact, markText(fact.by))}`;
  const minus = (fact: (typeof retracted)[number]) => {
    const by = `by ${shortened(fact.by.revision, 40)}, ${markText(fact.by)}`;
    return `${red('-')} ${factText(fact, by)}`;
  };
  const back = new Set(restored.map(({ correctionId }) => correctionId));
  const replaced = superseded.map(({ before, after, by }) => {
    const targets = `${shortened(before.target, 30)} → ${bold(shortened(after.target, 30))}`;
    const origin = dim(`${shortened(after.correctionId, 40)}, ${markText(by)}`);
    return `${yellow('~')} ${shortened(after.prompt, wide)}: ${targets}  ${origin}`;
  });
  const later = notYet.map((fact) => `${red('-')} ${factText(fact, markText(fact.by))}`);
  return [
    section(output, 'Added', added.filter((fact) => !back.has(fact.correctionId)).map(plus)),
    section(output, 'Restored', added.filter((fact) => back.has(fact.correctionId)).map(plus)),
    section(output, 'Superseded', replaced),
    section(output, 'Retracted', retracted.map(minus)),
    section(output, 'Reverted', reverted.map(minus)),
    section(output, 'Contradicted', contradicted.map(minus)),
    section(output, 'Not yet there', later),
  ].filter((part) => part !== '');
}

function askedParts(output: Output, { asked }: AskedDifference): string[] {
  if (asked.length === 0) return [];
  const wide = Math.floor(output.columns / 2);
  const changed = asked
    .filter((one) => one.from !== one.to)
    .map((one) => `${shortened(one.prompt, wide)}  ${arrow(one.from, one.to)}`);
  if (changed.length === 0) return [`Both versions answer all ${asked.length} prompts alike.`];
  return [
    section(output, `${changed.length} of ${asked.length} answers differ when asked now`, changed),
  ];
}

function scoresPart(output: Output, { from, to }: Difference): string {
  if (from.scores === null || to.scores === null) return '';
  const names: [string, string] = [`version ${from.version}`, `version ${to.version}`];
  const table = scoresTable(output, { before: from.scores, after: to.scores }, names);
  return `${output.colours.bold('Scores')}\n${table}`;
}

function layersPart(output: Output, { layers }: Difference): string {
  if (layers.length === 0) return '';
  const figures = (side: Difference['layers'][number]['from']): string[] =>
    side === null ? ['–', '–'] : [side.editNorm.toFixed(4), side.threshold.toFixed(4)];
  const table = output.table(
    ['layer', 'norm before', 'gate before', 'norm after', 'gate after'],
    layers.map(({ layer, from, to }) => [String(layer), ...figures(from), ...figures(to)]),
  );
  return `${output.colours.bold('Layers')}\n${table}`;
}

function section(output: Output, title: string, lines: string[]): string {
  if (lines.length === 0) return '';
  const indented = lines.map((line) => `  ${line}`);
  const heading = output.colours.bold(`${title} (${lines.length})`);
  return [heading, ...output.limited(indented, LISTED_MAX)].join('\n');
}

function hasLeft({ retracted, reverted, contradicted, notYet }: Difference): boolean {
  return retracted.length + reverted.length + contradicted.length + notYet.length > 0;
}

function markText({ version, undo }: VersionMark): string {
  if (undo === null) return `version ${version}`;
  const why = undo.reason === '' ? '' : ` (${shortened(undo.reason, 60)})`;
  return `version ${version}, by ${shortened(undo.requestedBy, 40)}${why}`;
}

function sideText({ version, corrections }: VersionSide): string {
  return version === 0 ? 'base model' : `version ${version} (${corrections} hold)`;
}

function arrow(before: string, after: string): string {
  return `${JSON.stringify(shortened(before, 24))} → ${JSON.stringify(shortened(after, 24))}`;
}

function shown(value: unknown, charactersMax: number): string {
  return shortened(JSON.stringify(value), charactersMax);
}
