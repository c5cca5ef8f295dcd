import type { Configuration } from '../../../infra/config/configuration.ts';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { type SystemState, attached } from '../../../infra/local/system-state.ts';
import type { LineageStatus } from '../../../pipelines/workflows/contract.ts';
import type { Clients } from '../../session/clients.ts';
import { EXIT, command } from '../../session/command.ts';
import type { Session } from '../../session/session.ts';
import { within } from '../../session/within.ts';
import { reasonOf } from '../../terminal/command-failure.ts';
import { bold, dim, green, red, yellow } from '../../terminal/colours.ts';
import { ago, duration, type Fields, fieldLines, statusText, table } from '../../terminal/text.ts';
import { undoText } from '../audit/version-text.ts';

const ANSWER_WAIT_MS = 8_000;

/** `errata status`: shows the running processes, waiting records and each lineage's HEAD. */
export default command({
  usage: 'status',
  summary: 'show what runs, what waits and the HEAD of each lineage',
  description: `Shows the processes and servers of this data folder, and for each lineage its HEAD,
how far ingest is behind in Kafka, its buffer, its batch, its aliases and undos, and whether it is
frozen. Exits with 3 when nothing runs; HEAD is shown all the same.`,
  examples: `
status  the state of everything`,
  operation: 'read the status',
  async run(session) {
    const own = session.configuration();
    const system = session.system(own);
    const report = await reportOf(session, attached(own, system), system);
    session.output.result(report, () => statusReportText(report));
    return report.running ? EXIT.ok : EXIT.notRunning;
  },
});

async function reportOf(
  session: Session,
  configuration: Configuration,
  system: SystemState | null,
) {
  const { kafka, temporal, home, lineages: names } = configuration;
  const running = system !== null || (kafka.brokers.length > 0 && temporal.address !== '');
  const problems: string[] = [];
  const answers = running
    ? await session.withClients(configuration, (clients) =>
        Promise.all(names.map((lineage) => askLineage(clients, lineage, problems))),
      )
    : [];
  const versions = openVersions(configuration);
  const reports = names.map(async (lineage, i) => {
    const log = versions.log(lineage);
    const { head, active } = await log.read();
    const aliases = [...(await log.readAliases()).aliases.current.values()];
    const { workflow = null, lag = null } = answers[i] ?? {};
    return { lineage, head, corrections: active.size, aliases, workflow, lag };
  });
  const lineages = await Promise.all(reports);
  return { home, running, system, lineages, problems };
}

/**
 * Returns null if Temporal, the workflow or Kafka does not answer; adds the reason to `problems`.
 */
async function askLineage(clients: Clients, lineage: string, problems: string[]) {
  const problem = (what: string) => (error: unknown) => {
    problems.push(`${what}: ${reasonOf(error)}`);
    return null;
  };
  const [workflow, lag] = await Promise.all([
    // It needs its own bound: the client retries an abandoned call even after `close`.
    clients.lineages
      .status(lineage, ANSWER_WAIT_MS)
      .catch(problem(`the workflow of ${lineage} does not answer`)),
    within(ANSWER_WAIT_MS, clients.lag(lineage)).catch(
      problem(`Kafka does not report the lag of ${lineage}`),
    ),
  ]);
  return { workflow, lag };
}

type StatusReport = Awaited<ReturnType<typeof reportOf>>;
type LineageReport = StatusReport['lineages'][number];

function statusReportText(report: StatusReport): string {
  const system =
    report.system !== null
      ? systemLines(report.home, report.system)
      : report.running
        ? ['Kafka and Temporal are configured; `errata up` does not run here.']
        : [`${yellow('No system')} of ${report.home} runs. Start it with ${bold('errata up')}.`];
  return [
    ...system,
    ...report.lineages.flatMap((lineage) => lineageLines(lineage)),
    ...report.problems.map((problem) => `${yellow('!')} ${problem}`),
  ].join('\n');
}

