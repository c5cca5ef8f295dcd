/** `npm run study:<name>`: the studies, each resumable in its folder. */
import { Command, InvalidArgumentError } from 'commander';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import { runAblation, type AblationOptions } from './run-ablation.ts';
import { runGates, type GatesOptions } from './run-gates.ts';
import { runStability, type StabilityOptions } from './run-stability.ts';
import { runVerdict, type VerdictOptions } from './run-verdict.ts';
import type { Range } from './study-records.ts';

const program = new Command('npm run study:').description(
  "Studies of the editor on records in CounterFact's form. Each keeps what it has measured and goes on from there.",
);

study(
  'stability',
  'measures against the number of consecutive batches, and of instances per batch: two plots',
)
  .option('--records <ranges>', 'the stream, such as 800:1800,280:500', ranges, ranges('0:2000'))
  .option(
    '--unmeasured <ranges>',
    'records that are edited, but not measured',
    ranges,
    ranges('120:500'),
  )
  .option('--batch <n>', 'corrections per batch of the stream', positive, 50)
  .option(
    '--marks <n,n,...>',
    'batches behind which the stream is measured',
    numbers,
    [1, 2, 4, 8, 12, 16, 20, 24, 32, 40],
  )
  .option(
    '--total <n>',
    'corrections of each stream that is edited in batches of another size',
    positive,
    200,
  )
  .option('--sizes <n,n,...>', 'these sizes', numbers, [1, 5, 20, 50, 100, 200])
  .option('--only <part>', 'batches or sizes', part)
  .option('--sample <n>', 'records measured at a mark, at most', positive, 200)
  .action((options: StabilityOptions) => runStability(options));

study('gates', 'every gate before the same weights, at growing numbers of corrections: a table')
  .option('--records <ranges>', 'the stream', ranges, ranges('500:2000,0:500'))
  .option(
    '--unmeasured <ranges>',
    'records that are edited, but not measured',
    ranges,
    ranges('120:500'),
  )
  .option('--batch <n>', 'corrections per batch', positive, 50)
  .option(
    '--marks <n,n,...>',
    'corrections behind which the gates are compared',
    numbers,
    [30, 300, 1000, 2000],
  )
  .option(
    '--gates <json>',
    'gates to compare, as {"name": {"kind": ..., "floor": ...}}; without it, each kind with its defaults',
    json,
  )
  .option('--sample <n>', 'records measured at a mark, at most', positive, 200)
  .action((options: GatesOptions) => runGates(options));

study('ablation', 'what each part of the editor brings: a table of variants')
  .option('--records <ranges>', 'the stream', ranges, ranges('0:120'))
  .option('--batch <n>', 'corrections per batch', positive, 30)
  .option(
    '--variants <json>',
    'variants beside the built-in ones, as {"name": {hyper-parameters}}',
    json,
  )
  .option(
    '--only <names>',
    'only variants whose names hold one of these words, with commas between',
    words,
  )
  .option('--sample <n>', 'records measured, at most', positive, 200)
  .action((options: AblationOptions) => runAblation(options));

study(
  'verdict',
  'how often the verdict lets bad batches pass and refuses good ones: rates and thresholds',
)
  .option(
    '--records <ranges>',
    'the stream; its first records become the version that batches are tried on',
    ranges,
    ranges('280:450'),
  )
  .option('--prepared <n>', 'how many of them', positive, 50)
  .option('--batch <n>', 'corrections per batch', positive, 10)
  .action((options: VerdictOptions) => runVerdict(options));

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`study: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

function study(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .requiredOption(
      '--data <file>',
      "JSON array of records in CounterFact's form (see npm run bench -- --help)",
    )
    .option(
      '--out <folder>',
      'where points, streams and reports are kept; without it, studies/ of the data folder',
    )
    .option(
      '--model <path>',
      'a model folder or file, or a Hugging Face id that is already fetched',
    )
    .option(
      '--text <file>',
      "ordinary text for the key statistics instead of the model's own samples",
    )
    .option(
      '--parameters <json>',
      'hyper-parameters to change',
      json,
      {} satisfies HyperParameterOverrides,
    );
}

function ranges(text: string): Range[] {
  if (text === 'none') return [];
  return text.split(',').map((one) => {
    const [, from, to] = /^(\d+):(\d+)$/.exec(one.trim()) ?? [];
    if (from === undefined || to === undefined || Number(from) >= Number(to))
      throw new InvalidArgumentError(
        'expected FROM:TO with FROM < TO, several with commas, or none',
      );
    return { from: Number(from), to: Number(to) };
  });
}

function numbers(text: string): number[] {
  return text.split(',').map(positive);
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('expected a whole number of at least 1');
  return value;
}

function part(text: string): 'batches' | 'sizes' {
  if (text !== 'batches' && text !== 'sizes')
    throw new InvalidArgumentError('expected batches or sizes');
  return text;
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('expected JSON');
  }
}
