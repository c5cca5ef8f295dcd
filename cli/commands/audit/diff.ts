import type { AskedDifference } from '../../../serving/api/audit.ts';
import {
  type Difference,
  type Fact,
  type VersionSide,
  differenceOf,
} from '../../../versions/audit/difference.ts';
import type { VersionMark } from '../../../versions/audit/version-mark.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { versionNamed, wholeNumber } from '../../input/option-values.ts';
import { promptsInFile } from '../../input/probe-prompts.ts';
import { withAnswers } from '../../session/answering.ts';
import { LINEAGE, command, flag, option } from '../../session/command.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { bold, cyan, dim, green, red, yellow } from '../../terminal/colours.ts';
import { counted, limited, shortened, table } from '../../terminal/text.ts';
import { scoresTable } from './version-text.ts';

/** `errata diff <from> [to]`: shows the difference between two versions. */
export default command({
  usage: 'diff <from> [to]',
  summary: 'show what differs between two versions',
  description: `Shows what differs between two versions (numbers, \`base\` or \`head\`; without
the second, HEAD): facts, answers of the stored probes, edit norms and gate thresholds, scores,
and what the versions were made with. Reads the version log alone. With --ask or --probes both
versions answer prompts: by the running \`serve\`, or by a model that is loaded.`,
  examples: `
diff 3 7        what versions 4 to 7 changed
diff 6 7 --ask  how the answers to the corrected prompts differ now`,
  operation: 'compare the versions',
  options: {
    ask: flag('--ask', 'ask both versions the prompts of the corrections that differ'),
    probes: option(
      '--probes <file>',
      'the same for a file: one prompt a line, or NDJSON with "prompt"',
    ),
    lineage: LINEAGE,
    tokens: option('--tokens <number>', 'length of the answers, at most 64', wholeNumber, 8),
  },
  async run(session, options, [a, b]) {
    const { output } = session;
    const { configuration, lineage, log } = session.open(options.lineage);
    const head = (await log.read()).head.version;
    const [from, to] = [versionNamed(a) ?? head, versionNamed(b) ?? head];
    const difference = await differenceOf(log, from, to);
    let prompts: string[] = [];
    if (options.probes !== undefined)
      prompts = await promptsInFile(session.surroundings, options.probes);
    else if (options.ask) prompts = await promptsOf(log, difference);
    const question = { lineage, from, to, tokensMax: options.tokens };
    const work = (at: (done: number) => void) =>
      withAnswers(configuration, lineage, async (ask) => {
        const asked: AskedDifference['asked'] = [];
        for (let i = 0; i < prompts.length; i += PROMPTS_TOGETHER) {
          const part = { ...question, prompts: prompts.slice(i, i + PROMPTS_TOGETHER) };
          const answer = (await ask('/v1/diff', part, PART_WAIT_MS)) as AskedDifference;
          asked.push(...answer.asked);
          at(asked.length);
        }
        return asked;
      });
    const asked =
      prompts.length === 0
        ? []
        : await whileWaiting(output, 'asking both versions', work, prompts.length);
    const result = { ...difference, asked };
    output.result(result, () => differenceText(output, result));
  },
});

/** Maximum number of prompts for --ask. */
const PROMPTS_MAX = 1_000;
const PROMPTS_TOGETHER = 32;
const PART_WAIT_MS = 600_000;

/** Returns the prompts, paraphrases and neighbours of the corrections that differ. */
async function promptsOf(log: VersionLog, difference: Difference): Promise<string[]> {
  const { added, superseded, retracted, reverted, contradicted, notYet } = difference;
  const replaced = superseded.flatMap(({ before, after }) => [before, after]);
  const ids = new Set(
    [...added, ...retracted, ...reverted, ...contradicted, ...notYet, ...replaced].map(
      ({ correctionId }) => correctionId,
    ),
  );
  const sides = await Promise.all(
    [difference.from, difference.to].map(({ version }) => log.at(version)),
  );
  const prompts = sides
    .flatMap(({ active }) => [...active.values()])
    .filter(({ correctionId }) => ids.has(correctionId))
    .flatMap(({ prompt, paraphrases, neighbourhood }) => [
      prompt,
      ...paraphrases,
      ...neighbourhood,
    ]);
  return [...new Set(prompts)].slice(0, PROMPTS_MAX);
}

