/** How `errata tune` reads on a terminal. */
import { nameOf, windowName } from '../../operations/tune/grid.ts';
import type { Trial } from '../../operations/tune/search.ts';
import type { KeyLook, Tuned } from '../../operations/tune/tune.ts';
import { percent, type Output } from '../terminal/output.ts';

export function keyLookText({ traces, massive, windows }: KeyLook, { colours }: Output): string {
  const { bold, dim, red } = colours;
  const row = (layer: string, trace: string, withFirst: string): string =>
    `  ${layer.padStart(5)}  ${trace.padStart(12)}  ${withFirst.padStart(12)}`;
  const lines = traces.map(({ layer, trace, traceWithFirst }) => {
    const text = row(String(layer), trace.toPrecision(4), traceWithFirst.toPrecision(4));
    return massive.includes(layer) ? red(`${text}  outlier norms, avoided`) : text;
  });
  return [
    bold('Keys of ordinary text: E|k|² by layer'),
    dim(row('layer', 'trace', 'with first')),
    ...lines,
    `windows to try: ${windows.map(windowName).join(', ')}`,
  ].join('\n');
}

export function trialText(trial: Trial, known: boolean, { colours }: Output): string {
  const { candidate, facts, score, measures } = trial;
  const { efficacy, paraphrase, neighboursUnchanged, perplexityRatio } = measures;
  const shares = [
    `efficacy ${percent(efficacy)}`,
    `paraphrases ${percent(paraphrase)}`,
    `neighbours ${percent(neighboursUnchanged)}`,
    `perplexity ${perplexityRatio.toFixed(4)}`,
  ];
  const note = known ? colours.dim('  from an earlier run') : '';
  const name = nameOf(candidate).padEnd(28);
  const count = String(facts).padStart(3);
  return `  ${name} ${count} facts  score ${score.toFixed(3)}  ${shares.join(', ')}${note}`;
}

export function tunedText({ trials, best, present, set }: Tuned, file: string, output: Output) {
  const { bold } = output.colours;
  const row = ({ candidate, facts, measures, score }: Trial, note = ''): string[] => [
    `${nameOf(candidate)}${note}`,
    String(facts),
    percent(measures.efficacy),
    percent(measures.paraphrase),
    percent(measures.neighboursUnchanged),
    measures.perplexityRatio.toFixed(4),
    score.toFixed(3),
  ];
  const head = ['', 'facts', 'efficacy', 'paraphrases', 'neighbours', 'perplexity', 'score'];
  const tried = trials.filter(({ round }) => round !== 'validation').map((trial) => row(trial));
  const { layers, lambda } = set.parameters;
  return [
    '',
    bold('Trials on the tuning half'),
    output.table(head, tried),
    '',
    bold('On the validation half, on which no choice was made'),
    output.table(head, [row(best), ...(present === null ? [] : [row(present, ' (present set)')])]),
    '',
    `Layers ${layers!.join(', ')} and lambda ${lambda!} are in ${file}; use them with`,
    `  ERRATA_PARAMETER_SET=${file}`,
    ...(present !== null && present.score > best.score ? [PRESENT_IS_BETTER] : []),
  ].join('\n');
}

const PRESENT_IS_BETTER = `The present set did better on the validation half: with so few facts the
difference may be chance. Keep it, or tune on more.`;
