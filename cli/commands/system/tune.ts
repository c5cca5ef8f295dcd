import { writeFile } from 'node:fs/promises';
import { engineOptions } from '../../../infra/config/engine-options.ts';
import type { FactRecord } from '../../../operations/tune/fact-records.ts';
import { nameOf, windowName } from '../../../operations/tune/grid.ts';
import type { Trial } from '../../../operations/tune/search.ts';
import type { KeyLook, TuneWatcher, Tuned } from '../../../operations/tune/tune.ts';
import { factKeyOf } from '../../../schemas/correction.ts';
import { readFacts } from '../../demonstration/stream.ts';
import { parser, wholeNumber } from '../../input/option-values.ts';
import { EXIT, command, flag, option, MODEL } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { messageOf, misused } from '../../terminal/command-failure.ts';
import { listenForInterruption } from '../../terminal/interruption.ts';
import { StatusLine } from '../../terminal/status-line.ts';
import { bold, dim, red } from '../../terminal/colours.ts';
import { percent, table } from '../../terminal/text.ts';
import { setUp } from './set-up.ts';

const WINDOWS = 5;
const LAYERS_MAX = 1_024;
const FACTS_MIN = 4;

/** `errata tune`: finds which layers of a model to edit, and how strongly. */
export default command({
  usage: 'tune',
  summary: 'find layers and lambda for a model',
  description: `Finds the layers and lambda that edit a model best, on a few dozen facts that it
half knows, and writes them as a parameter set for ERRATA_PARAMETER_SET. Avoids layers whose keys
have outlier norms, and measures the best on the half of the facts that no choice was made on. It
loads the model itself, so on a small machine nothing else should run. A second call continues
where the first was stopped.`,
  examples: `
tune --model ./my-model --facts facts.json
  facts in CounterFact's form; writes parameters.json
tune --facts facts.json --windows 3-7,5-9 --lambda-factors 0.5,1,2
  your own windows and factors`,
  operation: 'tune the model',
  options: {
    model: MODEL,
    facts: option(
      '--facts <file>',
      `JSON array in CounterFact's form: case_id, prompt, subject, target_new, ground_truth,
      paraphrases[], neighbours[] (default: the demonstration's facts)`,
    ),
    records: option(
      '--records <from:to>',
      'which of them, half-open',
      parser('FROM:TO with FROM < TO', (text) => {
        const [, from, to] = /^(\d+):(\d+)$/.exec(text) ?? [];
        const range = { from: Number(from), to: Number(to) };
        return range.from < range.to ? range : undefined;
      }),
    ),
    out: option('--out <file>', 'where the parameter set is written', String, 'parameters.json'),
    batch: option('--batch <number>', 'corrections per batch', wholeNumber, 10),
    windows: option(
      '--windows <list>',
      'windows of layers to try: 4-8,10-14 (default: five, evenly spread)',
      parser('windows such as 4-8,10-14', (text) => allOf(text.split(',').map(windowIn))),
    ),
    windowsMax: option(
      '--windows-max <number>',
      'how many windows to spread (default: 5)',
      wholeNumber,
    ),
    lambdaFactors: option(
      '--lambda-factors <list>',
      'lambda / F to try (default: 0.1,0.3,1)',
      parser('positive numbers such as 0.3,1,3', (text) => {
        const numbers = text.split(',').map(Number);
        return numbers.every((one) => one > 0 && Number.isFinite(one)) ? numbers : undefined;
      }),
    ),
    fresh: flag('--fresh', 'ignore the trials of an earlier run'),
  },
  async run(session, options) {
    const { output } = session;
    const { model, batch, windows = null, windowsMax = WINDOWS, fresh } = options;
    const configuration = session.configuration(model === undefined ? {} : { ERRATA_MODEL: model });
    const records = await factsOf(session, options.facts, options.records);
    await setUp(output, configuration);
    const out = session.path(options.out);
    const { tune } = await import('../../../operations/tune/tune.ts');
    const engine = engineOptions(configuration);
    const { lambdaFactors = null } = options;
    const trialsFile = `${out}.trials`;
    const limits = { batchEdits: batch, windows, windowsMax, lambdaFactors };
    const line = new StatusLine(output);
    const interruption = listenForInterruption();
    try {
      const work = tune({ engine, records, ...limits, trialsFile, fresh }, watcher(line));
      const tuned = await Promise.race([work, interruption.came]);
      line.end();
      if (tuned === null) {
        work.catch(() => undefined);
        output.note(`The trials are in ${trialsFile}; the same command continues from there.`);
        return EXIT.interrupted;
      }
      await writeFile(out, `${JSON.stringify(tuned.set, null, 2)}\n`);
      output.result({ ...tuned, file: out }, () => tunedText(tuned, out));
      return;
    } finally {
      line.end();
      interruption.end();
    }
  },
});

