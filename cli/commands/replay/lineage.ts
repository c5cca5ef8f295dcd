import { lineageWorkflowId } from '../../../pipelines/workflows/contract.ts';
import { LINEAGE, command, flag, option } from '../../session/command.ts';
import { BY, withLineages } from '../../session/operator.ts';
import { misused } from '../../terminal/command-failure.ts';
import { mark } from '../../terminal/text.ts';
import { resetText } from './reset-text.ts';

/** `errata replay lineage`: runs the lineage's workflow again from a point of its history. */
export default command({
  usage: 'lineage',
  summary: "run the lineage's own workflow again from a point of its history",
  description: `Resets the workflow that forms a lineage's batches, for when it is stuck. The new
run receives again what the workflow has received since, and a decided batch stays decided. Ingest
delivers again what is still missing.`,
  examples: `
replay lineage --dry-run  the points of its history, and what would run again
replay lineage            from its last decision on`,
  operation: 'replay the lineage',
  options: {
    to: option('--to <point>', 'last, beginning, or the id of an event', String, 'last'),
    dryRun: flag('--dry-run', 'show what would run again, and do nothing'),
    anyway: flag('--anyway', 'also while a batch runs; the batch continues to its end'),
    by: BY,
    lineage: LINEAGE,
  },
  async run(session, { to, dryRun, anyway, by, lineage: name }) {
    const { output } = session;
    const { planReset, resetRun } = await import('../../../operations/replay/reset.ts');
    const { temporalConverter } = await import('../../../infra/config/connections.ts');
    const opened = session.open(name);
    const { configuration, lineage } = opened;
    const workflowId = lineageWorkflowId(lineage);
    await withLineages(opened, async (lineages) => {
      const temporal = { lineages, dataConverter: temporalConverter(configuration) };
      let planned = await planReset(temporal, { workflowId, runId: null }, 'beginning');
      if (to !== 'beginning') {
        const point = to === 'last' ? String(planned.points.at(-1)!.eventId) : to;
        const { runId } = planned.run;
        planned = await planReset(temporal, { workflowId, runId }, point);
      }
      if (dryRun) {
        output.result(
          { dryRun: true, ...planned },
          () => `${resetText(planned)}\nNothing was done.`,
        );
        return;
      }
      const running = (await lineages.status(lineage).catch(() => null))?.running ?? null;
      if (running !== null && !anyway)
        throw misused(
          `${running.workflowId} runs`,
          'Wait until it has ended (`errata status`), or give --anyway.',
        );
      const reason = `errata replay lineage --to ${to}, by ${by}`;
      const runId = await resetRun(lineages, planned, reason);
      const { point, reapplied } = planned;
      output.result({ workflowId, runId, resetTo: point.eventId, reapplied }, () =>
        [
          resetText(planned),
          `${mark(true)} It runs again, as run ${runId}. \`errata status\` shows its state.`,
        ].join('\n'),
      );
    });
  },
});
