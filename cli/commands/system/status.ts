import type { PartitionLag } from '../../../pipelines/kafka/kafka.ts';
import type { LineageStatus } from '../../../pipelines/workflows/contract.ts';
import type { Configuration } from '../../../infra/config/configuration.ts';
import type { AliasRecord } from '../../../schemas/alias.ts';
import { undoInWords } from '../../words/undo-text.ts';
import { attached, type SystemState } from '../../../infra/local/system-state.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import type { Clients } from '../../session/clients.ts';
import { failureOf } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';
import { duration, type Output } from '../../terminal/output.ts';

const ASK_WAIT_MS = 8_000;
const UNDOS_SHOWN_MAX = 3;

interface LineageReport {
  lineage: string;
  head: { version: number; hash: string | null };
  corrections: number;
  /** The last word on each alias; `stable` is what is served where a request names no version. */
  aliases: AliasRecord[];
  /** Null where Temporal or the workflow does not answer; the reason is in `problems`. */
  workflow: LineageStatus | null;
  lag: PartitionLag[] | null;
}

interface StatusReport {
  home: string;
  running: boolean;
  system: SystemState | null;
  lineages: LineageReport[];
  problems: string[];
}

/** `errata status`: what runs, where, how far ingest is behind, what waits, where HEAD stands. */
const status: CommandSpecification<object> = {
  usage: 'status',
  summary: 'show what runs, what waits and where HEAD stands',
  description:
    'Shows the processes and servers of this data folder, and for each lineage its HEAD, how far ingest is behind in Kafka, what waits in the buffer and which batch is being edited, whether it is frozen and how that ends, where its aliases stand and what was undone. Exit code 3 when nothing runs (HEAD is shown all the same).',
  examples: [
    ['status', 'the state of everything'],
    ['status --json', 'the same for a program'],
  ],
  operation: 'read the status',
  options: () => {},
  async run(session) {
    const own = session.configuration();
    const system = session.system(own);
    const report = await reportOf(attached(own, system), system);
    session.output.result(report, () => describe(session.output, report));
    return report.running ? EXIT.ok : EXIT.notRunning;
  },
};

export default status;

async function reportOf(
  configuration: Configuration,
  system: SystemState | null,
): Promise<StatusReport> {
  const running =
    system !== null ||
    (configuration.kafka.brokers.length > 0 && configuration.temporal.address !== '');
  const problems: string[] = [];
  const versions = openVersions(configuration);
  const asked = await answersOf(configuration, running, problems);
  const lineages: LineageReport[] = [];
  for (const lineage of configuration.lineages) {
    const log = versions.log(lineage);
    const history = await log.read();
    const { aliases } = await log.readAliases();
    lineages.push({
      lineage,
      head: history.head,
      corrections: history.active.size,
      aliases: [...aliases.current.values()],
      workflow: asked.get(lineage)?.workflow ?? null,
      lag: asked.get(lineage)?.lag ?? null,
    });
  }
  return { home: configuration.home, running, system, lineages, problems };
}

type Answers = Map<string, Pick<LineageReport, 'workflow' | 'lag'>>;

async function answersOf(
  configuration: Configuration,
  running: boolean,
  problems: string[],
): Promise<Answers> {
  const answers: Answers = new Map();
  if (!running) return answers;
  const clients: Clients = (await import('../../session/clients.ts')).clientsOf(configuration);
  try {
    await Promise.all(
      configuration.lineages.map(async (lineage) => {
        const [workflow, lag] = await Promise.all([
          clients
            .lineageStatus(lineage, ASK_WAIT_MS)
            .catch((error: unknown) =>
              noted(problems, `the workflow of ${lineage} does not answer`, error),
            ),
          inTime(clients.lag(lineage)).catch((error: unknown) =>
            noted(problems, `Kafka does not tell how far ${lineage} is behind`, error),
          ),
        ]);
        answers.set(lineage, { workflow, lag });
      }),
    );
  } finally {
    await clients.close();
  }
  return answers;
}

function noted(problems: string[], what: string, error: unknown): null {
  const { why, mend } = failureOf('', error);
  problems.push(`${what}: ${why}${mend === null ? '' : `. ${mend}`}`);
  return null;
}

