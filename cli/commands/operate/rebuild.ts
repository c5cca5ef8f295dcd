import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { Configuration } from '../../../infra/config/configuration.ts';
import { engineOptions, parametersOf } from '../../../infra/config/engine-options.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { RebuildRequest } from '../../../operations/rebuild/rebuild.ts';
import { attached } from '../../../infra/local/system-state.ts';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import type { HyperParameterOverrides } from '../../../schemas/editing.ts';
import { hyperParameterOverrides } from '../../../schemas/hyper-parameters.ts';
import type { Versions } from '../../../versions/versions.ts';
import { CommandFailure, notRunning } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification, type ExitCode } from '../../session/command.ts';
import { listenForInterruption } from '../../terminal/interruption.ts';
import type { Session } from '../../session/session.ts';
import { stepsOn, type Steps } from '../../terminal/steps.ts';
import { comparisonText } from '../../words/comparison-text.ts';
import { wholeNumber } from '../../input/option-values.ts';
import { compareWithSteps } from './compare.ts';

interface Options {
  lineage?: string;
  as: string;
  from: 'log' | 'kafka';
  to?: number;
  model?: string;
  hyperParameters?: HyperParameterOverrides;
  parameterSet?: string;
  dryRun?: boolean;
  compareOnly?: boolean;
  anyway?: boolean;
}

/** `errata rebuild`: a lineage made again, as a lineage of its own. */
const rebuild: CommandSpecification<Options> = {
  usage: 'rebuild',
  summary: 'make a lineage again from its log or its records',
  description: `Makes every version of a lineage again, in this process alone, and writes it as another lineage into the version log. On the same model each search for targets is run again as it was asked, so that on the same machine the pairs agree to the last bit; on another within a tolerance. It says which, version by version, and exits with 1 where neither holds. Stopped or killed, the same command goes on where it was.
With --from kafka the words of each correction are checked against its record in Kafka; a lineage whose log is lost is edited anew from all records of its topic.
With --model, --hyper-parameters or --parameter-set it makes a fork: what was asked for is edited anew and the verdict decides. Then both lineages are asked the same (errata compare does that again).`,
  examples: [
    [
      'rebuild --as checked',
      'does the log say what the model says? compares each version with its original',
    ],
    ['rebuild --as checked --from kafka', "the same, with the words of Kafka's records"],
    ['rebuild --as checked --dry-run', 'what would be done'],
    ['rebuild --as checked --compare-only', 'compares once more what was rebuilt before'],
    ['rebuild --as on-gpt2 --model openai-community/gpt2', 'a fork on another base model'],
    [
      `rebuild --as wider --hyper-parameters '{"layers": [4, 5, 6]}'`,
      'a fork with other hyper-parameters',
    ],
  ],
  operation: 'rebuild the lineage',
  options: (command) =>
    command
      .option('--lineage <name>', 'the lineage to be rebuilt (default: the first one)')
      .requiredOption('--as <name>', 'the lineage that is written')
      .option(
        '--from <source>',
        'log, or kafka: the words are those of the records',
        sourceNamed,
        'log',
      )
      .option('--to <version>', 'up to this version (default: HEAD)', wholeNumber)
      .option('--model <path or id>', 'another base model: a fork')
      .option(
        '--hyper-parameters <json>',
        "other hyper-parameters, laid over the lineage's own (with --model, over the model's): a fork",
        hyperParametersNamed,
      )
      .option(
        '--parameter-set <file>',
        'a file of hyper-parameters, as `errata tune` writes it: a fork',
      )
      .option('--dry-run', 'say what would be done, and do nothing')
      .option('--compare-only', 'rebuild nothing, compare what is there')
      .option(
        '--anyway',
        'also from a log that `errata verify` finds damaged: up to its last sound version',
      ),
  async run(session, options) {
    const own = session.configuration();
    const lineage = options.lineage ?? own.lineages[0]!;
    for (const name of [lineage, options.as])
      if (!LINEAGE_NAME.test(name))
        throw usage(
          `"${name}" is no name of a lineage`,
          `A name is of the form ${LINEAGE_NAME.source}.`,
        );
    const forked =
      options.model !== undefined ||
      options.hyperParameters !== undefined ||
      options.parameterSet !== undefined;
    const steps = stepsOn(session.output);
    const versions = openVersions(own);
    await requireSound(versions, lineage, options.anyway === true, steps);
    const request: RebuildRequest = {
      lineage,
      as: options.as,
      from: options.from,
      to: options.to ?? null,
      fork: forked,
      settings: own.settings[lineage] ?? own.settings[own.lineages[0]!]!,
    };
    const job: Job = {
      session,
      options,
      own,
      other: forkConfiguration(session, options),
      versions,
      request,
      steps,
    };
    if (options.dryRun === true) return await tellPlan(job);
    if (options.compareOnly === true) return await compareOnly(job);
    return await rebuildNow(job);
  },
};

