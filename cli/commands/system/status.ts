import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached, type SystemState } from '../../../infra/local/system-state.ts';
import type { Clients } from '../../session/clients.ts';
import { command, EXIT } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { within } from '../../session/within.ts';
import { reasonOf } from '../../terminal/command-failure.ts';
import {
  statusReportText,
  type LineageReport,
  type StatusReport,
} from '../../words/status-text.ts';

const ANSWER_WAIT_MS = 8_000;

/** `errata status`: what runs, what waits, and the HEAD of each lineage. */
export default command({
  usage: 'status',
  summary: 'show what runs, what waits and the HEAD of each lineage',
  description: `Shows the processes and servers of this data folder, and for each lineage its HEAD,
how far ingest is behind in Kafka, what waits in the buffer, which batch is being edited, whether
the lineage is frozen and how to resume it, its aliases and its undos. Exits with 3 when nothing
runs; HEAD is shown all the same.`,
  examples: `
status         the state of everything
status --json  the same for a program`,
  operation: 'read the status',
  async run(session) {
    const own = session.configuration();
    const system = session.system(own);
    const report = await reportOf(session, attached(own, system), system);
    session.output.result(report, () => statusReportText(session.output, report));
    return report.running ? EXIT.ok : EXIT.notRunning;
  },
});

async function reportOf(
  session: Session,
  configuration: Configuration,
  system: SystemState | null,
): Promise<StatusReport> {
  const { kafka, temporal, home, lineages: names } = configuration;
  const running = system !== null || (kafka.brokers.length > 0 && temporal.address !== '');
  const problems: string[] = [];
  const answers = running
    ? await session.withClients(configuration, (clients) =>
        Promise.all(names.map((lineage) => askLineage(clients, lineage, problems))),
      )
    : [];
  const versions = openVersions(configuration);
  const lineages: LineageReport[] = [];
  for (const [i, lineage] of names.entries()) {
    const log = versions.log(lineage);
    const { head, active } = await log.read();
    const { aliases } = await log.readAliases();
    lineages.push({
      lineage,
      head,
      corrections: active.size,
      aliases: [...aliases.current.values()],
      ...(answers[i] ?? { workflow: null, lag: null }),
    });
  }
  return { home, running, system, lineages, problems };
}

async function askLineage(
  clients: Clients,
  lineage: string,
  problems: string[],
): Promise<Pick<LineageReport, 'workflow' | 'lag'>> {
  const problem = (what: string) => (error: unknown) => {
    problems.push(`${what}: ${reasonOf(error)}`);
    return null;
  };
  const [workflow, lag] = await Promise.all([
    // It has its own bound: a call that is given up is retried by the client, even after `close`.
    clients.lineages
      .status(lineage, ANSWER_WAIT_MS)
      .catch(problem(`the workflow of ${lineage} does not answer`)),
    within(ANSWER_WAIT_MS, clients.lag(lineage)).catch(
      problem(`Kafka does not report the lag of ${lineage}`),
    ),
  ]);
  return { workflow, lag };
}
