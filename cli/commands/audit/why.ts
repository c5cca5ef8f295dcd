import type { Configuration } from '../../../infra/config/configuration.ts';
import { normalisedText } from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import type { Explanation } from '../../../serving/answers/explain.ts';
import { refusedAbout } from '../../../versions/audit/refused.ts';
import { TRACES_MAX, type Trace, traces } from '../../../versions/audit/trace.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { versionNamed, wholeNumber } from '../../input/option-values.ts';
import { LINEAGE, command, flag, option } from '../../session/command.ts';
import { failed, misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { bold, dim, green } from '../../terminal/colours.ts';
import { counted, shortened, table } from '../../terminal/text.ts';
import { placeText, refusalText, traceText } from './trace-text.ts';

type About = 'correction' | 'subject' | 'prompt';

/** `errata why`: shows everything stored about an answer, a correction or a subject. */
export default command({
  usage: 'why <words...>',
  summary: 'explain an answer, a correction or a subject',
  description: `Explains why the model answers a prompt as it does, or shows everything that is
stored about a correction or about all corrections of a subject. <words> are the id of a correction,
a subject, or a prompt; the first that matches counts. Ids and subjects are looked up in the version
log alone. A prompt is answered by the running \`serve\`, or by a model that is loaded. Exits with 1
where the named id or subject is unknown.`,
  examples: `
why "The headquarters of Oracle are in the city of"
  which corrections changed the answer, at which tokens, how far above the gate
why Oracle  all corrections of the subject`,
  operation: 'explain it',
  options: {
    correction: flag('--correction', 'the words are the id of a correction or retraction'),
    subject: flag('--subject', 'the words are a subject'),
    prompt: flag('--prompt', 'the words are a prompt'),
    at: option(
      '--at <version>',
      'the version that answers the prompt (default: the one that is served)',
    ),
    lineage: LINEAGE,
    tokens: option('--tokens <number>', 'length of the answers, at most 256', wholeNumber, 2),
  },
  async run(session, options, given) {
    const { output } = session;
    const { configuration, lineage, log } = session.open(options.lineage);
    const words = given.join(' ');
    const about = aboutOf(options, words);
    const found = about === 'prompt' ? null : await foundInLog(log, words, about);
    if (found !== null) {
      const { traces, refused } = found;
      output.result({ about: found.about, asked: words, traces, refused }, () => {
        const parts = traces.map((trace) => traceText(output, configuration, trace));
        if (found.about === 'subject') parts.unshift(subjectText(words, found));
        if (refused.length > 0) parts.push(refusedText(refused));
        return parts.join('\n\n');
      });
      return;
    }
    if (about !== null && about !== 'prompt') throw unknown(about, words, lineage);
    const question = {
      lineage,
      prompt: words,
      version: versionNamed(options.at),
      tokensMax: options.tokens,
    };
    const { withAnswers } = await import('../../session/answering.ts');
    const explanation = (await whileWaiting(
      output,
      configuration.serve.url === null ? 'loading the model' : 'asking',
      () => withAnswers(configuration, lineage, (ask) => ask('/v1/why', question)),
    )) as Explanation;
    output.result({ about: 'prompt', asked: words, ...explanation }, () =>
      explanationText(output, configuration, explanation),
    );
  },
});

/** Returns null if the arguments must be interpreted. */
function aboutOf(
  options: Record<About, boolean> & { at: string | undefined },
  words: string,
): About | null {
  const named = (['correction', 'subject', 'prompt'] as const).filter((about) => options[about]);
  if (named.length > 1)
    throw misused(
      `the words cannot be a ${named.join(' and a ')}`,
      'Give one of --correction, --subject and --prompt, or none.',
    );
  if (words.trim() === '')
    throw misused('the words are empty', 'Give a prompt, a subject or the id of a correction.');
  return named[0] ?? (options.at === undefined ? null : 'prompt');
}

interface FoundInLog {
  about: 'correction' | 'subject';
  traces: Trace[];
  refused: Outcome[];
}

/** Returns null if the log has no such id or subject. */
async function foundInLog(
  log: VersionLog,
  words: string,
  about: About | null,
): Promise<FoundInLog | null> {
  const found = await traces(log, {
    ...(about !== 'subject' && { ids: [words] }),
    ...(about !== 'correction' && { subjects: [words] }),
  });
  const named = about === 'subject' ? [] : found.filter(({ id }) => id === words);
  if (named.length > 0) return { about: 'correction', traces: named, refused: [] };
  if (about === 'correction') return null;
  // A long text is a prompt, so the outcomes need not be read.
  const long = words.trim().split(/\s+/u).length > SUBJECT_WORDS_MAX;
  if (about === null && found.length === 0 && long) return null;
  const { outcomes } = await refusedAbout(log, { subjects: [normalisedText(words)] });
  const refused = outcomes.filter(({ revisionId }) => !found.some(({ id }) => id === revisionId));
  if (found.length === 0 && refused.length === 0) return null;
  return { about: 'subject', traces: found, refused };
}

/** Maximum number of words in a subject that has no accepted correction. */
const SUBJECT_WORDS_MAX = 4;

function unknown(about: 'correction' | 'subject', words: string, lineage: string): Error {
  const name = shortened(words, 100);
  if (about === 'subject')
    return failed(
      `lineage ${lineage} has never had a correction of the subject "${name}"`,
      'Without --subject the words are asked as a prompt.',
    );
  return failed(
    `lineage ${lineage} never decided a correction "${name}"`,
    'A record that was sent and not decided yet is on its way (`errata status`), or was not a ' +
      'correction (`errata failures`).',
  );
}

function subjectText(words: string, { traces: found, refused }: FoundInLog): string {
  const last = found.length === TRACES_MAX ? 'the last ' : '';
  const more = refused.length === 0 ? '' : `, ${refused.length} refused`;
  return `${shortened(words, 100)}: ${last}${counted(found.length, 'correction')}${more}`;
}

function explanationText(
  output: Output,
  configuration: Configuration,
  explanation: Explanation,
): string {
  const { prompt, base, edited, untouched, gates, corrections, version } = explanation;
  const answers = answersTable(output, version, untouched, [answerText(base), answerText(edited)]);
  const parts = [`${bold(shortened(prompt, output.columns - 2))} …`, answers];
  if (untouched) parts.push(...untouchedParts(output, configuration, explanation));
  else
    parts.push(
      `${bold('Gates that opened')}\n${gateTable(output, gates)}`,
      ...corrections.map((trace) => traceText(output, configuration, trace)),
    );
  return parts.join('\n\n');
}

export function answersTable(
  output: Output,
  version: number,
  same: boolean,
  [before, after]: [string, string],
): string {
  const width = Math.floor((output.columns - 4) / 2);
  const title = version === 0 ? 'version 0 (the base model)' : `version ${version}`;
  return table([bold('base model'), bold(title)], [[before, same ? dim(after) : green(after)]], {
    widths: [width, width],
    wrap: true,
  });
}

function answerText({ text, finish }: { text: string; finish: string }): string {
  return `${text.trim()}${finish === 'length' ? ' …' : ''}`;
}

function gateTable(output: Output, gates: Explanation['gates']): string {
  return table(
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
  const since = version === 0 ? '' : `, unchanged by the corrections of version ${version}`;
  const parts = [`No gate opened: this is the base model's own answer${since}.`];
  parts.push(
    named.length === 0
      ? 'The prompt names no corrected subject.'
      : [
          bold('Corrected subjects that the prompt names'),
          ...named.flatMap((one) => subjectLines(one)),
        ].join('\n'),
  );
  if (shut !== null && shut.length > 0)
    parts.push(`${bold('Gates that stayed shut')}\n${gateTable(output, shut)}`);
  else if (shut === null && named.length > 0)
    parts.push(dim('This gate cannot report how close it was to opening.'));
  if (earlier.length > 0)
    parts.push(
      bold('Corrections that had this prompt'),
      ...earlier.map((trace) => traceText(output, configuration, trace)),
    );
  const outcomes = refused?.outcomes ?? [];
  if (outcomes.length > 0) parts.push(refusedText(outcomes));
  if (earlier.length === 0 && outcomes.length === 0)
    parts.push('No correction of this prompt was ever committed or refused.');
  if (refused?.complete === false)
    parts.push(dim('There are many outcomes; not all refused corrections were searched.'));
  return parts;
}

function subjectLines({ subject, corrections }: Explanation['named'][number]): string[] {
  const lines = corrections.map(({ id, prompt, target, version }) => {
    const says = `${shortened(prompt, 60)} → ${shortened(target, 40)}`;
    return `    version ${version}: ${says}  ${dim(id)}`;
  });
  return [`  ${subject}`, ...lines];
}

function refusedText(refused: readonly Outcome[]): string {
  return [
    bold('Refused corrections'),
    ...refused.flatMap((outcome) => [
      `  ${shortened(outcome.revisionId, 60)}  ${refusalText(outcome)}`,
      `    ${dim(`${placeText(outcome.position)}, batch ${outcome.batchId}`)}`,
    ]),
  ].join('\n');
}
