import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import type { Explanation } from '../../../serving/answers/explain.ts';
import { normalisedText } from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/editing.ts';
import { refusedAbout, traces, TRACES_MAX, type Trace } from '../../../versions/audit/trace.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/progress.ts';
import type { Session } from '../../session/session.ts';
import { outcomeInWords, placeOf, traceText } from '../../words/trace-text.ts';
import { wholeNumber } from './log.ts';

interface Options {
  correction?: true;
  subject?: true;
  prompt?: true;
  at?: string;
  lineage?: string;
  tokens: number;
}

type About = 'correction' | 'subject' | 'prompt';

/**
 * `errata why`: from an answer, a correction or a subject to everything that is stored about it.
 */
const why: CommandSpecification<Options> = {
  usage: 'why <words...>',
  summary: 'say why the model answers so, since when, who asked for it',
  description:
    "Says why the model answers a prompt as it does, or what became of a correction or of all that was said of a subject: who asked for it, where its record stood in Kafka, the batch, the workflow and its history, what was asked of the model before and after, the version, and what later versions did to it. <words> are a correction's id where there is one of that name, else a subject that was corrected, else a prompt. Ids and subjects are answered from the version log alone, so nothing needs to run; a prompt is asked of the running `serve`, or where none runs, of the model, which is loaded for it. Exits with 1 where nothing is known of the id or subject that was named.",
  examples: [
    [
      'why "The headquarters of Oracle are in the city of"',
      'which corrections had a hand in the answer, at which tokens, how far over the gate',
    ],
    ['why Oracle', 'all that was ever said of the subject'],
    ['why --correction oracle-hq --json', 'one correction, for a program'],
    ['why --at 3 "The headquarters of Oracle are in the city of"', 'as version 3 answered'],
  ],
  operation: 'say why',
  options: (command) =>
    command
      .option('--correction', 'the words are the id of a correction or retraction')
      .option('--subject', 'the words are a subject')
      .option('--prompt', 'the words are a prompt')
      .option(
        '--at <version>',
        'the version that is asked the prompt (default: the one that is served)',
      )
      .option(...LINEAGE_OPTION)
      .option('--tokens <number>', 'how long the answers are, at most 256', wholeNumber, 2),
  async run(session, options, given) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineage = session.lineage(configuration, options.lineage);
    const words = given.join(' ');
    const named = (['correction', 'subject', 'prompt'] as const).filter(
      (about) => options[about] === true,
    );
    if (named.length > 1)
      throw new CommandFailure(
        'say why',
        `the words cannot be a ${named.join(' and a ')}`,
        'Name one of --correction, --subject and --prompt, or none.',
        EXIT.usage,
      );
    if (words.trim() === '')
      throw new CommandFailure(
        'say why',
        'there are no words to ask about',
        'Give a prompt, a subject or the id of a correction.',
        EXIT.usage,
      );
    const log = openVersions(configuration).log(lineage);
    const about = named[0] ?? (options.at === undefined ? null : 'prompt');
    const told = about === 'prompt' ? null : await fromTheLog(log, words, about);
    if (told !== null) return tellFromLog(session, configuration, words, told);
    if (about !== null && about !== 'prompt') {
      throw new CommandFailure(
        'say why',
        about === 'correction'
          ? `lineage ${lineage} never decided a correction "${shortened(words, 100)}"`
          : `lineage ${lineage} was never told anything of the subject "${shortened(words, 100)}"`,
        about === 'correction'
          ? 'A record that was sent and is not decided yet is on its way (`errata status`), or was no correction (`errata failures`).'
          : 'Without --subject the words are asked as a prompt.',
      );
    }
    return await tellOfPrompt(session, configuration, {
      lineage,
      prompt: words,
      version: versionIn(options.at),
      tokensMax: options.tokens,
    });
  },
};

export default why;

interface FromTheLog {
  about: Exclude<About, 'prompt'>;
  traces: Trace[];
  /** Of a subject: what no version has. */
  refused: Outcome[];
}

/** What the log has of the id or subject; null where it has nothing, or where neither is meant. */
async function fromTheLog(
  log: VersionLog,
  words: string,
  about: About | null,
): Promise<FromTheLog | null> {
  const found = await traces(log, {
    ...(about === 'subject' ? {} : { ids: [words] }),
    ...(about === 'correction' ? {} : { subjects: [words] }),
  });
  const named = about === 'subject' ? [] : found.filter(({ id }) => id === words);
  if (named.length > 0) return { about: 'correction', traces: named, refused: [] };
  if (about === 'correction') return null;
  // Without a flag, words that are no corrected subject are a prompt: then the register need not be
  // read.
  if (about === null && found.length === 0 && !(await mayBeRefusedSubject(log, words))) return null;
  const { outcomes } = await refusedAbout(log, { subjects: [normalisedText(words)] });
  const refused = outcomes.filter(({ revisionId }) => !found.some(({ id }) => id === revisionId));
  return found.length === 0 && refused.length === 0
    ? null
    : { about: 'subject', traces: found, refused };
}

/** Words of a prompt's length are none of a subject that was always refused. */
const SUBJECT_WORDS_MAX = 4;

async function mayBeRefusedSubject(log: VersionLog, words: string): Promise<boolean> {
  if (words.trim().split(/\s+/u).length > SUBJECT_WORDS_MAX) return false;
  return (await refusedAbout(log, { subjects: [normalisedText(words)] })).outcomes.length > 0;
}

