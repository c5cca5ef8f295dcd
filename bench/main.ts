/**
 * `npm run bench`: edits records of a file through the editor's own steps and prints quality, time
 * and memory.
 */
import { writeFile } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { readConfiguration } from '../infra/config/configuration.ts';
import { engineOptions } from '../infra/config/engine-options.ts';
import { homeAt } from '../infra/config/home.ts';
import { progressOn } from '../infra/setup/progress.ts';
import { provision } from '../infra/setup/provision/index.ts';
import { LocalEngine } from '../model/engine/local-engine.ts';
import type { HyperParameterOverrides } from '../schemas/editing.ts';
import { editStream, type BenchResult } from './edit-stream.ts';
import { readRecords } from './records.ts';
import { runReference } from './reference/run-reference.ts';
import { sideBySide, speedupOf } from './reference/side-by-side.ts';

interface Options {
  data: string;
  records?: { from: number; to: number };
  batch: number;
  model?: string;
  text?: string;
  parameters: HyperParameterOverrides;
  json?: string;
  compareReference?: true;
  referenceRecords?: number;
}

const program = new Command('npm run bench --')
  .description(
    "Edits records in CounterFact's form in consecutive batches and measures at the end of the stream.",
  )
  .requiredOption(
    '--data <file>',
    'JSON array of records: case_id, prompt, subject, target_new, ground_truth, and optionally rephrase_prompt, paraphrases[], locality_prompt, neighbours[]',
  )
  .option('--records <from:to>', 'which of them, half-open', range)
  .option('--batch <n>', 'corrections per batch', positive, 30)
  .option('--model <path>', 'a model folder or file, or a Hugging Face id that is already fetched')
  .option(
    '--text <file>',
    "ordinary text for the key statistics instead of the model's own samples",
  )
  .option('--parameters <json>', 'hyper-parameters to change', json, {})
  .option('--json <file>', 'write the result here as JSON, - for standard output')
  .option(
    '--compare-reference',
    'run the published procedure in PyTorch on the same records too, and print both side by side',
  )
  .option(
    '--reference-records <n>',
    'the reference edits the first n records only: it takes some 20 s for each on two cores',
    positive,
  )
  .addHelpText(
    'after',
    '\nExample:\n  npm run bench -- --data records.json --records 500:800 --batch 30 --json result.json',
  );

await program.parseAsync();
const options = program.opts<Options>();
try {
  await main(options);
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function main({
  data,
  records: asked,
  batch,
  model,
  text,
  parameters,
  json: jsonFile,
  ...asks
}: Options): Promise<void> {
  const environment = { ...process.env, ...(model === undefined ? {} : { ERRATA_MODEL: model }) };
  const configuration = readConfiguration(environment);
  const records = await readRecords(data, asked?.from ?? 0, asked?.to ?? Number.MAX_SAFE_INTEGER);
  const progress = progressOn(process.stderr);
  await provision(['tensorflow', ...(configuration.model === null ? (['model'] as const) : [])], {
    home: homeAt(configuration.home),
    device: configuration.device,
    progress,
  });

  let loading: { label: string; step: ReturnType<typeof progress.step> } | null = null;
  const given = engineOptions(configuration);
  const engine = await LocalEngine.open(
    {
      ...given,
      textFile: text ?? given.textFile,
      parameters: { ...given.parameters, ...parameters },
    },
    (label, share) => {
      if (loading?.label !== label) {
        loading?.step.done();
        loading = { label, step: progress.step(label, { amount: 100, unit: 'items' }) };
      }
      loading.step.at(Math.round(share * 100));
    },
  );
  (loading as { step: { done(): void } } | null)?.step.done();
  const editing = progress.step(`editing in batches of ${batch}`, {
    amount: records.length,
    unit: 'items',
  });
  const result = await editStream(engine, records, batch, (done) => editing.at(done));
  editing.done();
  const description = await engine.describe();
  await engine.close();
  const reference = asks.compareReference
    ? await runReference({
        configuration,
        description,
        records: records.slice(0, asks.referenceRecords),
        batchSize: batch,
        progress,
      })
    : undefined;
  const compared =
    reference === undefined ? {} : { reference, speedup: speedupOf(result, reference) };
  const report = {
    ...result,
    ...compared,
    model: description.model,
    parameters: description.parameters,
    keyStatistics: description.keyStatistics,
    software: description.software,
  };
  const bytes = `${JSON.stringify(report, null, 2)}\n`;
  if (jsonFile === '-') process.stdout.write(bytes);
  else {
    if (jsonFile !== undefined) await writeFile(jsonFile, bytes);
    process.stdout.write(
      reference === undefined ? table(result) : table(result) + sideBySide(result, reference),
    );
  }
}

function table(result: BenchResult): string {
  const percent = (value: number | null) =>
    value === null ? '-' : `${(100 * value).toFixed(1)} %`;
  const perCorrection = (seconds: number) => `${(seconds / result.corrections).toFixed(3)} s`;
  const rows: [string, string][] = [
    [
      'corrections',
      `${result.corrections} in ${result.batches} batches of ${result.batchSize} (${result.refused} refused, ${result.superseded} superseded)`,
    ],
    [
      'efficacy, target is argmax',
      `${percent(result.efficacy)}   before ${percent(result.before.efficacy)}`,
    ],
    ['efficacy, greedy decoding', percent(result.efficacyGreedy)],
    [
      `  the first ${result.earliest.asked}`,
      `${percent(result.earliest.efficacy)}   greedy ${percent(result.earliest.efficacyGreedy)}`,
    ],
    [
      'p(new) > p(old)',
      `${percent(result.preference)}   before ${percent(result.before.preference)}`,
    ],
    [
      'paraphrases p(new) > p(old)',
      `${percent(result.paraphrase)}   before ${percent(result.before.paraphrase)}`,
    ],
    ['paraphrases, target is argmax', percent(result.paraphraseArgmax)],
    ['neighbours unchanged', percent(result.neighboursUnchanged)],
    ['perplexity, edited / base', result.perplexityRatio.toFixed(4)],
    ['ordinary tokens behind a gate', percent(result.ordinaryOpenShare)],
    ['time per correction', `${result.secondsPerCorrection.toFixed(2)} s`],
    ...Object.entries(result.stages).map(([stage, seconds]): [string, string] => [
      `  ${stage}`,
      perCorrection(seconds),
    ]),
    ['peak memory', `${(result.peakRssBytes / 1e9).toFixed(2)} GB`],
  ];
  return `\n${rows.map(([name, value]) => `${name.padEnd(32)}${value}`).join('\n')}\n`;
}

function range(text: string): { from: number; to: number } {
  const [, from, to] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (from === undefined || to === undefined || Number(from) >= Number(to))
    throw new InvalidArgumentError('expected FROM:TO with FROM < TO');
  return { from: Number(from), to: Number(to) };
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('expected a whole number of at least 1');
  return value;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('expected JSON');
  }
}