/** Maximum lines per section. */
const LISTED_MAX = 40;

function differenceText(output: Output, difference: AskedDifference): string {
  const { from, to, lineage, passing, answers, asked, madeWith } = difference;
  const changes = changeSections(output, difference);
  const wide = Math.floor(output.columns / 2);
  const answerLines = answers.changed.map(({ prompt, kind, before, after, version }) => {
    const where = dim(`version ${version}`);
    const kindText = cyan(kind.padEnd(10));
    return `${kindText} ${shortened(prompt, wide)}  ${arrow(before, after)}  ${where}`;
  });
  const made = madeWith.map((one) => `${one.path}: ${shown(one.from, 60)} → ${shown(one.to, 60)}`);
  const parts = [
    `${bold(sideText(from))}  →  ${bold(sideText(to))}   lineage ${lineage}`,
    ...(changes.length === 0 ? ['The same corrections hold in both.'] : changes),
    passing > 0 ? dim(`${counted(passing, 'correction')} came and left again in between.`) : '',
    section('Answers that the probes saw change', answerLines),
    answers.left > 0 ? dim(`and ${answers.left} more that were not kept.`) : '',
    ...askedParts(output, difference),
    asked.length === 0 && hasLeft(difference)
      ? dim('No probe saw the answers where a correction left; --ask asks both versions.')
      : '',
    scoresPart(difference),
    layersPart(difference),
    section('Made with', made),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function changeSections(output: Output, difference: Difference): string[] {
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
    section('Added', added.filter((fact) => !back.has(fact.correctionId)).map(plus)),
    section('Restored', added.filter((fact) => back.has(fact.correctionId)).map(plus)),
    section('Superseded', replaced),
    section('Retracted', retracted.map(minus)),
    section('Reverted', reverted.map(minus)),
    section('Contradicted', contradicted.map(minus)),
    section('Not yet there', later),
  ].filter((part) => part !== '');
}

function askedParts(output: Output, { asked }: AskedDifference): string[] {
  if (asked.length === 0) return [];
  const wide = Math.floor(output.columns / 2);
  const changed = asked
    .filter((one) => one.from !== one.to)
    .map((one) => `${shortened(one.prompt, wide)}  ${arrow(one.from, one.to)}`);
  if (changed.length === 0) return [`Both versions answer all ${asked.length} prompts alike.`];
  return [section(`${changed.length} of ${asked.length} answers differ when asked now`, changed)];
}

function scoresPart({ from, to }: Difference): string {
  if (from.scores === null || to.scores === null) return '';
  const names: [string, string] = [`version ${from.version}`, `version ${to.version}`];
  const scores = { before: from.scores, after: to.scores };
  return `${bold('Scores')}\n${scoresTable(scores, names)}`;
}

function layersPart({ layers }: Difference): string {
  if (layers.length === 0) return '';
  const figures = (side: Difference['layers'][number]['from']): string[] =>
    side === null ? ['–', '–'] : [side.editNorm.toFixed(4), side.threshold.toFixed(4)];
  const head = ['layer', 'norm before', 'gate before', 'norm after', 'gate after'];
  const rows = layers.map(({ layer, from, to }) => [
    String(layer),
    ...figures(from),
    ...figures(to),
  ]);
  return `${bold('Layers')}\n${table(head, rows)}`;
}

function section(title: string, lines: string[]): string {
  if (lines.length === 0) return '';
  const indented = lines.map((line) => `  ${line}`);
  const heading = bold(`${title} (${lines.length})`);
  return [heading, ...limited(indented, LISTED_MAX)].join('\n');
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