function tellFromLog(
  { output }: Session,
  configuration: Configuration,
  words: string,
  { about, traces: found, refused }: FromTheLog,
): typeof EXIT.ok {
  output.result({ about, asked: words, traces: found, refused }, () => {
    const parts = found.map((trace) => traceText(output, configuration, trace));
    if (about === 'subject')
      parts.unshift(
        `${output.colours.bold(shortened(words, 100))}: ${found.length === TRACES_MAX ? `the last ${TRACES_MAX}` : String(found.length)} correction${found.length === 1 ? '' : 's'}${refused.length === 0 ? '' : `, ${refused.length} refused`}`,
      );
    if (refused.length > 0) parts.push(refusedText(output, refused));
    return parts.join('\n\n');
  });
  return EXIT.ok;
}

async function tellOfPrompt(
  { output }: Session,
  configuration: Configuration,
  question: { lineage: string; prompt: string; version: number | null; tokensMax: number },
): Promise<typeof EXIT.ok> {
  const { withAnswers } = await import('../../session/answering.ts');
  const explanation = (await whileWaiting(
    output,
    configuration.serve.url === null ? 'Loading the model' : 'Asking',
    null,
    () => withAnswers(configuration, question.lineage, (ask) => ask('/v1/why', question)),
  )) as Explanation;
  output.result({ about: 'prompt', asked: question.prompt, ...explanation }, () =>
    explanationText(output, configuration, explanation),
  );
  return EXIT.ok;
}

function explanationText(
  output: Output,
  configuration: Configuration,
  explanation: Explanation,
): string {
  const { bold, dim, green } = output.colours;
  const { version, prompt, base, edited, untouched, gates, corrections } = explanation;
  const width = Math.floor((output.columns - 4) / 2);
  const parts = [
    `${bold(shortened(prompt, output.columns - 2))} …`,
    output.table(
      [
        bold('base model'),
        bold(version === 0 ? 'version 0 (the base model)' : `version ${version}`),
      ],
      [[said(base), untouched ? dim(said(edited)) : green(said(edited))]],
      { widths: [width, width], wrap: true },
    ),
  ];
  if (untouched)
    return [...parts, ...untouchedParts(output, configuration, explanation)].join('\n\n');
  parts.push(`${bold('Gates that opened')}\n${gateTable(output, gates)}`);
  parts.push(...corrections.map((trace) => traceText(output, configuration, trace)));
  return parts.join('\n\n');
}

/** What was not decoded to its end goes on. */
function said({ text, finish }: { text: string; finish: string }): string {
  return `${text.trim()}${finish === 'length' ? ' …' : ''}`;
}

function gateTable(output: Output, gates: Explanation['gates']): string {
  return output.table(
    ['token', 'position', 'layer', 'score', 'threshold', 'over by', 'nearest correction'],
    gates.map(({ token, position, layer, score, threshold, margin, correction }) => [
      JSON.stringify(shortened(token, 20)),
      String(position),
      String(layer),
      score.toFixed(4),
      threshold.toFixed(4),
      margin.toFixed(4),
      shortened(correction?.id ?? '–', output.columns - 66),
    ]),
  );
}

function untouchedParts(
  output: Output,
  configuration: Configuration,
  { named, shut, earlier, refused, version }: Explanation,
): string[] {
  const { bold } = output.colours;
  const parts = [
    `No gate opened: this is the base model's own answer${version === 0 ? '' : `, and no correction of version ${version} has a hand in it`}.`,
  ];
  if (named.length === 0) parts.push('The prompt names no corrected subject.');
  else
    parts.push(
      [
        bold('Corrected subjects that the prompt names'),
        ...named.flatMap(({ subject, corrections }) => [
          `  ${subject}`,
          ...corrections.map(
            ({ id, prompt, target, version: since }) =>
              `    version ${since}: ${shortened(prompt, 60)} → ${shortened(target, 40)}  ${output.colours.dim(id)}`,
          ),
        ]),
      ].join('\n'),
    );
  if (shut !== null && shut.length > 0)
    parts.push(`${bold('Gates that stayed shut')}\n${gateTable(output, shut)}`);
  else if (shut === null && named.length > 0)
    parts.push(output.colours.dim('How near a gate was cannot be told of this gate.'));
  if (earlier.length > 0)
    parts.push(
      bold('Corrections that had this prompt'),
      ...earlier.map((trace) => traceText(output, configuration, trace)),
    );
  if (refused !== null && refused.outcomes.length > 0)
    parts.push(refusedText(output, refused.outcomes));
  if (earlier.length === 0 && (refused === null || refused.outcomes.length === 0))
    parts.push('No correction of this prompt was ever committed or refused.');
  if (refused !== null && !refused.complete)
    parts.push(
      output.colours.dim('The register is long; not all refused corrections were looked at.'),
    );
  return parts;
}

function refusedText(output: Output, refused: readonly Outcome[]): string {
  return [
    output.colours.bold('What no version has'),
    ...refused.map(
      (outcome) =>
        `  ${shortened(outcome.revisionId, 60)}  ${outcomeInWords(outcome)}\n    ${output.colours.dim(`${placeOf(outcome.position)}, batch ${outcome.batchId}`)}`,
    ),
  ].join('\n');
}

export function versionIn(named: string | undefined): number | null {
  if (named === undefined || named === 'head') return null;
  if (named === 'base') return 0;
  const version = Number(named);
  if (named.trim() === '' || !Number.isInteger(version) || version < 0)
    throw new CommandFailure(
      'find the version',
      `"${named}" is no version`,
      'A version is a number, `head` or `base`.',
      EXIT.usage,
    );
  return version;
}
