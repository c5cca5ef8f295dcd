/**
 * `npm run bench`: edits records with the editor's own steps and prints quality, time and memory.
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { engineOptions } from '../infra/config/engine-options.ts';
import type { HyperParameterOverrides } from '../schemas/hyper-parameters.ts';
import {
  during,
  editingOptions,
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
import { share } from './tables.ts';

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

const program = new Command('npm run bench --').description(
  `Edits records in CounterFact's form in consecutive batches and measures at the end of the
stream.`,
);
editingOptions(program)
  .option('--records <from:to>', 'which of them, half-open', range)
  .option('--batch <n>', 'corrections per batch', positive, 30)
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
  const { corrections, batches, batchSize, refused, superseded, before, earliest } = result;
  const beside = (now: number | null, word: string, other: number | null) =>
    `${share(now)}   ${word} ${share(other)}`;
  const rows: Record<string, string> = {
    corrections:
      `${corrections} in ${batches} batches of ${batchSize} ` +
      `(${refused} refused, ${superseded} superseded)`,
    'efficacy, target is argmax': beside(result.efficacy, 'before', before.efficacy),
    'efficacy, greedy decoding': share(result.efficacyGreedy),
    [`  the first ${earliest.asked}`]: beside(earliest.efficacy, 'greedy', earliest.efficacyGreedy),
    'p(new) > p(old)': beside(result.preference, 'before', before.preference),
    'paraphrases p(new) > p(old)': beside(result.paraphrase, 'before', before.paraphrase),
    'paraphrases, target is argmax': share(result.paraphraseArgmax),
    'neighbours unchanged': share(result.neighboursUnchanged),
    'perplexity, edited / base': result.perplexityRatio.toFixed(4),
    'ordinary tokens behind a gate': share(result.ordinaryOpenShare),
    'time per correction': `${result.secondsPerCorrection.toFixed(2)} s`,
  };
  for (const [stage, seconds] of Object.entries(result.stages))
    rows[`  ${stage}`] = `${(seconds / corrections).toFixed(3)} s`;
  rows['peak memory'] = `${(result.peakRssBytes / 1e9).toFixed(2)} GB`;
  const lines = Object.entries(rows).map(([name, value]) => name.padEnd(32) + value);
  return `\n${lines.join('\n')}\n`;
}
