/** `npm run study:<name>`: runs a study, which can be resumed in its folder. */
import { Command, InvalidArgumentError } from 'commander';
import {
  editingOptions,
  json,
  listOf,
  namesIn,
  positive,
  range,
  runCommand,
  type Range,
} from '../command.ts';
import { runAblation, type AblationOptions } from './ablation.ts';
import { runGates, type GatesOptions } from './gates.ts';
import { runStability, type StabilityOptions } from './stability.ts';
import { runVerdict, type VerdictOptions } from './verdict/verdict.ts';

const program = new Command('npm run study:').description(
  `Studies of the editor on records in CounterFact's form. Each keeps its measurements and resumes
from there.`,
);
const STABILITY_MARKS = [1, 2, 4, 8, 12, 16, 20, 24, 32, 40];
const GATE_MARKS = [30, 300, 1000, 2000];
const MARKS = '--marks <n,n,...>';
const SAMPLE = ['--sample <n>', 'records measured at most, at each mark', positive, 200] as const;
const UNMEASURED = '--unmeasured <ranges>';
const NOT_MEASURED = 'records that are edited, but not measured';

study('stability', 'measures by consecutive batches and by instances per batch', '0:2000', 50)
  .option(UNMEASURED, NOT_MEASURED, ranges, ranges('120:500'))
  .option(MARKS, 'batches after which the stream is measured', listOf(positive), STABILITY_MARKS)
  .option('--total <n>', 'corrections of each stream in batches of another size', positive, 200)
  .option('--sizes <n,n,...>', 'these sizes', listOf(positive), [1, 5, 20, 50, 100, 200])
  .option('--only <part>', 'batches or sizes', (text) => namesIn(['batches', 'sizes'])(text)[0])
  .option(...SAMPLE)
  .action((options: StabilityOptions) => runCommand('study', () => runStability(options)));

study('gates', 'every gate before the same weights', '500:2000,0:500', 50)
  .option(UNMEASURED, NOT_MEASURED, ranges, ranges('120:500'))
  .option(MARKS, 'corrections after which gates are compared', listOf(positive), GATE_MARKS)
  .option('--gates <json>', 'as {"name": {"kind": ..., "floor": ...}} (default: each kind)', json)
  .option(...SAMPLE)
  .action((options: GatesOptions) => runCommand('study', () => runGates(options)));

study('ablation', 'what each part of the editor contributes: a table of variants', '0:120', 30)
  .option('--variants <json>', 'further variants, as {"name": {hyper-parameters}}', json)
  .option('--only <words>', 'variants whose names contain one of these words', listOf(word))
  .option(...SAMPLE)
  .action((options: AblationOptions) => runCommand('study', () => runAblation(options)));

study('verdict', 'how often the verdict passes bad batches and refuses good ones', '280:450', 10)
  .option('--prepared <n>', 'first records, the version on which batches are tried', positive, 50)
  .action((options: VerdictOptions) => runCommand('study', () => runVerdict(options)));

await program.parseAsync();

function study(name: string, description: string, records: string, batch: number): Command {
  return editingOptions(program.command(name).description(description))
    .option('--records <ranges>', 'such as 800:1800,280:500', ranges, ranges(records))
    .option('--batch <n>', 'corrections per batch', positive, batch)
    .option('--out <folder>', 'for all that is kept (default: below studies/ of the data folder)');
}

function ranges(text: string): Range[] {
  return text === 'none' ? [] : listOf(range)(text);
}

function word(text: string): string {
  if (text === '') throw new InvalidArgumentError('expected words with commas between');
  return text;
}
