import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import type { AskedDifference } from '../../../serving/api/audit.ts';
import {
  differenceOf,
  type Difference,
  type Fact,
  type VersionSide,
} from '../../../versions/audit/difference.ts';
import type { VersionMark } from '../../../versions/audit/trace.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { partsOf, promptsInFile } from '../../input/probe-prompts.ts';
import { whileWaiting } from '../../terminal/progress.ts';
import { scoresTable } from '../../words/trace-text.ts';
import { wholeNumber } from './log.ts';
import { versionIn } from './why.ts';

interface Options {
  ask?: true;
  probes?: string;
  lineage?: string;
  tokens: number;
}

/** `errata diff <from> [to]`: what differs between two versions. */
const diff: CommandSpecification<Options> = {
  usage: 'diff <from> [to]',
  summary: 'say what differs between two versions',
  description:
    'Says what differs between two versions (numbers, `base` or `head`; without the second one, HEAD): facts added, superseded, retracted, reverted, restored; answers that the stored probes saw change; edit norms and gate thresholds per layer; scores; parameters, base model and software. Reads the version log alone, so nothing needs to run. With --ask the model is asked, in both versions, the prompts, paraphrases and neighbours of the corrections that differ, with --probes those of a file: by the running `serve`, or a model that is loaded for it.',
  examples: [
    ['diff 3 7', 'what versions 4 to 7 did'],
    ['diff base head --json', 'all that the model was told, for a program'],
    ['diff 6 7 --ask', 'how the answers to the corrected prompts differ, asked now'],
    [
      'diff 3 head --probes questions.txt',
      'how the answers to your own prompts differ; one a line, or NDJSON with "prompt"',
    ],
  ],
  operation: 'compare the versions',
  options: (command) =>
    command
      .option('--ask', 'ask the model in both versions what the corrections that differ are about')
      .option('--probes <file>', 'ask the model in both versions the prompts of a file')
      .option(...LINEAGE_OPTION)
      .option('--tokens <number>', 'how long the answers are, at most 64', wholeNumber, 8),
  async run(session, options, [a, b]) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineage = session.lineage(configuration, options.lineage);
    const { output } = session;
    const log = openVersions(configuration).log(lineage);
    const head = (await log.read()).head.version;
    const [from, to] = [versionIn(a) ?? head, versionIn(b) ?? head];
    const difference = await differenceOf(log, from, to);
    const prompts =
      options.probes !== undefined
        ? await promptsInFile(options.probes, session.surroundings.workingDirectory)
        : options.ask === true
          ? await promptsOf(log, difference)
          : [];
    const asked =
      prompts.length === 0
        ? []
        : await askBoth(output, configuration, {
            lineage,
            from,
            to,
            prompts,
            tokensMax: options.tokens,
          });
    const result = { ...difference, asked };
    output.result(result, () => describe(output, result, prompts.length > 0));
    return EXIT.ok;
  },
};

export default diff;

/** Prompts that --ask asks at most: those of the corrections that come first. */
const PROMPTS_MAX = 1_000;
/** Prompts per request. */
const PROMPTS_TOGETHER = 32;
const PART_WAIT_MS = 600_000;

/** What the corrections that differ were probed with. */
async function promptsOf(log: VersionLog, difference: Difference): Promise<string[]> {
  const { added, superseded, retracted, reverted, contradicted, notYet } = difference;
  const ids = new Set(
    [
      ...added,
      ...retracted,
      ...reverted,
      ...contradicted,
      ...notYet,
      ...superseded.flatMap(({ before, after }) => [before, after]),
    ].map(({ correctionId }) => correctionId),
  );
  const sides = await Promise.all(
    [difference.from, difference.to].map(({ version }) => log.at(version)),
  );
  const corrections = sides
    .flatMap(({ active }) => [...active.values()])
    .filter(({ correctionId }) => ids.has(correctionId));
  return [
    ...new Set(
      corrections.flatMap(({ prompt, paraphrases, neighbourhood }) => [
        prompt,
        ...paraphrases,
        ...neighbourhood,
      ]),
    ),
  ].slice(0, PROMPTS_MAX);
}

async function askBoth(
  output: Output,
  configuration: Configuration,
  {
    prompts,
    ...question
  }: { lineage: string; from: number; to: number; prompts: string[]; tokensMax: number },
): Promise<AskedDifference['asked']> {
  const { withAnswers } = await import('../../session/answering.ts');
  return await whileWaiting(output, 'Asking both versions', prompts.length, (at) =>
    withAnswers(configuration, question.lineage, async (ask) => {
      const asked: AskedDifference['asked'] = [];
      for (const part of partsOf(prompts, PROMPTS_TOGETHER)) {
        asked.push(
          ...(
            (await ask('/v1/diff', { ...question, prompts: part }, PART_WAIT_MS)) as AskedDifference
          ).asked,
        );
        at(asked.length);
      }
      return asked;
    }),
  );
}

/** Lines of each kind that are listed; `--json` has all. */
const LISTED_MAX = 40;

