import { attached } from '../../../infra/local/system-state.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { wholeNumber } from '../audit/log.ts';
import type { Comparison } from '../../session/answering.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/progress.ts';

interface Options {
  at?: string;
  lineage?: string;
  tokens: number;
}

/** `errata ask`: what the model says before and after its corrections, side by side. */
const ask: CommandSpecification<Options> = {
  usage: 'ask <prompt...>',
  summary: 'ask the model, before and after',
  description:
    'Asks the base model and the corrected one and shows both answers, greedily decoded, and which corrections had a hand in it. Asks the running `serve`; when nothing runs, loads the model itself, which takes a while.',
  examples: [
    ['ask "The headquarters of Oracle are in the city of"', 'base model and newest version'],
    ['ask --at 3 "The headquarters of Oracle are in the city of"', 'base model and version 3'],
  ],
  operation: 'ask the model',
  options: (command) =>
    command
      .option('--at <version>', 'a version (default: the newest)')
      .option(...LINEAGE_OPTION)
      .option('--tokens <number>', 'how long the answers are, at most 256', wholeNumber, 16),
  async run(session, options, words) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineage = session.lineage(configuration, options.lineage);
    const version = options.at === undefined || options.at === 'head' ? null : Number(options.at);
    if (version !== null && !(Number.isInteger(version) && version >= 0))
      throw new CommandFailure(
        'ask the model',
        `"${options.at ?? ''}" is no version`,
        'A version is a number, or `head`.',
        EXIT.usage,
      );
    const question = { lineage, prompt: words.join(' '), version, tokensMax: options.tokens };
    const { withAnswers } = await import('../../session/answering.ts');
    const comparison = await whileWaiting(
      session.output,
      configuration.serve.url === null ? 'Loading the model' : 'Asking',
      null,
      () =>
        withAnswers(
          configuration,
          lineage,
          async (send) => (await send('/v1/compare', question)) as Comparison,
        ),
    );
    session.output.result(comparison, () => sideBySide(session.output, comparison));
    return EXIT.ok;
  },
};

export default ask;

function sideBySide(output: Output, comparison: Comparison): string {
  const { bold, dim, green } = output.colours;
  const same = comparison.base.text === comparison.edited.text;
  const width = Math.floor((output.columns - 4) / 2);
  const before = comparison.base.text.trim();
  const after = comparison.edited.text.trim();
  const table = output.table(
    [
      bold('base model'),
      bold(
        comparison.version === 0 ? 'version 0 (the base model)' : `version ${comparison.version}`,
      ),
    ],
    [[before, same ? dim(after) : green(after)]],
    { widths: [width, width], wrap: true },
  );
  return `${bold(comparison.prompt)} …\n\n${table}\n\n${same ? dim('The same: no correction has a hand in it.') : whyDifferent(output, comparison)}`;
}

function whyDifferent(output: Output, comparison: Comparison): string {
  const { bold, dim } = output.colours;
  const { opened } = comparison.edited;
  const hands = new Map(
    opened.flatMap(({ correction }) =>
      correction === null ? [] : [[correction.id, correction] as const],
    ),
  );
  const tokens = [...new Set(opened.map(({ token }) => token.trim()))]
    .map((token) => `"${token}"`)
    .join(', ');
  return [
    dim(`A gate opened at ${tokens}, because of`),
    ...[...hands.values()].map(
      (correction) =>
        `  ${correction.prompt} ${bold(correction.target)}\n  ${dim(`${correction.id}, version ${correction.version}, ${correction.source}`)}`,
    ),
  ].join('\n');
}
