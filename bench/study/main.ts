/** `npm run study:<name>`: the studies, each resumable in its folder. */
import { Command, InvalidArgumentError } from 'commander';
import { json, listOf, namesIn, positive, range, runCommand, type Range } from '../command.ts';
import { runAblation, type AblationOptions } from './ablation.ts';
import { runGates, type GatesOptions } from './gates.ts';
import { runStability, type StabilityOptions } from './stability.ts';
import { runVerdict, type VerdictOptions } from './verdict/verdict.ts';

const program = new Command('npm run study:').description(
  `Studies of the editor on records in CounterFact's form. Each keeps its measurements and resumes
from there.`,
);
const UNMEASURED = [
  '--unmeasured <ranges>',
  'records that are edited, but not measured',
  ranges,
  ranges('120:500'),
] as const;

study('stability', 'measures against the number of consecutive batches and of instances per batch')
  .option('--records <ranges>', 'the stream, such as 800:1800,280:500', ranges, ranges('0:2000'))
  .option(...UNMEASURED)
  .option('--batch <n>', 'corrections per batch of the stream', positive, 50)
  .option(
    '--marks <n,n,...>',
    'batches after which the stream is measured',
    listOf(positive),
    [1, 2, 4, 8, 12, 16, 20, 24, 32, 40],
  )
  .option(
    '--total <n>',
    'corrections of each stream that is edited in batches of another size',
    positive,
    200,
  )
  .option('--sizes <n,n,...>', 'these sizes', listOf(positive), [1, 5, 20, 50, 100, 200])
  .option('--only <part>', 'batches or sizes', (text) => namesIn(['batches', 'sizes'])(text)[0])
  .option('--sample <n>', 'records measured at a mark, at most', positive, 200)
  .action((options: StabilityOptions) => runCommand('study', () => runStability(options)));

study('gates', 'every gate before the same weights, at growing numbers of corrections')
  .option('--records <ranges>', 'the stream', ranges, ranges('500:2000,0:500'))
  .option(...UNMEASURED)
  .option('--batch <n>', 'corrections per batch', positive, 50)
  .option(
    '--marks <n,n,...>',
    'corrections after which the gates are compared',
    listOf(positive),
    [30, 300, 1000, 2000],
  )
  .option(
    '--gates <json>',
    'gates as {"name": {"kind": ..., "floor": ...}} (default: each kind with its defaults)',
    json,
  )
  .option('--sample <n>', 'records measured at a mark, at most', positive, 200)
  .action((options: GatesOptions) => runCommand('study', () => runGates(options)));

study('ablation', 'what each part of the editor contributes: a table of variants')
  .option('--records <ranges>', 'the stream', ranges, ranges('0:120'))
  .option('--batch <n>', 'corrections per batch', positive, 30)
  .option('--variants <json>', 'further variants, as {"name": {hyper-parameters}}', json)
  .option(
    '--only <words>',
    'only variants whose names contain one of these words, with commas between',
    listOf(word),
  )
  .option('--sample <n>', 'records measured, at most', positive, 200)
  .action((options: AblationOptions) => runCommand('study', () => runAblation(options)));

study('verdict', 'how often the verdict passes bad batches and refuses good ones')
  .option(
    '--records <ranges>',
    'the stream; its first records become the version on which batches are tried',
    ranges,
    ranges('280:450'),
  )
  .option('--prepared <n>', 'how many of them', positive, 50)
  .option('--batch <n>', 'corrections per batch', positive, 10)
  .action((options: VerdictOptions) => runCommand('study', () => runVerdict(options)));

await program.parseAsync();

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
      'for points, streams and reports (default: below studies/ of the data folder)',
    )
    .option(
      '--model <path>',
      'a model folder or file, or a Hugging Face id that is already fetched',
    )
    .option(
      '--text <file>',
      "ordinary text for the key statistics instead of the model's own samples",
    )
    .option('--parameters <json>', 'hyper-parameters to change', json, {});
}

function ranges(text: string): Range[] {
  return text === 'none' ? [] : listOf(range)(text);
}

function word(text: string): string {
  if (text === '') throw new InvalidArgumentError('expected words with commas between');
  return text;
}