function describe(output: Output, difference: AskedDifference, wasAsked: boolean): string {
  const { bold, dim, green, red, yellow, cyan } = output.colours;
  const {
    from,
    to,
    added,
    superseded,
    retracted,
    reverted,
    contradicted,
    notYet,
    restored,
    passing,
    answers,
    layers,
    madeWith,
    asked,
  } = difference;
  const width = output.columns;
  const factLine = ({ prompt, target, correctionId }: Fact, by: string): string =>
    `${shortened(prompt, Math.floor(width / 2))} → ${bold(shortened(target, 30))}  ${dim(`${shortened(correctionId, 40)}, ${by}`)}`;
  const inVersion = ({ version, undo }: VersionMark): string =>
    `version ${version}${undo === null ? '' : `, by ${shortened(undo.requestedBy, 40)}${undo.reason === '' ? '' : ` (${shortened(undo.reason, 60)})`}`}`;
  const back = new Set(restored.map(({ correctionId }) => correctionId));
  const parts = [
    `${bold(sideInWords(from))}  →  ${bold(sideInWords(to))}   lineage ${difference.lineage}`,
  ];
  const section = (title: string, lines: string[]) => {
    if (lines.length === 0) return;
    const more = lines.length - LISTED_MAX;
    parts.push(
      [
        bold(`${title} (${lines.length})`),
        ...lines.slice(0, LISTED_MAX).map((line) => `  ${line}`),
        ...(more > 0 ? [dim(`  and ${more} more; --json has all`)] : []),
      ].join('\n'),
    );
  };
  section(
    'Added',
    added
      .filter(({ correctionId }) => !back.has(correctionId))
      .map((fact) => `${green('+')} ${factLine(fact, inVersion(fact.by))}`),
  );
  section(
    'Restored',
    added
      .filter(({ correctionId }) => back.has(correctionId))
      .map((fact) => `${green('+')} ${factLine(fact, inVersion(fact.by))}`),
  );
  section(
    'Superseded',
    superseded.map(
      ({ before, after, by }) =>
        `${yellow('~')} ${shortened(after.prompt, Math.floor(width / 2))}: ${shortened(before.target, 30)} → ${bold(shortened(after.target, 30))}  ${dim(`${shortened(after.correctionId, 40)}, ${inVersion(by)}`)}`,
    ),
  );
  for (const [title, facts] of [
    ['Retracted', retracted],
    ['Reverted', reverted],
    ['Contradicted', contradicted],
  ] as const)
    section(
      title,
      facts.map(
        (fact) =>
          `${red('-')} ${factLine(fact, `by ${shortened(fact.by.revision, 40)}, ${inVersion(fact.by)}`)}`,
      ),
    );
  section(
    'Not yet there',
    notYet.map((fact) => `${red('-')} ${factLine(fact, inVersion(fact.by))}`),
  );
  if (parts.length === 1) parts.push('The same corrections hold in both.');
  if (passing > 0)
    parts.push(
      dim(`${passing} correction${passing === 1 ? '' : 's'} came and left again in between.`),
    );
  section(
    'Answers that the probes saw change',
    answers.changed.map(
      ({ prompt, kind, before, after, version }) =>
        `${cyan(kind.padEnd(10))} ${shortened(prompt, Math.floor(width / 2))}  ${JSON.stringify(shortened(before, 24))} → ${JSON.stringify(shortened(after, 24))}  ${dim(`version ${version}`)}`,
    ),
  );
  if (answers.left > 0) parts.push(dim(`and ${answers.left} more that are not kept.`));
  if (!wasAsked && retracted.length + reverted.length + contradicted.length + notYet.length > 0)
    parts.push(
      dim(
        'What the model says now where a correction left, no probe has seen: --ask asks both versions.',
      ),
    );
  if (wasAsked) {
    const changed = asked.filter((one) => one.from !== one.to);
    section(
      `Asked now, ${changed.length} of ${asked.length} answers differ`,
      changed.map(
        (one) =>
          `${shortened(one.prompt, Math.floor(width / 2))}  ${JSON.stringify(shortened(one.from, 24))} → ${JSON.stringify(shortened(one.to, 24))}`,
      ),
    );
    if (changed.length === 0)
      parts.push(`Asked now, both versions answer all ${asked.length} prompts alike.`);
  }
  if (from.scores !== null && to.scores !== null)
    parts.push(
      `${bold('Scores')}\n${scoresTable(output, { before: from.scores, after: to.scores }, [`version ${from.version}`, `version ${to.version}`])}`,
    );
  if (layers.length > 0) {
    const figures = (side: Difference['layers'][number]['from']): string[] =>
      side === null ? ['–', '–'] : [side.editNorm.toFixed(4), side.threshold.toFixed(4)];
    parts.push(
      `${bold('Layers')}\n${output.table(
        ['layer', 'norm before', 'gate before', 'norm after', 'gate after'],
        layers.map((layer) => [String(layer.layer), ...figures(layer.from), ...figures(layer.to)]),
      )}`,
    );
  }
  section(
    'Made with',
    madeWith.map(
      ({ path, from: was, to: now }) =>
        `${path}: ${shortened(JSON.stringify(was), 60)} → ${shortened(JSON.stringify(now), 60)}`,
    ),
  );
  return parts.join('\n\n');
}

function sideInWords({ version, corrections }: VersionSide): string {
  return version === 0 ? 'base model' : `version ${version} (${corrections} hold)`;
}
