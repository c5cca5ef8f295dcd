import type { Configuration } from '../../../infra/config/configuration.ts';
import type { LineageStatus } from '../../../pipelines/workflows/contract.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import { failureOf } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  nothingFound,
  together,
  type Failure,
  type Findings,
} from '../../../operations/failures/failure.ts';
import { logFailures } from '../../../operations/failures/log-failures.ts';
import { duration, shortened, type Output } from '../../terminal/output.ts';

interface Options {
  lineage?: string;
}

/** `errata failures`: what went wrong and is not healed, each with the command that heals it. */
const failures: CommandSpecification<Options> = {
  usage: 'failures',
  summary: 'list what went wrong and the one command that heals each',
  description:
    'Lists everything that went wrong and is not healed, of all lineages or of one: a damaged version log, frozen lineages, batches and undos that failed, timed out or were terminated, activities that are tried again and again, queues that no worker asks, quarantined corrections, dead letters, corrections that no ingest reads, a topic that was made anew. Each comes with its cause and the one command that heals it. What has been healed since (by a later run, a replay, a later correction or a retraction) is counted and not listed. Where Temporal or Kafka is away the rest is looked at, and it is said what was not.\nExit code 0 when nothing is unhealed, 1 when something is, 3 when nothing was found but not everything could be looked at.',
  examples: [
    ['failures', 'what is to be done'],
    ['failures --lineage news', 'of one lineage'],
    ['failures --json', 'the same for a program'],
  ],
  operation: 'look for failures',
  options: (command) =>
    command.option('--lineage <name>', LINEAGE_OPTION[1].replace('the first one', 'all of them')),
  async run(session, options) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const lineages =
      options.lineage === undefined
        ? configuration.lineages
        : [session.lineage(configuration, options.lineage)];
    const found = together(await findingsOf(configuration, lineages));
    session.output.result(found, () => describe(session.output, found));
    return found.failures.length > 0
      ? EXIT.failure
      : found.unseen.length > 0
        ? EXIT.notRunning
        : EXIT.ok;
  },
};

export default failures;

async function findingsOf(
  configuration: Configuration,
  lineages: readonly string[],
): Promise<Findings[]> {
  const versions = openVersions(configuration);
  const findings = await Promise.all(
    lineages.map((lineage) =>
      looked(() => logFailures(versions.log(lineage)), `the version log of ${lineage}`),
    ),
  );
  const [noTemporal, noKafka] = [
    configuration.temporal.address === '',
    configuration.kafka.brokers.length === 0,
  ];
  if (noTemporal)
    findings.push(
      unseen(
        'batches, activities and what is frozen: Temporal does not run here (`errata up` starts it)',
      ),
    );
  if (noKafka)
    findings.push(
      unseen('dead letters and what waits: Kafka does not run here (`errata up` starts it)'),
    );
  if (noTemporal && noKafka) return findings;
  const [{ clientsOf }, { workflowFailures }, { kafkaFailures }, { temporalConverter }] =
    await Promise.all([
      import('../../session/clients.ts'),
      import('../../../operations/failures/workflow-failures.ts'),
      import('../../../operations/failures/kafka-failures.ts'),
      import('../../../infra/config/connections.ts'),
    ]);
  const clients = clientsOf(configuration);
  const dataConverter = temporalConverter(configuration);
  try {
    for (const lineage of lineages) {
      const log = versions.log(lineage);
      let status: LineageStatus | null = null;
      const ofTemporal = async (): Promise<Findings> => {
        const found = await workflowFailures({ lineages: clients.lineages, dataConverter, log });
        ({ status } = found);
        return found;
      };
      if (!noTemporal)
        findings.push(
          await looked(
            ofTemporal,
            `batches, activities and what is frozen of ${lineage}`,
            (error) => clients.lineages.explained(error),
          ),
        );
      if (!noKafka)
        findings.push(
          await looked(
            () => kafkaFailures({ cluster: clients.cluster, format: clients.format, log, status }),
            `dead letters and what waits of ${lineage}`,
          ),
        );
    }
  } finally {
    await clients.close();
  }
  return findings;
}

/** What a look found; where it cannot look, that. */
async function looked(
  look: () => Promise<Findings>,
  at: string,
  told: (error: unknown) => unknown = (error) => error,
): Promise<Findings> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>(
    (_, reject) =>
      (timer = setTimeout(
        () => reject(new Error(`no answer within ${LOOK_WAIT_MS / 1_000} s`)),
        LOOK_WAIT_MS,
      )),
  );
  try {
    return await Promise.race([look(), late]);
  } catch (error) {
    const { why, mend } = failureOf('', told(error));
    return unseen(`${at}: ${why}${mend === null ? '' : `. ${mend}`}`);
  } finally {
    clearTimeout(timer);
  }
}

/** Past the bound of every call that a look makes, and of a Kafka that is silent. */
const LOOK_WAIT_MS = 60_000;

function unseen(what: string): Findings {
  return { ...nothingFound(), unseen: [what] };
}

function describe(
  output: Output,
  { failures: found, unseen: notSeen, more, healed }: Findings,
): string {
  const { bold, dim, green, red, yellow } = output.colours;
  const lines = found.flatMap((failure) => [
    `${red('✗')} ${bold(failure.kind)}  ${shortened(failure.subject, output.columns - 40)}${failure.since === null ? '' : `  ${dim(`${duration(Date.now() - failure.since)} ago`)}`}${failure.subject === failure.lineage ? '' : dim(`  ${failure.lineage}`)}`,
    `    ${dim('why ')}  ${shortened(causeOf(failure), 3 * output.columns)}`,
    `    ${dim('heal')}  ${bold(failure.heal)}`,
  ]);
  if (more > 0) lines.push(dim(`and ${more} more`));
  if (found.length === 0)
    lines.push(
      notSeen.length === 0
        ? green('Nothing is unhealed.')
        : 'Nothing unhealed was found where it was looked.',
    );
  if (healed > 0)
    lines.push(dim(`${healed} failure${healed === 1 ? ' was' : 's were'} healed since.`));
  for (const what of notSeen) lines.push(`${yellow('!')} not looked at: ${what}`);
  return lines.join('\n');
}

function causeOf({ cause, measured = {} }: Failure): string {
  const numbers = Object.entries(measured).map(
    ([name, value]) =>
      `${name} ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`,
  );
  return numbers.length === 0 ? cause : `${cause}; ${numbers.join(', ')}`;
}
