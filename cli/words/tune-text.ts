/** What `errata tune` prints on its way and at its end. */
import { nameOf, windowName } from '../../operations/tune/grid.ts';
import type { Trial } from '../../operations/tune/search.ts';
import type { KeyLook, Tuned } from '../../operations/tune/tune.ts';
import { percent, type Output } from '../terminal/output.ts';

export function keyLookText({ traces, massive, windows }: KeyLook, { colours }: Output): string {
  const { bold, dim, red } = colours;
  const line = ({ layer, trace, traceWithFirst }: KeyLook['traces'][number]): string => {
    const text = `  ${String(layer).padStart(5)}  ${trace.toPrecision(4).padStart(12)}  ${traceWithFirst.toPrecision(4).padStart(12)}`;
    return massive.includes(layer) ? red(`${text}  massive, left out`) : text;
  };
  return [
    bold('Keys of ordinary text: E|k|² by layer'),
    dim(`  ${'layer'.padStart(5)}  ${'trace'.padStart(12)}  ${'first token too'.padStart(12)}`),
    ...traces.map(line),
    `windows to try: ${windows.map(windowName).join(', ')}`,
  ].join('\n');
}

export function trialText(trial: Trial, known: boolean, { colours }: Output): string {
  const { measures } = trial;
  const note = known ? colours.dim('  known from before') : '';
  return `  ${nameOf(trial.candidate).padEnd(28)} ${String(trial.facts).padStart(3)} facts  score ${trial.score.toFixed(3)}  efficacy ${percent(measures.efficacy)}, paraphrases ${percent(measures.paraphrase)}, neighbours ${percent(measures.neighboursUnchanged)}, perplexity ${measures.perplexityRatio.toFixed(4)}${note}`;
}

export function tunedText(
  { trials, best, present, set }: Tuned,
  file: string,
  output: Output,
): string {
  const { bold } = output.colours;
  const row = (
    { candidate, facts, measures, score }: Trial,
    name = nameOf(candidate),
  ): string[] => [
    name,
    String(facts),
    percent(measures.efficacy),
    percent(measures.paraphrase),
    percent(measures.neighboursUnchanged),
    measures.perplexityRatio.toFixed(4),
    score.toFixed(3),
  ];
  const head = ['', 'facts', 'efficacy', 'paraphrases', 'neighbours', 'perplexity', 'score'];
  return [
    '',
    bold('Tried on the tuning half'),
    output.table(
      head,
      trials.filter(({ round }) => round !== 'validation').map((trial) => row(trial)),
    ),
    '',
    bold('On the validation half, which nothing was chosen on'),
    output.table(head, [
      row(best),
      ...(present === null ? [] : [row(present, `${nameOf(present.candidate)} (present set)`)]),
    ]),
    '',
    `Layers ${set.parameters.layers!.join(', ')} and lambda ${set.parameters.lambda!} are in ${file}; use them with`,
    `  ERRATA_PARAMETER_SET=${file}`,
    ...(present !== null && present.score > best.score
      ? [
          'The present set did better on the validation half: with so few facts the difference may be chance. Keep it, or tune on more.',
        ]
      : []),
  ].join('\n');
}
