/** How the explanation of an answer reads on a terminal. */
import type { Configuration } from '../../infra/config/configuration.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { Explanation } from '../../serving/answers/explain.ts';
import { shortened, type Output } from '../terminal/output.ts';
import { placeText, refusalText, traceText } from './trace-text.ts';

export function explanationText(
  output: Output,
  configuration: Configuration,
  explanation: Explanation,
): string {
  const { bold } = output.colours;
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

/** Two answers side by side. */
export function answersTable(
  output: Output,
  version: number,
  same: boolean,
  [before, after]: [string, string],
): string {
  const { bold, dim, green } = output.colours;
  const width = Math.floor((output.columns - 4) / 2);
  const title = version === 0 ? 'version 0 (the base model)' : `version ${version}`;
  return output.table(
    [bold('base model'), bold(title)],
    [[before, same ? dim(after) : green(after)]],
    { widths: [width, width], wrap: true },
  );
}

function answerText({ text, finish }: { text: string; finish: string }): string {
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
  const { bold, dim } = output.colours;
  const since = version === 0 ? '' : `, unchanged by the corrections of version ${version}`;
  const parts = [`No gate opened: this is the base model's own answer${since}.`];
  parts.push(
    named.length === 0
      ? 'The prompt names no corrected subject.'
      : [
          bold('Corrected subjects that the prompt names'),
          ...named.flatMap((one) => subjectLines(output, one)),
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
  if (outcomes.length > 0) parts.push(refusedText(output, outcomes));
  if (earlier.length === 0 && outcomes.length === 0)
    parts.push('No correction of this prompt was ever committed or refused.');
  if (refused?.complete === false)
    parts.push(dim('There are many outcomes; not all refused corrections were searched.'));
  return parts;
}

function subjectLines(
  { colours: { dim } }: Output,
  { subject, corrections }: Explanation['named'][number],
): string[] {
  const lines = corrections.map(({ id, prompt, target, version }) => {
    const says = `${shortened(prompt, 60)} → ${shortened(target, 40)}`;
    return `    version ${version}: ${says}  ${dim(id)}`;
  });
  return [`  ${subject}`, ...lines];
}

export function refusedText(output: Output, refused: readonly Outcome[]): string {
  const { bold, dim } = output.colours;
  return [
    bold('Refused corrections'),
    ...refused.flatMap((outcome) => [
      `  ${shortened(outcome.revisionId, 60)}  ${refusalText(outcome)}`,
      `    ${dim(`${placeText(outcome.position)}, batch ${outcome.batchId}`)}`,
    ]),
  ].join('\n');
}