function systemLines(home: string, system: SystemState): string[] {
  const { kafka, temporal, processes, serveUrl, state, startedAt } = system;
  const since = (iso: string | null): string =>
    iso === null ? '' : duration(Date.now() - Date.parse(iso));
  const colour = {
    ready: green,
    starting: yellow,
    'waiting to restart': red,
    failed: red,
    stopped: dim,
  };
  const server = (name: string, where: string, pid: number | null): string[] => [
    name,
    green('ready'),
    where,
    String(pid ?? ''),
    '',
    '0',
  ];
  const rows = processes.map((process) => {
    const address = process.port === null ? '' : `127.0.0.1:${process.port}`;
    const step = process.step === null ? '' : ` ${dim(process.step)}`;
    return [
      process.name,
      `${colour[process.state](process.state)}${step}`,
      process.name === 'serve' ? (serveUrl ?? '') : address,
      String(process.mark?.pid ?? ''),
      since(process.startedAt),
      String(process.restarts),
    ];
  });
  return [
    `${bold('System')} of ${home}, ${state} for ${since(startedAt)}`,
    table(
      ['process', 'state', 'where', 'pid', 'up', 'restarts'],
      [
        server('kafka', kafka.brokers.join(', '), kafka.pid),
        server('temporal', `${temporal.address}  ${temporal.uiUrl ?? ''}`, temporal.pid),
        ...rows,
      ],
    ),
  ];
}

const NAME_COLUMNS = 14;

function lineageLines(report: LineageReport): string[] {
  const { lineage, head, corrections, lag, workflow } = report;
  const hash = head.hash?.slice(0, 8) ?? '';
  const behind = lag?.reduce((sum, one) => sum + one.lag, 0);
  const partitions = lag?.map((one) => `${one.partition}: ${one.lag}`).join(', ');
  const fields: Fields = [
    [
      'HEAD',
      head.version === 0
        ? 'version 0, the base model'
        : `version ${head.version} (${hash}), ${corrections} corrections hold`,
    ],
    ...aliasFields(report),
    ['Kafka', lag === null ? null : `${behind} records not yet taken ${dim(`(${partitions})`)}`],
    ...(workflow === null ? [] : workflowFields(lineage, workflow)),
  ];
  const lines = fieldLines(fields, NAME_COLUMNS).map((line) => `  ${line}`);
  return ['', bold(`Lineage ${lineage}`), ...lines];
}

function aliasFields({ lineage, aliases }: LineageReport): Fields {
  return aliases.flatMap(({ alias, version, reason, by }): Fields => {
    const why = `${reason === '' ? '' : `: ${reason}`} ${dim(`(${by})`)}`;
    if (version === null) return [['alias', `${alias} follows HEAD${why}`]];
    const where = version === 0 ? 'the base model' : `version ${version}`;
    return [
      ['alias', `${alias} ${yellow(`is held on ${where}`)}${why}`],
      ['', `${dim('→')} errata alias ${alias} head --lineage ${lineage}`],
    ];
  });
}

function workflowFields(lineage: string, workflow: LineageStatus): Fields {
  const { waiting, waitingSince, running, batches, held, frozen } = workflow;
  const first = waitingSince === null ? '' : `, the first for ${age(waitingSince)}`;
  const outcomes = Object.entries(workflow.outcomes)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${statusText(name)} ${count}`);
  const batch =
    running === null
      ? 'none'
      : `${running.batchId}, ${running.revisions} revisions, for ${age(running.startedAt)}`;
  const fields: Fields = [
    ['buffer', `${waiting} waiting${first}`],
    ['batch', `${batch}  ${dim(`(${batches} so far)`)}`],
    ['outcomes', outcomes.length === 0 ? null : outcomes.join(', ')],
  ];
  if (held !== null) {
    const failures = `failed ${held.attempts} times ${dim(`(${held.workflowId})`)}`;
    fields.push([red('kept batch'), `${held.batchId}, ${held.revisions} revisions, ${failures}`]);
  }
  fields.push(...undoFields(workflow.undos));
  if (frozen !== null)
    fields.push(
      [red('frozen'), `for ${age(frozen.since)}: ${frozen.reason}`],
      ['', `${dim('→')} errata resume --lineage ${lineage}`],
    );
  return fields;
}

const UNDOS_SHOWN_MAX = 3;

function undoFields(undos: LineageStatus['undos']): Fields {
  const { running, waiting, ended } = undos;
  const texts = [
    ...(running === null
      ? []
      : [`${undoText(running)}, running ${dim(`(${running.workflowId})`)}`]),
    ...waiting.map((undo) => `${undoText(undo)}, waiting`),
    ...ended.slice(-UNDOS_SHOWN_MAX).map((undo) => {
      const kind = undo.kind === 'nothing' ? 'nothing to do' : undo.kind;
      const end =
        undo.kind === 'undone'
          ? `done in version ${undo.version}`
          : `${kind}, ${undo.reason ?? ''}`;
      return `${undoText(undo)}: ${end} ${dim(`(${ago(undo.endedAt)})`)}`;
    }),
  ];
  return texts.map((text) => ['undo', text]);
}

function age(since: number): string {
  return duration(Date.now() - since);
}
