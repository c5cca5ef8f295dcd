import { openVersions } from '../../../infra/config/open-versions.ts';
import { attached } from '../../../infra/local/system-state.ts';
import type { TimelineStep } from '../../../pipelines/temporal/history-timeline.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { duration, shortened, type Output } from '../../terminal/output.ts';
import type { FoundRun } from '../../session/run-history.ts';

interface Options {
  lineage?: string;
  run?: string;
}

/**
 * `errata history <what>`: what a workflow did, step by step, also when Temporal has forgotten it.
 */
const history: CommandSpecification<Options> = {
  usage: 'history <version|workflow|correction>',
  summary: 'show step by step what a workflow did',
  description:
    "Shows the history of the workflow that made a version, that decided a correction (or a retraction), or of any workflow of a lineage: each activity with its attempts, results and failures. It is taken from Temporal while Temporal has it, else from the archive beside the versions, so it needs nothing to run. With --json it is the history itself, as Temporal's tools read it (`temporal workflow show --output json`) and as `Worker.runReplayHistory` replays it. Encrypted payloads are shown where ERRATA_TEMPORAL_PAYLOAD_KEYS has their key.",
  examples: [
    ['history head', 'how the newest version was made'],
    ['history treaty-2026-03', 'the batch that decided this correction'],
    ['history edit-batch/default/12', 'the latest run of a batch'],
    ['history lineage/default --run 0198c1c5-7c2e-7d5b-9f0e-2c6d2f0a4b11', 'one of several runs'],
    ['history 12 --json > history.json', 'the history as it is, for other tools'],
  ],
  operation: 'show the history',
  options: (command) =>
    command
      .option(...LINEAGE_OPTION)
      .option(
        '--run <id>',
        'this run of the workflow (default: the latest, or the one that made the version)',
      ),
  async run(session, options, [what]) {
    const own = session.configuration();
    const configuration = attached(own, session.system(own));
    const { findRun, namedRun, timelineOfRun } = await import('../../session/run-history.ts');
    const versions = openVersions(configuration);
    const lineage = session.lineage(configuration, options.lineage);
    const named = await namedRun(versions, lineage, what!);
    const found = await findRun(
      configuration,
      versions,
      lineage,
      options.run === undefined ? named : { ...named, runId: options.run },
    );
    const timeline = session.output.json ? [] : await timelineOfRun(configuration, found);
    session.output.result(JSON.parse(found.history), () =>
      describe(session.output, found, timeline),
    );
    return EXIT.ok;
  },
};

export default history;

function describe(
  output: Output,
  { run, from, link, archivedRuns, unasked }: FoundRun,
  timeline: TimelineStep[],
): string {
  const { bold, dim, green, red, yellow } = output.colours;
  const field = (name: string, value: string): string => `${dim(name.padEnd(10))}${value}`;
  const others = archivedRuns.filter((runId) => runId !== run.runId);
  const colour =
    run.status === 'COMPLETED' || run.status === 'CONTINUED_AS_NEW'
      ? green
      : run.status === 'RUNNING'
        ? yellow
        : red;
  const took =
    run.closedAt === null
      ? `since ${new Date(run.startedAt).toISOString()}`
      : `${new Date(run.startedAt).toISOString()}, took ${duration(run.closedAt - run.startedAt)}`;
  const lines = [
    `${bold(run.workflowId)}  ${colour(run.status.toLowerCase().replaceAll('_', ' '))}`,
    field('run', run.runId),
    field('ran', took),
    field(
      'from',
      from === 'temporal'
        ? `Temporal${link === null ? '' : `  ${link}`}`
        : `the archive beside the versions${unasked === null ? '; Temporal has forgotten it' : ''}`,
    ),
    ...(others.length === 0
      ? []
      : [
          field(
            'other runs',
            `${others.slice(0, RUNS_SHOWN_MAX).join(', ')}${others.length > RUNS_SHOWN_MAX ? ` and ${others.length - RUNS_SHOWN_MAX} more` : ''}  ${dim('(--run <id>)')}`,
          ),
        ]),
    ...(unasked === null ? [] : [dim(`Temporal was not asked: ${unasked}`)]),
    '',
  ];
  for (const step of timeline) lines.push(...lineOf(output, step, run.startedAt));
  return lines.join('\n');
}

const RUNS_SHOWN_MAX = 5;
const NAME_COLUMNS = 44;

function lineOf(output: Output, step: TimelineStep, startedAt: number): string[] {
  const { dim, green, red, yellow } = output.colours;
  const { event, name, attempt, tookMs, outcome, detail, failure } = step;
  const words = [event === 'activity' ? '' : event, name ?? '']
    .filter((word) => word !== '')
    .join(' ');
  const state =
    outcome === null
      ? ''
      : outcome === 'completed' || outcome === 'fired'
        ? green(outcome)
        : outcome === 'pending'
          ? yellow(outcome)
          : red(outcome);
  const facts = [
    state,
    ...(attempt !== null && attempt > 1 ? [yellow(`attempt ${attempt}`)] : []),
    ...(tookMs === null ? [] : [dim(tookMs < 1_000 ? `${tookMs} ms` : duration(tookMs))]),
  ].filter((fact) => fact !== '');
  const at = `+${((step.at - startedAt) / 1_000).toFixed(3)} s`.padStart(12);
  const indent = ' '.repeat(14);
  return [
    `${dim(at)}  ${words.padEnd(facts.length === 0 ? 0 : NAME_COLUMNS)} ${facts.join('  ')}`.trimEnd(),
    ...(detail === null || detail === undefined
      ? []
      : [
          `${indent}${dim(shortened(typeof detail === 'string' ? detail : JSON.stringify(detail), output.columns - indent.length))}`,
        ]),
    ...(failure === null
      ? []
      : [
          `${indent}${red(outcome === 'completed' ? 'the attempt before: ' : '')}${red(shortened(failure, 3 * output.columns))}`,
        ]),
  ];
}
