import type { Configuration } from '../../../infra/config/configuration.ts';
import {
  nothingFound,
  together,
  type Failure,
  type Findings,
} from '../../../operations/failures/failure.ts';
import { logFailures } from '../../../operations/failures/log-failures.ts';
import type { LineageStatus } from '../../../pipelines/workflows/contract.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { VersionLog } from '../../../versions/log/version-log.ts';
import type { Clients } from '../../session/clients.ts';
import { command, EXIT, option } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { within } from '../../session/within.ts';
import { reasonOf } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, red, yellow } from '../../terminal/colours.ts';
import { ago, counted, shortened } from '../../terminal/text.ts';

/** `errata failures`: lists every open failure with the command that fixes it. */
export default command({
  usage: 'failures',
  summary: 'list open failures and the command that fixes each',
  description: `Lists every open failure, each with its cause and the one command that fixes it:
damaged logs, frozen lineages, workflows and activities that fail, task queues without a worker,
quarantined corrections, dead letters, records that no ingest reads. Failures that were fixed since
are only counted. Exits with 1 when a failure is open, and with 3 when none was found but not
everything could be searched.`,
  examples: `
failures                 what needs attention
failures --lineage news  of one lineage`,
  operation: 'look for failures',
  options: { lineage: option('--lineage <name>', 'which lineage (default: all of them)') },
  async run(session, options) {
    const configuration = session.attached();
    const lineages = session.lineages(configuration, options.lineage);
    const found = together(await findingsOf(session, configuration, lineages));
    session.output.result(found, () => findingsText(session.output, found));
    if (found.failures.length > 0) return EXIT.failure;
    return found.unseen.length > 0 ? EXIT.notRunning : EXIT.ok;
  },
});

async function findingsOf(
  session: Session,
  configuration: Configuration,
  lineages: readonly string[],
): Promise<Findings[]> {
  const versions = openVersions(configuration);
  const logs = lineages.map((lineage) => versions.log(lineage));
  const findings = await Promise.all(
    logs.map((log) => search(`the version log of ${log.lineage}`, () => logFailures(log))),
  );
  const temporal = configuration.temporal.address !== '';
  const kafka = configuration.kafka.brokers.length > 0;
  if (!temporal)
    findings.push(
      unseen('workflows and frozen lineages: Temporal does not run here (`errata up` starts it)'),
    );
  if (!kafka)
    findings.push(
      unseen('dead letters and waiting records: Kafka does not run here (`errata up` starts it)'),
    );
  if (!temporal && !kafka) return findings;
  const running = await session.withClients(configuration, async (clients) => {
    const found: Findings[] = [];
    for (const log of logs)
      found.push(...(await runningFailures(configuration, clients, log, { temporal, kafka })));
    return found;
  });
  return [...findings, ...running];
}

/** Finds one lineage's failures in Temporal and Kafka. */
async function runningFailures(
  configuration: Configuration,
  { lineages, cluster, format }: Clients,
  log: VersionLog,
  { temporal, kafka }: { temporal: boolean; kafka: boolean },
): Promise<Findings[]> {
  const { temporalConverter } = await import('../../../infra/config/connections.ts');
  const { workflowFailures } = await import('../../../operations/failures/workflow-failures.ts');
  const { kafkaFailures } = await import('../../../operations/failures/kafka-failures.ts');
  const dataConverter = temporalConverter(configuration);
  let status: LineageStatus | null = null;
  const ofTemporal = async (): Promise<Findings> => {
    try {
      const found = await workflowFailures({ lineages, dataConverter, log });
      ({ status } = found);
      return found;
    } catch (error) {
      throw lineages.explained(error);
    }
  };
  const ofKafka = () => kafkaFailures({ cluster, format, log, status });
  const { lineage } = log;
  // Kafka's failures depend on the status from Temporal.
  return [
    ...(temporal ? [await search(`workflows and frozen state of ${lineage}`, ofTemporal)] : []),
    ...(kafka ? [await search(`dead letters and waiting records of ${lineage}`, ofKafka)] : []),
  ];
}

/** Returns the findings, or a finding that the search failed. */
async function search(what: string, find: () => Promise<Findings>): Promise<Findings> {
  try {
    return await within(SEARCH_WAIT_MS, find());
  } catch (error) {
    return unseen(`${what}: ${reasonOf(error)}`);
  }
}

/** Longer than any single call of a search may take. */
const SEARCH_WAIT_MS = 60_000;

function unseen(what: string): Findings {
  return { ...nothingFound(), unseen: [what] };
}

function findingsText(output: Output, { failures, unseen, more, healed }: Findings): string {
  const lines = failures.flatMap((failure) => {
    const { kind, subject, since, lineage, heal } = failure;
    const when = since === null ? '' : `  ${dim(ago(since))}`;
    const where = subject === lineage ? '' : dim(`  ${lineage}`);
    return [
      `${red('✗')} ${bold(kind)}  ${shortened(subject, output.columns - 40)}${when}${where}`,
      `    ${dim('why')}  ${shortened(causeText(failure), 3 * output.columns)}`,
      `    ${dim('fix')}  ${bold(heal)}`,
    ];
  });
  if (more > 0) lines.push(dim(`and ${more} more`));
  if (failures.length === 0)
    lines.push(
      unseen.length === 0 ? green('No failure is open.') : 'No open failure was found so far.',
    );
  if (healed > 0) lines.push(dim(`Fixed since: ${counted(healed, 'failure')}.`));
  for (const what of unseen) lines.push(`${yellow('!')} not searched: ${what}`);
  return lines.join('\n');
}

function causeText({ cause, measured = {} }: Failure): string {
  const numbers = Object.entries(measured).map(([name, value]) => {
    return `${name} ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`;
  });
  return [cause, numbers.join(', ')].filter((part) => part !== '').join('; ');
}
