/** `npm run bench`: edits records by the editor's own steps and prints quality, time and memory. */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { engineOptions } from '../infra/config/engine-options.ts';
import type { HyperParameterOverrides } from '../schemas/editing.ts';
import {
  during,
  json,
  openEngine,
  positive,
  range,
  runCommand,
  setUp,
  type Range,
} from './command.ts';
import { editStream, type BenchResult } from './edit-stream.ts';
import { readRecords } from '../operations/tune/fact-records.ts';
import type { ReferenceResult } from './reference/reference-result.ts';
import { runReference } from './reference/run-reference.ts';
import { sideBySide, speedupOf } from './reference/side-by-side.ts';

interface Options {
  data: string;
  records?: Range;
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
    `Edits records in CounterFact's form in consecutive batches and measures at the end of the
stream.`,
  )
  .requiredOption(
    '--data <file>',
    `JSON array of records: case_id, prompt, subject, target_new, ground_truth, and optionally
rephrase_prompt, paraphrases[], locality_prompt, neighbours[]`,
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
    `
Example:
  npm run bench -- --data records.json --records 500:800 --batch 30 --json result.json`,
  );

await program.parseAsync();
await runCommand('bench', () => main(program.opts<Options>()));

async function main({ data, batch, text, parameters, ...options }: Options): Promise<void> {
  const { from, to } = options.records ?? { from: 0, to: Number.MAX_SAFE_INTEGER };
  const records = await readRecords(data, from, to);
  const { configuration, progress } = await setUp(options.model);
  const given = engineOptions(configuration);
  const engine = await openEngine(
    {
      ...given,
      textFile: text ?? given.textFile,
      parameters: { ...given.parameters, ...parameters },
    },
    progress,
  );
  const result = await during(
    progress,
    `editing in batches of ${batch}`,
    (at) => editStream(engine, records, batch, at),
    records.length,
  );
  const description = await engine.describe();
  await engine.close();
  let reference: ReferenceResult | undefined;
  if (options.compareReference)
    reference = await runReference({
      configuration,
      description,
      records: records.slice(0, options.referenceRecords),
      batchSize: batch,
      progress,
    });
  const compared =
    reference === undefined ? {} : { reference, speedup: speedupOf(result, reference) };
  const { model, parameters: used, keyStatistics, software } = description;
  const report = { ...result, ...compared, model, parameters: used, keyStatistics, software };
  const bytes = `${JSON.stringify(report, null, 2)}\n`;
  if (options.json === '-') {
    process.stdout.write(bytes);
    return;
  }
  if (options.json !== undefined) await writeFile(options.json, bytes);
  process.stdout.write(
    table(result) + (reference === undefined ? '' : sideBySide(result, reference)),
  );
}

function table(result: BenchResult): string {
  const percent = (value: number | null) =>
    value === null ? '-' : `${(100 * value).toFixed(1)} %`;
  const perCorrection = (seconds: number) => `${(seconds / result.corrections).toFixed(3)} s`;
  const rows: [string, string][] = [
    [
      'corrections',
      `${result.corrections} in ${result.batches} batches of ${result.batchSize} ` +
        `(${result.refused} refused, ${result.superseded} superseded)`,
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
