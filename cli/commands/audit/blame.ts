import type { Blame, BlamedPrompt } from '../../../serving/answers/blame.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { versionNamed, wholeNumber } from '../../input/option-values.ts';
import { checkedPrompts, promptsInFile } from '../../input/probe-prompts.ts';
import { withAnswers, type Ask } from '../../session/answering.ts';
import { command, LINEAGE, option } from '../../session/command.ts';
import { failed, misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim } from '../../terminal/colours.ts';
import { shortened } from '../../terminal/text.ts';
import { whileWaiting } from '../../terminal/status-line.ts';

/** `errata blame`: finds the version that changed each answer. */
export default command({
  usage: 'blame [prompts...]',
  summary: 'show which version changed each answer',
  description: `Shows for each prompt the base model's answer, and each version that changed it,
with the correction and the batch behind the change. Without prompts it takes those of the
corrections that hold with their paraphrases and neighbours, the latest first. The running
\`serve\` answers, or a model that is loaded.`,
  examples: `
blame "The headquarters of Oracle are in the city of"  which version changed this answer
blame --probes questions.txt                           the same for your own prompts`,
  operation: 'find the versions',
  options: {
    probes: option('--probes <file>', 'prompts of a file: one a line, or NDJSON with "prompt"'),
    at: option('--at <version>', 'up to this version (default: the one that is served)'),
    max: option('--max <number>', 'how many prompts, where none are given', wholeNumber, 200),
    lineage: LINEAGE,
    tokens: option('--tokens <number>', 'length of the answers, at most 64', wholeNumber, 8),
  },
  async run(session, options, given) {
    const { configuration, lineage, log } = session.open(options.lineage);
    const { output } = session;
    if (given.length > 0 && options.probes !== undefined)
      throw misused(
        'prompts are given on the command line and in a file',
        'Give one or the other.',
      );
    let prompts: string[];
    if (options.probes !== undefined)
      prompts = await promptsInFile(session.surroundings, options.probes);
    else if (given.length > 0) prompts = checkedPrompts(given, 'the command line');
    else prompts = await promptsInForce(log, options.max);
    const version = versionNamed(options.at);
    const question = { lineage, version, tokensMax: options.tokens };
    const blamed = await whileWaiting(
      output,
      configuration.serve.url === null ? 'loading the model and asking' : 'asking',
      (at) => withAnswers(configuration, lineage, (ask) => blameAll(ask, question, prompts, at)),
      prompts.length,
    );
    output.result(blamed, () => blameText(output, blamed));
  },
});

/** Prompts per request; between requests the server can answer others. */
const PROMPTS_TOGETHER = 16;
const PART_WAIT_MS = 600_000;

type Blamed = Pick<Blame, 'lineage' | 'version' | 'bySubject'> & { prompts: BlamedPrompt[] };

async function promptsInForce(log: VersionLog, promptsMax: number): Promise<string[]> {
  const { active } = await log.read();
  if (active.size === 0)
    throw failed(
      `no correction holds in lineage ${log.lineage}, so there are no prompts to ask`,
      'Give prompts as arguments, or with --probes.',
    );
  const prompts = [...active.values()]
    .reverse()
    .flatMap(({ prompt, paraphrases, neighbourhood }) => [
      prompt,
      ...paraphrases,
      ...neighbourhood,
    ]);
  return [...new Set(prompts)].slice(0, promptsMax);
}

async function blameAll(
  ask: Ask,
  question: { lineage: string; version: number | null; tokensMax: number },
  prompts: readonly string[],
  at: (done: number) => void,
): Promise<Blamed> {
  let blamed: Blamed | null = null;
  for (let i = 0; i < prompts.length; i += PROMPTS_TOGETHER) {
    const part = prompts.slice(i, i + PROMPTS_TOGETHER);
    // All parts use the version of the first, even if another is committed meanwhile.
    const body = { ...question, version: blamed?.version ?? question.version, prompts: part };
    const answer = (await ask('/v1/blame', body, PART_WAIT_MS)) as Blamed;
    if (blamed === null) blamed = answer;
    else blamed.prompts.push(...answer.prompts);
    at(blamed.prompts.length);
  }
  return blamed!;
}

function blameText(output: Output, { version, bySubject, prompts }: Blamed): string {
  const changed = prompts.filter(({ answers }) => answers.length > 1);
  const asked = prompts.reduce((sum, one) => sum + one.asked, 0);
  const how = bySubject
    ? 'only of versions that can have changed them'
    : 'of every version, since with this gate any may change any answer';
  return [
    ...changed.map(({ prompt, answers }) =>
      [
        bold(shortened(prompt, output.columns)),
        ...answers.map((answer) => answerLine(answer)),
      ].join('\n'),
    ),
    `${changed.length} of ${prompts.length} answers changed between the base model and version ` +
      `${version}; ${prompts.length - changed.length} are the base model's.\n` +
      dim(`${asked} answers were asked, ${how}. \`errata why "<prompt>"\` explains one answer.`),
  ].join('\n\n');
}

function answerLine({ version, text, made, because }: BlamedPrompt['answers'][number]): string {
  const changes = because.map(({ correctionId, change, by }) => {
    const who = by === correctionId ? '' : ` by ${shortened(by, 40)}`;
    return `${shortened(correctionId, 40)} ${change}${who}`;
  });
  const more = changes.length > 3 ? ` and ${changes.length - 3} more` : '';
  const list = changes.length === 0 ? '' : `: ${changes.slice(0, 3).join('; ')}${more}`;
  const batch = made === null ? '' : dim(`batch ${made.batchId}${list}`);
  const answer = JSON.stringify(shortened(text, 40)).padEnd(44);
  return `  ${(version === 0 ? 'base' : `v${version}`).padEnd(7)}${answer}${batch}`;
}