function watcher(line: StatusLine): TuneWatcher {
  return {
    loading: (label, share) => line.set(label, Math.round(100 * share), 100),
    measured: (look) => line.above(keyLookText(look)),
    trialBegins: ({ layers, lambda }, facts) => {
      const label = `layers ${layers[0]}-${layers.at(-1)}, lambda ${lambda}`;
      return { at: (done) => line.set(label, done, facts), done: () => {} };
    },
    trial: (trial, known) => line.above(trialText(trial, known)),
  };
}

async function factsOf(
  session: Session,
  file: string | undefined,
  range: { from: number; to: number } | undefined,
): Promise<FactRecord[]> {
  const { readRecords } = await import('../../../operations/tune/fact-records.ts');
  const { from, to } = range ?? { from: 0, to: Number.MAX_SAFE_INTEGER };
  const facts =
    file === undefined
      ? demonstrationFacts().slice(from, to)
      : await readRecords(session.path(file), from, to).catch((error: unknown) => {
          throw misused(messageOf(error));
        });
  if (facts.length >= FACTS_MIN) return facts;
  throw misused(
    `${facts.length} facts are too few`,
    `At least ${FACTS_MIN} are needed; a few dozen are better.`,
  );
}

/** Returns the demonstration's facts that state the model's present answer. */
function demonstrationFacts(): FactRecord[] {
  const facts = readFacts({ lineage: 'tune', source: 'demonstration', now: 0 });
  return facts.flatMap((correction, i): FactRecord[] => {
    const { prompt, target, previousAnswer, paraphrases, neighbourhood } = correction;
    if (previousAnswer === null) return [];
    const position = { topic: 'tune', partition: 0, offset: String(i) };
    const factKey = factKeyOf(correction);
    const revision = { kind: 'correction' as const, factKey, position, correction };
    return [
      { prompt, target, old: previousAnswer, paraphrases, neighbours: neighbourhood, revision },
    ];
  });
}

/** Parses the layers of one window. */
function windowIn(text: string): number[] | undefined {
  const [, first, last] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last ?? first)];
  if (first === undefined || to < from || to - from >= LAYERS_MAX) return undefined;
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function allOf<Item>(items: (Item | undefined)[]): Item[] | undefined {
  return items.every((item) => item !== undefined) ? items : undefined;
}

function keyLookText({ traces, massive, windows }: KeyLook): string {
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

function trialText(trial: Trial, known: boolean): string {
  const { candidate, facts, score, measures } = trial;
  const { efficacy, paraphrase, neighboursUnchanged, perplexityRatio } = measures;
  const shares = [
    `efficacy ${percent(efficacy)}`,
    `paraphrases ${percent(paraphrase)}`,
    `neighbours ${percent(neighboursUnchanged)}`,
    `perplexity ${perplexityRatio.toFixed(4)}`,
  ];
  const note = known ? dim('  from an earlier run') : '';
  const name = nameOf(candidate).padEnd(28);
  const count = String(facts).padStart(3);
  return `  ${name} ${count} facts  score ${score.toFixed(3)}  ${shares.join(', ')}${note}`;
}

function tunedText({ trials, best, present, set }: Tuned, file: string) {
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
    table(head, tried),
    '',
    bold('On the validation half, on which no choice was made'),
    table(head, [row(best), ...(present === null ? [] : [row(present, ' (present set)')])]),
    '',
    `Layers ${layers!.join(', ')} and lambda ${lambda!} are in ${file}; use them with`,
    `  ERRATA_PARAMETER_SET=${file}`,
    ...(present !== null && present.score > best.score ? [PRESENT_IS_BETTER] : []),
  ].join('\n');
}

const PRESENT_IS_BETTER = `The present set did better on the validation half: with so few facts the
difference may be chance. Keep it, or tune on more.`;
