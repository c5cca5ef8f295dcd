import type { RunEnd } from '../../../pipelines/temporal/workflow-reset.ts';
import { type EditBatchResult, batchWorkflowId } from '../../../pipelines/workflows/contract.ts';
import { seconds } from '../../input/option-values.ts';
import { EXIT, LINEAGE, command, flag, option } from '../../session/command.ts';
import { BY, withLineages } from '../../session/operator.ts';
import { misused } from '../../terminal/command-failure.ts';
import { yellow } from '../../terminal/colours.ts';
import { mark, statusText } from '../../terminal/text.ts';
import { resetText } from './reset-text.ts';

/** `errata replay batch`: runs a batch's workflow again from a point of its history. */
export default command({
  usage: 'batch <batch>',
  summary: "run a batch's workflow again from a point of its history",
  description: `Resets the workflow of a batch or an undo, and waits for its new run: results up to
the point are kept, and everything after it is done again. Nothing is applied twice. <batch> is its
number, its id, or the workflow's id. The point is \`plan\` for everything, \`targets\`, \`stage\`,
\`probes\` or \`commit\` for the last time of that step, or the id of an event.`,
  examples: `
replay batch 12              all of batch 12 again, with what is known now
replay batch 12 --dry-run    the points of its history, and what would run again
replay batch 12 --to probes  from its last probes on`,
  operation: 'replay the batch',
  options: {
    to: option(
      '--to <point>',
      'plan, targets, stage, probes, commit, beginning, or the id of an event',
      String,
      'plan',
    ),
    run: option('--run <id>', 'reset this run (default: the latest)'),
    dryRun: flag('--dry-run', 'show what would run again, and do nothing'),
    anyway: flag('--anyway', 'also a batch that is still running: its run is ended'),
    by: BY,
    lineage: LINEAGE,
    timeout: option(
      '--timeout <seconds>',
      'how long to wait for its end; it continues after that',
      seconds,
      1_800,
    ),
  },
  async run(session, options, [name]) {
    const { output } = session;
    const { planReset, resetRun, runEnd } = await import('../../../operations/replay/reset.ts');
    const { temporalConverter } = await import('../../../infra/config/connections.ts');
    const opened = session.open(options.lineage);
    const { configuration, lineage } = opened;
    const workflowId = await workflowNamed(lineage, name!);
    return await withLineages(opened, async (lineages) => {
      const temporal = { lineages, dataConverter: temporalConverter(configuration) };
      const run = { workflowId, runId: options.run ?? null };
      const planned = await planReset(temporal, run, options.to);
      const running = planned.run.status === 'RUNNING';
      if (options.dryRun) {
        const note = running ? '\nIt is still running: --anyway would end its run.' : '';
        output.result(
          { dryRun: true, ...planned },
          () => `${resetText(planned)}${note}\nNothing was done.`,
        );
        return;
      }
      if (running && !options.anyway)
        throw misused(
          `${workflowId} is still running`,
          '`errata failures` shows what it waits for. With --anyway its run is ended and ' +
            'begun again from the point.',
        );
      output.line(resetText(planned));
      const reason = `errata replay batch --to ${options.to}, by ${options.by}`;
      const runId = await resetRun(lineages, planned, reason);
      const end = await runEnd(lineages, { workflowId, runId }, options.timeout);
      const frozen = (await lineages.status(lineage).catch(() => null))?.frozen ?? null;
      const resetTo = planned.point.eventId;
      output.result({ workflowId, runId, resetTo, end, frozen }, () => {
        if (frozen === null) return endText(end);
        return (
          `${endText(end)}\nThe lineage is frozen (${frozen.reason}). ` +
          `\`errata resume --lineage ${lineage}\` continues it; it keeps what is decided.`
        );
      });
      return end.kind === 'completed' ? EXIT.ok : EXIT.failure;
    });
  },
});

async function workflowNamed(lineage: string, name: string): Promise<string> {
  const { lineageOfWorkflow, workflowOfBatch } =
    await import('../../../pipelines/temporal/temporal-runs.ts');
  if (/^\d{1,15}$/.test(name)) return batchWorkflowId(lineage, Number(name));
  const workflowId = workflowOfBatch(lineage, name) ?? name;
  const owner = lineageOfWorkflow(workflowId);
  if (owner === null || workflowId.startsWith('lineage/'))
    throw misused(
      `"${name}" is not a batch`,
      'A batch is named by its number, by its id (000012-…), or by its workflow ' +
        '(edit-batch/<lineage>/12); `errata replay lineage` is for the lineage itself.',
    );
  if (owner === lineage) return workflowId;
  throw misused(`${workflowId} is a workflow of lineage ${owner}`, `Ask with --lineage ${owner}.`);
}

function endText(end: RunEnd): string {
  if (end.kind === 'running')
    return (
      `${yellow('!')} It is still running, and it is not lost: \`errata status\` ` +
      'shows it, `errata history` what it does.'
    );
  if (end.kind === 'failed')
    return `${mark(false)} Its new run ${statusText(end.status)}: ${end.reason}`;
  const { versions = [], outcomes } = (end.result ?? {}) as Partial<EditBatchResult>;
  const counts = Object.entries(outcomes ?? {})
    .filter(([, count]) => count > 0)
    .map(([status, count]) => `${count} ${statusText(status)}`);
  const made = versions.length === 0 ? '' : `, with version ${versions.join(', ')}`;
  const decided = counts.length === 0 ? '' : `: ${counts.join(', ')}`;
  return `${mark(true)} It completed${made}${decided}.`;
}
