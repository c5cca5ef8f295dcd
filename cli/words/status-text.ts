/** How the status of the system and its lineages reads on a terminal. */
import type { SystemState } from '../../infra/local/system-state.ts';
import type { PartitionLag } from '../../pipelines/kafka/records.ts';
import type { LineageStatus } from '../../pipelines/workflows/contract.ts';
import type { AliasRecord } from '../../schemas/alias.ts';
import { ago, duration, statusText, type Output } from '../terminal/output.ts';
import { undoText } from './version-text.ts';

export interface LineageReport {
  lineage: string;
  head: { version: number; hash: string | null };
  corrections: number;
  /** The current record of each alias. */
  aliases: AliasRecord[];
  /** Null where Temporal or the workflow does not answer; `problems` says why. */
  workflow: LineageStatus | null;
  lag: PartitionLag[] | null;
}

export interface StatusReport {
  home: string;
  running: boolean;
  system: SystemState | null;
  lineages: LineageReport[];
  problems: string[];
}

export function statusReportText(output: Output, report: StatusReport): string {
  const { bold, yellow } = output.colours;
  const system =
    report.system !== null
      ? systemLines(output, report.home, report.system)
      : report.running
        ? ['Kafka and Temporal are configured; `errata up` does not run here.']
        : [`${yellow('No system')} of ${report.home} runs. Start it with ${bold('errata up')}.`];
  return [
    ...system,
    ...report.lineages.flatMap((lineage) => lineageLines(output, lineage)),
    ...report.problems.map((problem) => `${yellow('!')} ${problem}`),
  ].join('\n');
}

function systemLines(output: Output, home: string, system: SystemState): string[] {
  const { bold, dim, green, red, yellow } = output.colours;
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
    output.table(
      ['process', 'state', 'where', 'pid', 'up', 'restarts'],
      [
        server('kafka', kafka.brokers.join(', '), kafka.pid),
        server('temporal', `${temporal.address}  ${temporal.uiUrl ?? ''}`, temporal.pid),
        ...rows,
      ],
    ),
  ];
}

type Fields = [name: string, value: string | null][];

const NAME_COLUMNS = 14;

function lineageLines(output: Output, report: LineageReport): string[] {
  const { bold, dim } = output.colours;
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
    ...aliasFields(output, report),
    ['Kafka', lag === null ? null : `${behind} records not yet taken ${dim(`(${partitions})`)}`],
    ...(workflow === null ? [] : workflowFields(output, lineage, workflow)),
  ];
  const lines = output.fields(fields, NAME_COLUMNS).map((line) => `  ${line}`);
  return ['', bold(`Lineage ${lineage}`), ...lines];
}

function aliasFields({ colours }: Output, { lineage, aliases }: LineageReport): Fields {
  const { dim, yellow } = colours;
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

function workflowFields(output: Output, lineage: string, workflow: LineageStatus): Fields {
  const { dim, red } = output.colours;
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
  fields.push(...undoFields(output, workflow.undos));
  if (frozen !== null)
    fields.push(
      [red('frozen'), `for ${age(frozen.since)}: ${frozen.reason}`],
      ['', `${dim('→')} errata resume --lineage ${lineage}`],
    );
  return fields;
}

const UNDOS_SHOWN_MAX = 3;

function undoFields({ colours: { dim } }: Output, undos: LineageStatus['undos']): Fields {
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
