import { lineageWorkflowId } from '../../../pipelines/workflows/contract.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { BY_OPTION, withLineages } from '../../session/operator.ts';
import { resetText } from '../../words/reset-text.ts';

interface Options {
  lineage?: string;
  to: string;
  dryRun?: boolean;
  anyway?: boolean;
  by: string;
}

/** `errata replay lineage`: the lineage's own workflow, run again from a point of its history. */
const lineage: CommandSpecification<Options> = {
  usage: 'lineage',
  summary: "run the lineage's own workflow again from a point of its history",
  description: `Resets the workflow that takes a lineage's corrections and cuts its batches, for when it is stuck: a workflow task that fails again and again, or a decision that a mended program would take otherwise. What it was told since (chunks of corrections, settings, freeze and resume) is told to the new run again; a batch that was decided is found decided. What it should lack all the same ingest gives it again from Kafka.`,
  examples: [
    ['replay lineage --dry-run', 'the points of its history, and what would run again'],
    ['replay lineage', 'from its last decision on'],
    ['replay lineage --to 40', 'from event 40 on'],
  ],
  operation: 'replay the lineage',
  options: (command) =>
    command
      .option('--to <point>', 'last, beginning, or the id of an event', 'last')
      .option('--dry-run', 'say what would run again, and do nothing')
      .option('--anyway', 'also while a batch runs: the batch is left to end by itself')
      .option(...BY_OPTION)
      .option(...LINEAGE_OPTION),
  async run(session, options) {
    const own = session.configuration();
    const name = session.lineage(own, options.lineage);
    return await withLineages(session, own, lineage.operation, async (lineages, configuration) => {
      const { planReset, resetRun } = await import('../../../operations/replay/reset.ts');
      const { temporalConverter } = await import('../../../infra/config/connections.ts');
      const temporal = { lineages, dataConverter: temporalConverter(configuration) };
      const { output } = session;
      const workflowId = lineageWorkflowId(name);
      const newest = await planReset(temporal, { workflowId, runId: null }, 'beginning');
      const planned =
        options.to === 'beginning'
          ? newest
          : await planReset(
              temporal,
              { workflowId, runId: newest.run.runId },
              options.to === 'last' ? String(newest.points.at(-1)!.eventId) : options.to,
            );
      if (options.dryRun === true) {
        output.result({ dryRun: true, ...planned }, () =>
          [resetText(planned, output), 'Nothing was done.'].join('\n'),
        );
        return EXIT.ok;
      }
      const running = (await lineages.status(name).catch(() => null))?.running ?? null;
      if (running !== null && options.anyway !== true)
        throw new CommandFailure(
          lineage.operation,
          `${running.workflowId} runs`,
          'Wait until it has ended (`errata status`), or give --anyway.',
          EXIT.usage,
        );
      const runId = await resetRun(
        lineages,
        planned,
        `errata replay lineage --to ${options.to}, by ${options.by}`,
      );
      output.result(
        { workflowId, runId, resetTo: planned.point.eventId, reapplied: planned.reapplied },
        () =>
          `${resetText(planned, output)}\n${output.colours.green('✓')} It runs again, as run ${runId}. \`errata status\` shows how it stands.`,
      );
      return EXIT.ok;
    });
  },
};

export default lineage;