export default rebuild;

interface Job {
  session: Session;
  options: Options;
  own: Configuration;
  /** With what a fork is made. */
  other: Configuration;
  versions: Versions;
  request: RebuildRequest;
  steps: Steps;
}

async function rebuildNow(job: Job): Promise<ExitCode> {
  const { session, options, own, other, versions, request, steps } = job;
  const { output } = session;
  const { rebuildLineage } = await import('../../../operations/rebuild/rebuild.ts');
  const { Workplaces } = await import('../../../operations/rebuild/workplace.ts');
  const { ThreadEngine } = await import('../../../model/engine/thread-engine.ts');
  const { rebuiltText, isReproduced } = await import('../../words/rebuild-text.ts');
  const kafka = options.from === 'kafka' ? await kafkaOf(job) : null;
  const asked = await forkParameters(job);
  const workplaces = new Workplaces(
    (parameters) =>
      ThreadEngine.open(
        {
          ...engineOptions(parameters === null ? other : own),
          ...(parameters !== null ? { parameters } : asked === null ? {} : { parameters: asked }),
        },
        (label, share) => steps.at(label, Math.round(100 * share), 100),
      ),
    versions,
  );
  let stopped = false;
  const interruption = listenForInterruption();
  void interruption.came.then(() => {
    stopped = true;
    output.note('Stopping once this version is made; the same command goes on from there.');
  });
  try {
    const rebuilt = await rebuildLineage(request, {
      versions,
      workplaces,
      kafka: kafka === null ? null : () => kafka.clients,
      progress: (label, done, of) => steps.at(label, done, of),
      stopped: () => stopped,
    });
    await workplaces.close();
    steps.end();
    const comparison =
      rebuilt.kind === 'fork' && !rebuilt.interrupted && rebuilt.head > 0
        ? await compareFork(job)
        : null;
    output.result({ ...rebuilt, comparison }, () =>
      [
        rebuiltText(rebuilt, output),
        ...(comparison === null ? [] : ['', comparisonText(comparison, output)]),
      ].join('\n'),
    );
    if (rebuilt.interrupted) return EXIT.interrupted;
    return isReproduced(rebuilt) ? EXIT.ok : EXIT.failure;
  } catch (error) {
    steps.fail();
    throw error;
  } finally {
    interruption.end();
    await workplaces.close();
    await kafka?.clients.close();
  }
}

/** The one model after the other; what the fork's side was made with is in its entries. */
async function compareFork({ own, other, versions, request, steps }: Job) {
  return await compareWithSteps(
    { log: versions.log(request.lineage), version: request.to, model: engineOptions(own) },
    { log: versions.log(request.as), version: null, model: engineOptions(other) },
    steps,
  );
}

async function compareOnly(job: Job): Promise<ExitCode> {
  const { session, versions, request, steps } = job;
  const { output } = session;
  const [source, rebuilt] = [versions.log(request.lineage), versions.log(request.as)];
  const { latest } = await rebuilt.read();
  if (latest === null)
    throw usage(
      `lineage ${request.as} has no versions, so there is nothing to compare`,
      'Without --compare-only it is rebuilt.',
    );
  const { dueVersions } = await import('../../../operations/rebuild/rebuild.ts');
  const { sameParameters } = await import('../../../operations/rebuild/workplace.ts');
  const due = await dueVersions(source, request.to);
  if (due === 0)
    throw usage(
      `lineage ${request.lineage} has no versions, so there is nothing to compare with`,
      '`errata log` lists the versions of a lineage.',
    );
  const { base, parameters } = (await source.entry(due)).entry;
  if (
    base.sha256 !== latest.entry.base.sha256 ||
    !sameParameters(parameters, latest.entry.parameters)
  ) {
    const comparison = await compareFork(job);
    output.result(comparison, () => comparisonText(comparison, output));
    return EXIT.ok;
  }
  const { compareVersions } = await import('../../../operations/rebuild/reproduction.ts');
  const { reproductionText } = await import('../../words/rebuild-text.ts');
  const reproduction = await compareVersions(source, rebuilt, due, (version) =>
    steps.at('comparing the versions', version, due),
  );
  steps.end();
  output.result(reproduction, () => reproductionText(reproduction, output));
  return reproduction.reproduces === 'no' ? EXIT.failure : EXIT.ok;
}

