import { writeFile } from 'node:fs/promises';
import { isAbsolute, resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { FactRecord } from '../../../operations/tune/fact-records.ts';
import type { Tuned } from '../../../operations/tune/tune.ts';
import { engineOptions } from '../../../infra/config/engine-options.ts';
import { fetchModel } from '../../../infra/setup/fetch-model.ts';
import { homeAt } from '../../../infra/config/home.ts';
import { provision } from '../../../infra/setup/provision/index.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import { listenForInterruption } from '../../terminal/interruption.ts';
import { setupProgress } from '../../terminal/status-line.ts';
import { keyLookText, trialText, tunedText } from '../../words/tune-text.ts';
import { demonstrationFacts } from '../../input/tune-facts.ts';
import type { Session } from '../../session/session.ts';
import { wholeNumber } from '../../input/option-values.ts';

interface Options {
  model?: string;
  facts?: string;
  records?: { from: number; to: number };
  out: string;
  batch: number;
  windows?: number[][];
  windowsMax?: number;
  lambdaFactors?: number[];
  fresh?: boolean;
}

/** `errata tune`: which layers of a new model to edit, and how strongly. */
const tune: CommandSpecification<Options> = {
  usage: 'tune',
  summary: 'find layers and lambda for a model',
  description:
    'Finds the layers and lambda that edit a model best, on a few dozen facts that it half knows: looks at the keys of all layers and keeps off those with massive ones, tries windows of consecutive layers with lambda from F downwards, drops what is clearly worse early, and measures the best on the half of the facts that nothing was chosen on. Writes a parameter set, which ERRATA_PARAMETER_SET takes.\nIt works on the model itself: nothing needs to run, and on a small machine nothing should. What was tried is kept beside the result, so that a second call goes on where the first was stopped.',
  examples: `
tune --model ./my-model --facts facts.json  facts in CounterFact's form; writes parameters.json
tune  the configured model on the demonstration's facts
tune --facts facts.json --windows 3-7,5-9 --lambda-factors 0.5,1,2  a grid of your own`,
  operation: 'tune the model',
  options: (command) =>
    command
      .option('--model <path or id>', 'the model: a path, or a Hugging Face id (ERRATA_MODEL)')
      .option(
        '--facts <file>',
        "JSON array in CounterFact's form: case_id, prompt, subject, target_new, ground_truth, paraphrases[], neighbours[] (default: the demonstration's facts)",
      )
      .option('--records <from:to>', 'which of them, half-open', range)
      .option('--out <file>', 'where the parameter set is written', 'parameters.json')
      .option('--batch <number>', 'corrections per batch', wholeNumber, 10)
      .option(
        '--windows <list>',
        'windows of layers to try: 4-8,10-14 (default: five, evenly spread)',
        windowList,
      )
      .option('--windows-max <number>', 'how many windows to spread (default: 5)', wholeNumber)
      .option('--lambda-factors <list>', 'lambda / F to try (default: 0.1,0.3,1)', numberList)
      .option('--fresh', 'forget what an earlier run tried'),
  async run(session, options) {
    const configuration = session.configuration(
      options.model === undefined ? {} : { ERRATA_MODEL: options.model },
    );
    const records = await factsOf(session, options);
    const { output } = session;
    const progress = setupProgress(output);
    await provision(['tensorflow', ...(configuration.model === null ? (['model'] as const) : [])], {
      home: homeAt(configuration.home),
      device: configuration.device,
      progress,
    });
    if (configuration.model !== null && !isAbsolute(configuration.model))
      await fetchModel(configuration, configuration.model, progress);

    const out = resolve(session.surroundings.workingDirectory, options.out);
    const { tune: tuneModel } = await import('../../../operations/tune/tune.ts');
    let loading: { label: string; step: ReturnType<typeof progress.step> } | null = null;
    const loaded = (): void => {
      loading?.step.done();
      loading = null;
    };
    const interruption = listenForInterruption();
    try {
      const work = tuneModel(
        {
          engine: engineOptions(configuration),
          records,
          batchEdits: options.batch,
          windows: options.windows ?? null,
          windowsMax: options.windowsMax ?? WINDOWS,
          lambdaFactors: options.lambdaFactors ?? null,
          trialsFile: `${out}.trials`,
          fresh: options.fresh === true,
        },
        {
          loading(label, share) {
            if (loading?.label !== label) {
              loaded();
              loading = { label, step: progress.step(label, { amount: 100, unit: 'items' }) };
            }
            loading.step.at(Math.round(100 * share));
          },
          measured(look) {
            loaded();
            output.line(keyLookText(look, output));
          },
          trialBegins: (candidate, facts) => {
            const step = progress.step(
              `layers ${candidate.layers[0]}-${candidate.layers.at(-1)}, lambda ${candidate.lambda}`,
              { amount: facts, unit: 'items' },
            );
            return { at: (done) => step.at(done), done: () => step.done() };
          },
          trial: (trial, known) => output.line(trialText(trial, known, output)),
        },
      );
      const tuned = await Promise.race([work, interruption.came]);
      if (tuned === null) {
        work.catch(() => undefined);
        output.note(`What was tried is in ${out}.trials; the same command goes on from there.`);
        return EXIT.interrupted;
      }
      await writeFile(out, `${JSON.stringify(tuned.set, null, 2)}\n`);
      output.result({ ...tuned, file: out } satisfies Tuned & { file: string }, () =>
        tunedText(tuned, out, output),
      );
      return EXIT.ok;
    } finally {
      interruption.end();
    }
  },
};

const WINDOWS = 5;
const FACTS_MIN = 4;

async function factsOf(session: Session, { facts, records }: Options): Promise<FactRecord[]> {
  const { readRecords } = await import('../../../operations/tune/fact-records.ts');
  const [from, to] = [records?.from ?? 0, records?.to ?? Number.MAX_SAFE_INTEGER];
  const read =
    facts === undefined
      ? demonstrationFacts().slice(from, to)
      : await readRecords(resolve(session.surroundings.workingDirectory, facts), from, to).catch(
          (error: Error) => {
            throw new CommandFailure('read the facts', error.message, null, EXIT.usage);
          },
        );
  if (read.length < FACTS_MIN)
    throw new CommandFailure(
      'tune the model',
      `${read.length} facts are too few`,
      `At least ${FACTS_MIN} are needed, a few dozen are better.`,
      EXIT.usage,
    );
  return read;
}

function range(text: string): { from: number; to: number } {
  const [, from, to] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (from === undefined || to === undefined || Number(from) >= Number(to))
    throw new InvalidArgumentError('expected FROM:TO with FROM < TO');
  return { from: Number(from), to: Number(to) };
}

function windowList(text: string): number[][] {
  return text.split(',').map((part) => {
    const [, first, last] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last ?? first)];
    if (first === undefined || to < from || to - from >= LAYERS_MAX)
      throw new InvalidArgumentError('expected windows such as 4-8,10-14');
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}

const LAYERS_MAX = 1_024;

function numberList(text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.length === 0 || numbers.some((number) => !(number > 0 && Number.isFinite(number))))
    throw new InvalidArgumentError('expected positive numbers such as 0.3,1,3');
  return numbers;
}

export default tune;
