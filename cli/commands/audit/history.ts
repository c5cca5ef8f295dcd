import type { TimelineStep } from '../../../pipelines/temporal/history-timeline.ts';
import { LINEAGE, command, option } from '../../session/command.ts';
import type { FoundRun } from '../../session/run-history.ts';
import type { Output } from '../../terminal/output.ts';
import { bold, dim, green, red, yellow } from '../../terminal/colours.ts';
import { duration, fieldLines, shortened, statusText } from '../../terminal/text.ts';
import { historyLink } from './trace-text.ts';

/** `errata history <what>`: shows a workflow run step by step. */
export default command({
  usage: 'history <version|workflow|correction>',
  summary: 'show step by step what a workflow did',
  description: `Shows the workflow that made a version, that decided a correction or a retraction,
or any other of a lineage: each activity with its attempts, results and failures. Where Temporal no
longer has the history, it comes from the archive beside the versions. With --json it is the history
itself, as \`temporal workflow show --output json\` writes it. Encrypted payloads are shown where
ERRATA_TEMPORAL_PAYLOAD_KEYS has their key.`,
  examples: `
history head                      how the newest version was made
history edit-batch/default/12     the latest run of a batch
history 12 --json > history.json  the history as it is, for other tools`,
  operation: 'show the history',
  options: {
    lineage: LINEAGE,
    run: option(
      '--run <id>',
      'a run of the workflow (default: the latest, or the one that made the version)',
    ),
  },
  async run(session, options, [name]) {
    const { findRun, namedRun, timelineOfRun } = await import('../../session/run-history.ts');
    const opened = session.open(options.lineage);
    const named = await namedRun(opened.log, name!);
    const run = options.run === undefined ? named : { ...named, runId: options.run };
    const found = await findRun(opened, run);
    const { output } = session;
    const timeline = output.json ? [] : await timelineOfRun(opened.configuration, found);
    output.result(JSON.parse(found.history), () =>
      [
        ...headLines(found, historyLink(opened.configuration, found.run)),
        '',
        ...timeline.flatMap((step) => stepLines(output, step, found.run.startedAt)),
      ].join('\n'),
    );
  },
});

const RUNS_SHOWN_MAX = 5;
const NAME_COLUMNS = 44;

function headLines({ run, from, archivedRuns, unasked }: FoundRun, link: string | null): string[] {
  const others = archivedRuns.filter((runId) => runId !== run.runId);
  const more = others.length > RUNS_SHOWN_MAX ? ` and ${others.length - RUNS_SHOWN_MAX} more` : '';
  const started = new Date(run.startedAt).toISOString();
  const ended = run.status === 'COMPLETED' || run.status === 'CONTINUED_AS_NEW';
  const colour = ended ? green : run.status === 'RUNNING' ? yellow : red;
  const forgotten = unasked === null ? '; Temporal no longer has it' : '';
  const archive = `the archive beside the versions${forgotten}`;
  const took = run.closedAt === null ? null : duration(run.closedAt - run.startedAt);
  return [
    `${bold(run.workflowId)}  ${colour(statusText(run.status))}`,
    ...fieldLines(
      [
        ['run', run.runId],
        ['ran', took === null ? `since ${started}` : `${started}, took ${took}`],
        ['from', from === 'archive' ? archive : `Temporal${link === null ? '' : `  ${link}`}`],
        [
          'other runs',
          others.length === 0
            ? null
            : `${others.slice(0, RUNS_SHOWN_MAX).join(', ')}${more}  ${dim('(--run <id>)')}`,
        ],
      ],
      10,
    ),
    ...(unasked === null ? [] : [dim(`Temporal was not asked: ${unasked}`)]),
  ];
}

function stepLines(output: Output, step: TimelineStep, startedAt: number): string[] {
  const { event, name, attempt, tookMs, outcome, detail, failure } = step;
  const colour =
    outcome === 'completed' || outcome === 'fired' ? green : outcome === 'pending' ? yellow : red;
  const facts = [
    outcome === null ? '' : colour(outcome),
    attempt !== null && attempt > 1 ? yellow(`attempt ${attempt}`) : '',
    tookMs === null ? '' : dim(tookMs < 1_000 ? `${tookMs} ms` : duration(tookMs)),
  ].filter((fact) => fact !== '');
  const what = [event === 'activity' ? '' : event, name ?? ''].filter((part) => part !== '');
  const label = what.join(' ').padEnd(facts.length === 0 ? 0 : NAME_COLUMNS);
  const at = `+${((step.at - startedAt) / 1_000).toFixed(3)} s`.padStart(12);
  const indent = ' '.repeat(14);
  const lines = [`${dim(at)}  ${label} ${facts.join('  ')}`.trimEnd()];
  if (detail !== null && detail !== undefined) {
    const text = typeof detail === 'string' ? detail : JSON.stringify(detail);
    lines.push(`${indent}${dim(shortened(text, output.columns - indent.length))}`);
  }
  if (failure !== null) {
    const before = outcome === 'completed' ? 'the attempt before: ' : '';
    lines.push(`${indent}${red(`${before}${shortened(failure, 3 * output.columns)}`)}`);
  }
  return lines;
}
