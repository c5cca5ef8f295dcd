import { InvalidArgumentError } from 'commander';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import {
  hyperParameterOverrides,
  type HyperParameterOverrides,
} from '../../../schemas/hyper-parameters.ts';
import { issueText } from '../../input/correction-input.ts';
import { matching, oneOf, wholeNumber } from '../../input/option-values.ts';
import { command, flag, option, required } from '../../session/command.ts';

const lineageName = matching(LINEAGE_NAME, `a name of the form ${LINEAGE_NAME.source}`);

/** `errata rebuild`: rebuilds a lineage as a new lineage. */
export default command({
  usage: 'rebuild',
  summary: 'make a lineage again from its log or its records',
  description: `Makes every version of a lineage again and writes it to the version log as another
lineage. On the same machine the pairs are equal to the last bit, on another within a tolerance;
exits with 1 where one differs by more. If it is stopped, the same command continues.

With --from kafka each correction is compared with its record; a lineage whose log is lost is edited
anew from its topic. With --model, --hyper-parameters or --parameter-set it makes a fork: the
corrections are edited anew, and both lineages are compared as by \`errata compare\`.`,
  examples: `
rebuild --as checked               compares each version with its original
rebuild --as checked --from kafka  the same, with the text of Kafka's records
rebuild --as wider --hyper-parameters '{"layers": [4, 5, 6]}'
  a fork with other hyper-parameters`,
  operation: 'rebuild the lineage',
  options: {
    lineage: option(
      '--lineage <name>',
      'the lineage to rebuild (default: the first one)',
      lineageName,
    ),
    as: required('--as <name>', 'the lineage that is written', lineageName),
    from: option(
      '--from <source>',
      'log, or kafka: with the text of the records',
      oneOf('log', 'kafka'),
      'log',
    ),
    to: option('--to <version>', 'up to this version (default: HEAD)', wholeNumber),
    model: option('--model <path or id>', 'another base model: a fork'),
    hyperParameters: option(
      '--hyper-parameters <json>',
      `other hyper-parameters, laid over the lineage's own (with --model, over the model's): a
      fork`,
      hyperParametersIn,
    ),
    parameterSet: option(
      '--parameter-set <file>',
      'a file of hyper-parameters, as `errata tune` writes it: a fork',
    ),
    dryRun: flag('--dry-run', 'show what would be done, and do nothing'),
    compareOnly: flag('--compare-only', 'rebuild nothing, compare what exists'),
    anyway: flag(
      '--anyway',
      'also from a log that `errata verify` finds damaged: up to its last sound version',
    ),
  },
  run: async (session, options) =>
    await (await import('./rebuild-job.ts')).runRebuild(session, options),
});

function hyperParametersIn(text: string): HyperParameterOverrides {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('Expected a JSON object.');
  }
  const read = hyperParameterOverrides.safeParse(value);
  if (read.success) return read.data as HyperParameterOverrides;
  throw new InvalidArgumentError(read.error.issues.map(issueText).join('; '));
}