async function inTime<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no answer within ${ASK_WAIT_MS / 1_000} s`)),
      ASK_WAIT_MS,
    );
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

function describe(output: Output, report: StatusReport): string {
  const { bold, dim, green, red, yellow } = output.colours;
  const lines: string[] = [];
  if (report.system === null) {
    lines.push(
      report.running
        ? 'Kafka and Temporal are named by the configuration; `errata up` does not run here.'
        : `${yellow('Nothing runs')} of ${report.home}. Start it with ${bold('errata up')}.`,
    );
  } else {
    const { system } = report;
    const since = (iso: string | null): string =>
      iso === null ? '' : duration(Date.now() - Date.parse(iso));
    const stateText = {
      ready: green('ready'),
      starting: yellow('starting'),
      'waiting to restart': red('waiting to restart'),
      failed: red('failed'),
      stopped: dim('stopped'),
    };
    const rows = [
      [
        'kafka',
        green('ready'),
        system.kafka.brokers.join(', '),
        String(system.kafka.pid ?? ''),
        '',
        '0',
      ],
      [
        'temporal',
        green('ready'),
        `${system.temporal.address}  ${system.temporal.uiUrl ?? ''}`,
        String(system.temporal.pid ?? ''),
        '',
        '0',
      ],
      ...system.processes.map((process) => [
        process.name,
        stateText[process.state] + (process.step === null ? '' : ` ${dim(process.step)}`),
        process.name === 'serve'
          ? (system.serveUrl ?? '')
          : process.port === null
            ? ''
            : `127.0.0.1:${process.port}`,
        String(process.mark?.pid ?? ''),
        since(process.startedAt),
        String(process.restarts),
      ]),
    ];
    lines.push(
      `${bold('System')} of ${report.home}, ${system.state} for ${since(system.startedAt)}`,
      output.table(['process', 'state', 'where', 'pid', 'up', 'restarts'], rows),
    );
  }
  for (const lineage of report.lineages) {
    lines.push('', `${bold(`Lineage ${lineage.lineage}`)}`);
    lines.push(
      `  HEAD          ${lineage.head.version === 0 ? 'version 0, the base model' : `version ${lineage.head.version} (${lineage.head.hash?.slice(0, 8)}), ${lineage.corrections} corrections hold`}`,
    );
    for (const { alias, version, reason, by } of lineage.aliases) {
      lines.push(
        `  alias         ${alias} ${version === null ? 'follows HEAD' : yellow(`is held on ${version === 0 ? 'the base model' : `version ${version}`}`)}${reason === '' ? '' : `: ${reason}`} ${dim(`(${by})`)}`,
      );
      if (version !== null)
        lines.push(
          `                ${dim('→')} errata alias ${alias} head --lineage ${lineage.lineage}`,
        );
    }
    if (lineage.lag !== null)
      lines.push(
        `  Kafka         ${lineage.lag.reduce((sum, { lag }) => sum + lag, 0)} records not yet taken ${dim(`(${lineage.lag.map(({ partition, lag }) => `${partition}: ${lag}`).join(', ')})`)}`,
      );
    if (lineage.workflow !== null) {
      const { workflow } = lineage;
      lines.push(
        `  buffer        ${workflow.waiting} waiting${workflow.waitingSince === null ? '' : `, the first for ${duration(Date.now() - workflow.waitingSince)}`}`,
      );
      lines.push(
        `  batch         ${workflow.running === null ? 'none' : `${workflow.running.batchId}, ${workflow.running.revisions} revisions, for ${duration(Date.now() - workflow.running.startedAt)}`}  ${dim(`(${workflow.batches} so far)`)}`,
      );
      const outcomes = Object.entries(workflow.outcomes).filter(([, count]) => count > 0);
      if (outcomes.length > 0)
        lines.push(
          `  outcomes      ${outcomes.map(([name, count]) => `${name.toLowerCase().replaceAll('_', ' ')} ${count}`).join(', ')}`,
        );
      if (workflow.held !== null)
        lines.push(
          `  ${red('kept batch')}    ${workflow.held.batchId}, ${workflow.held.revisions} revisions, failed ${workflow.held.attempts} times ${dim(`(${workflow.held.workflowId})`)}`,
        );
      const { undos } = workflow;
      if (undos.running !== null)
        lines.push(
          `  undo          ${undoInWords(undos.running)}, under way ${dim(`(${undos.running.workflowId})`)}`,
        );
      for (const undo of undos.waiting) lines.push(`  undo          ${undoInWords(undo)}, waits`);
      for (const undo of undos.ended.slice(-UNDOS_SHOWN_MAX))
        lines.push(
          `  undo          ${undoInWords(undo)}: ${undo.kind === 'undone' ? `done in version ${undo.version}` : `${undo.kind === 'nothing' ? 'nothing to do' : undo.kind}, ${undo.reason ?? ''}`} ${dim(`(${duration(Date.now() - undo.endedAt)} ago)`)}`,
        );
      if (workflow.frozen !== null)
        lines.push(
          `  ${red('frozen')}        for ${duration(Date.now() - workflow.frozen.since)}: ${workflow.frozen.reason}`,
          `                ${dim('→')} errata resume --lineage ${lineage.lineage}`,
        );
    }
  }
  for (const problem of report.problems) lines.push(`${yellow('!')} ${problem}`);
  return lines.join('\n');
}
