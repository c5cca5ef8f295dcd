import { versionNamed, wholeNumber } from '../../input/option-values.ts';
import { withAnswers } from '../../session/answering.ts';
import { LINEAGE, command, option } from '../../session/command.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { bold, dim } from '../../terminal/colours.ts';
import { answersTable } from '../audit/why.ts';

/** `errata ask`: shows the model's answers before and after its corrections, side by side. */
export default command({
  usage: 'ask <prompt...>',
  summary: 'ask the model, before and after',
  description: `Asks the base model and the corrected one. Shows both answers, greedily decoded, and
the corrections that changed the answer. Asks the running \`serve\`; where none runs, loads the
model, which takes a while.`,
  examples: `
ask "The headquarters of Oracle are in the city of"         base model and newest version
ask --at 3 "The headquarters of Oracle are in the city of"  base model and version 3`,
  operation: 'ask the model',
  options: {
    at: option('--at <version>', 'a version (default: the newest)'),
    lineage: LINEAGE,
    tokens: option('--tokens <number>', 'length of the answers, at most 256', wholeNumber, 16),
  },
  async run(session, options, words) {
    const { configuration, lineage } = session.open(options.lineage);
    const { output } = session;
    const version = versionNamed(options.at);
    const question = { lineage, prompt: words.join(' '), version, tokensMax: options.tokens };
    const comparison = (await whileWaiting(
      output,
      configuration.serve.url === null ? 'loading the model' : 'asking',
      () => withAnswers(configuration, lineage, (ask) => ask('/v1/compare', question)),
    )) as Comparison;
    output.result(comparison, () => comparisonText(output, comparison));
  },
});

interface Comparison {
  lineage: string;
  version: number;
  prompt: string;
  base: { text: string };
  edited: { text: string; opened: { token: string; correction: OpenedBy | null }[] };
}

interface OpenedBy {
  id: string;
  prompt: string;
  target: string;
  source: string;
  version: number;
}

function comparisonText(output: Output, { version, prompt, base, edited }: Comparison): string {
  const same = base.text === edited.text;
  return [
    `${bold(prompt)} …`,
    answersTable(output, version, same, [base.text.trim(), edited.text.trim()]),
    same ? dim('Both answers are the same: no correction changes this one.') : causeText(edited),
  ].join('\n\n');
}

function causeText({ opened }: Comparison['edited']): string {
  const causes = new Map(opened.flatMap(({ correction: one }) => (one ? [[one.id, one]] : [])));
  const tokens = [...new Set(opened.map(({ token }) => `"${token.trim()}"`))].join(', ');
  return [
    dim(`A gate opened at ${tokens}, because of`),
    ...[...causes.values()].flatMap(({ id, prompt, target, version, source }) => [
      `  ${prompt} ${bold(target)}`,
      `  ${dim(`${id}, version ${version}, ${source}`)}`,
    ]),
  ].join('\n');
}