async function tellPlan(job: Job): Promise<ExitCode> {
  const { session, versions, request } = job;
  const { planRebuild } = await import('../../../operations/rebuild/rebuild-plan.ts');
  const { planText } = await import('../../words/rebuild-text.ts');
  const kafka = request.from === 'kafka' ? await kafkaOf(job) : null;
  try {
    const plan = await planRebuild(versions, request, kafka?.clients.cluster ?? null);
    session.output.result({ dryRun: true, ...plan }, () => planText(plan, session.output));
    return plan.obstacles.length === 0 ? EXIT.ok : EXIT.failure;
  } finally {
    await kafka?.clients.close();
  }
}

async function requireSound(
  versions: Versions,
  lineage: string,
  anyway: boolean,
  steps: Steps,
): Promise<void> {
  const { findings } = await versions.verify(lineage, (objects) =>
    steps.at(`verifying ${lineage}`, objects, null),
  );
  steps.end();
  if (findings.length === 0 || anyway) return;
  const [first] = findings;
  throw new CommandFailure(
    'rebuild the lineage',
    `its log is damaged: ${first!.object} ${first!.problem}${findings.length > 1 ? `, and ${findings.length - 1} findings more` : ''}`,
    `\`errata verify --lineage ${lineage}\` lists them; --anyway rebuilds what can be read of it.`,
  );
}

async function kafkaOf({ session, own }: Job) {
  const configuration = attached(own, session.system(own));
  if (configuration.kafka.brokers.length === 0) throw notRunning('read the records', own.home);
  return { clients: (await import('../../session/clients.ts')).clientsOf(configuration) };
}

function forkConfiguration(session: Session, { model, parameterSet }: Options): Configuration {
  return session.configuration({
    ...(model === undefined ? {} : { ERRATA_MODEL: model }),
    // What is configured was chosen for the configured model and set.
    ...(model === undefined && parameterSet === undefined
      ? {}
      : {
          ERRATA_HYPER_PARAMETERS: '{}',
          ERRATA_PARAMETER_SET:
            parameterSet === undefined
              ? ''
              : resolve(session.surroundings.workingDirectory, parameterSet),
        }),
  });
}

/** Null: those that the fork's configuration has. */
async function forkParameters({
  options,
  other,
  versions,
  request,
}: Job): Promise<HyperParameterOverrides | null> {
  if (
    !request.fork ||
    (options.model === undefined &&
      options.parameterSet === undefined &&
      options.hyperParameters === undefined)
  )
    return null;
  const { history } = await versions.log(request.lineage).readSound();
  const own =
    options.model === undefined && options.parameterSet === undefined && history.latest !== null
      ? (history.latest.entry.parameters as HyperParameterOverrides)
      : parametersOf(other);
  const asked = options.hyperParameters ?? {};
  return {
    ...own,
    ...asked,
    ...(own.gate === undefined && asked.gate === undefined
      ? {}
      : { gate: { ...own.gate, ...asked.gate } }),
  };
}

function usage(why: string, mend: string): CommandFailure {
  return new CommandFailure('rebuild the lineage', why, mend, EXIT.usage);
}

function sourceNamed(text: string): string {
  if (text !== 'log' && text !== 'kafka') throw new InvalidArgumentError('It can be log or kafka.');
  return text;
}

function hyperParametersNamed(text: string): HyperParameterOverrides {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('It must be a JSON object.');
  }
  const read = hyperParameterOverrides.safeParse(value);
  if (!read.success)
    throw new InvalidArgumentError(
      read.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '),
    );
  return read.data as HyperParameterOverrides;
}
