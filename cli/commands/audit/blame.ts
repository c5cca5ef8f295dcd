import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import type { Blame, BlamedPrompt } from '../../../serving/answers/blame.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { checkedPrompts, partsOf, promptsInFile } from '../../input/probe-prompts.ts';
import { progressOf } from '../../terminal/progress.ts';
import { wholeNumber } from './log.ts';
import { versionIn } from './why.ts';

interface Options {
  probes?: string;
  at?: string;
  lineage?: string;
  max: number;
  tokens: number;
}

type Blamed = Pick<Blame, 'lineage' | 'version' | 'bySubject'> & { prompts: BlamedPrompt[] };

/** `errata blame`: which version changed each answer. */
const blame: CommandSpecification<Options> = {
  usage: 'blame [prompts...]',
  summary: 'say which version changed each answer',
  description:
    'Says of each prompt what the base model answered and which version changed that to what, with the correction and the batch behind each change. Prompts are arguments, or lines of a file (text, or NDJSON with "prompt"); without either, those of the corrections that hold, with their paraphrases and neighbours, the latest corrections first, as many as --max says. Every answer is asked anew, by the running `serve` or a model that is loaded for it; where every subject has a map of its own behind a gate that asks for its name, only those versions are asked that can have changed an answer.',
  examples: [
    ['blame "The headquarters of Oracle are in the city of"', 'which version changed this answer'],
    ['blame --probes questions.txt', 'the same for a set of your own'],
    ['blame --max 50 --json', 'for the latest corrections and what was probed with them'],
  ],
  operation: 'find the versions',
  options: (command) =>
    command
      .option('--probes <file>', 'the prompts of a file, one a line')
      .option('--at <version>', 'up to this version (default: the one that is served)')
      .option('--max <number>', 'prompts that are asked where none are given', wholeNumber, 200)
      .option(...LINEAGE_OPTION)
      .option('--tokens <number>', 'how long the answers are, at most 64', wholeNumber, 8),
  async run(session, options, given) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineage = session.lineage(configuration, options.lineage);
    if (given.length > 0 && options.probes !== undefined)
      throw new CommandFailure(
        'find the versions',
        'there are prompts on the command line and in a file',
        'Give one or the other.',
        EXIT.usage,
      );
    const prompts =
      options.probes !== undefined
        ? await promptsInFile(options.probes, session.surroundings.workingDirectory)
        : given.length > 0
          ? checkedPrompts(given, 'the command line')
          : await promptsThatHold(openVersions(configuration).log(lineage), options.max);
    const blamed = await askAll(session.output, configuration, prompts, {
      lineage,
      version: versionIn(options.at),
      tokensMax: options.tokens,
    });
    session.output.result(blamed, () => describe(session.output, blamed));
    return EXIT.ok;
  },
};

export default blame;

/** Prompts per request, so that there is progress to show and others get their turn. */
const PROMPTS_TOGETHER = 16;
const PART_WAIT_MS = 600_000;

async function promptsThatHold(log: VersionLog, promptsMax: number): Promise<string[]> {
  const { active } = await log.read();
  if (active.size === 0)
    throw new CommandFailure(
      'find the versions',
      `no correction holds in lineage ${log.lineage}, so that there is nothing to ask`,
      'Give prompts as arguments, or with --probes.',
    );
  return [
    ...new Set(
      [...active.values()]
        .reverse()
        .flatMap(({ prompt, paraphrases, neighbourhood }) => [
          prompt,
          ...paraphrases,
          ...neighbourhood,
        ]),
    ),
  ].slice(0, promptsMax);
}

async function askAll(
  output: Output,
  configuration: Configuration,
  prompts: readonly string[],
  question: { lineage: string; version: number | null; tokensMax: number },
): Promise<Blamed> {
  const { withAnswers } = await import('../../session/answering.ts');
  const step = progressOf(output).step(
    configuration.serve.url === null ? 'Loading the model and asking' : 'Asking',
    { amount: prompts.length, unit: 'items' },
  );
  try {
    const blamed = await withAnswers(configuration, question.lineage, async (ask) => {
      const [first, ...rest] = partsOf(prompts, PROMPTS_TOGETHER);
      const blamed = (await ask(
        '/v1/blame',
        { ...question, prompts: first },
        PART_WAIT_MS,
      )) as Blamed;
      for (const part of rest) {
        step.at(blamed.prompts.length);
        // Up to the version of the first part, also where another is committed meanwhile.
        blamed.prompts.push(
          ...(
            (await ask(
              '/v1/blame',
              { ...question, version: blamed.version, prompts: part },
              PART_WAIT_MS,
            )) as Blamed
          ).prompts,
        );
      }
      return blamed;
    });
    step.done();
    return blamed;
  } catch (error) {
    step.failed();
    throw error;
  }
}

function describe(output: Output, { version, bySubject, prompts }: Blamed): string {
  const { bold, dim } = output.colours;
  const changed = prompts.filter(({ answers }) => answers.length > 1);
  const parts = changed.map(({ prompt, answers }) =>
    [
      bold(shortened(prompt, output.columns)),
      ...answers.map(({ version: at, text, made, because }) => {
        const hands = because.map(
          ({ correctionId, change, by }) =>
            `${shortened(correctionId, 40)} ${change}${by === correctionId ? '' : ` by ${shortened(by, 40)}`}`,
        );
        return `  ${(at === 0 ? 'base' : `v${at}`).padEnd(7)}${JSON.stringify(shortened(text, 40)).padEnd(44)}${made === null ? '' : dim(`batch ${made.batchId}${hands.length === 0 ? '' : `: ${hands.slice(0, 3).join('; ')}${hands.length > 3 ? ` and ${hands.length - 3} more` : ''}`}`)}`;
      }),
    ].join('\n'),
  );
  const asked = prompts.reduce((sum, one) => sum + one.asked, 0);
  parts.push(
    `${changed.length} of ${prompts.length} answers changed between the base model and version ${version}; ${prompts.length - changed.length} are the base model's.\n${dim(`${asked} answers were asked for, ${bySubject ? 'only of versions that can have changed them' : 'of every version: with this gate any may change any answer'}. errata why "<prompt>" tells more of one.`)}`,
  );
  return parts.join('\n\n');
}
