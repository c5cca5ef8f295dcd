import type { RunEnd } from '../../../pipelines/temporal/workflow-reset.ts';
import { batchWorkflowId, type EditBatchResult } from '../../../pipelines/workflows/contract.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { BY_OPTION, withLineages } from '../../session/operator.ts';
import type { Output } from '../../terminal/output.ts';
import { resetText } from '../../words/reset-text.ts';
import { seconds as secondsNamed } from '../../input/option-values.ts';

interface Options {
  lineage?: string;
  to: string;
  run?: string;
  dryRun?: boolean;
  anyway?: boolean;
  timeout: number;
  by: string;
}

/** `errata replay batch`: a batch's workflow, run again from a point of its history. */
const batch: CommandSpecification<Options> = {
  usage: 'batch <batch>',
  summary: "run a batch's workflow again from a point of its history",
  description: `Resets the workflow of a batch (or of an undo): up to the point its results are kept, from there on it is done again. Every step is idempotent: what was committed is found to be, a correction that was decided keeps its outcome, and what was staged and is gone is made anew. <batch> is its number, its id, or the workflow's id. It stays until the new run has ended and says what came of it.
--to is where: \`plan\` for all of it, \`targets\`, \`stage\`, \`probes\` or \`commit\` for the last time that this was done, or the id of an event; --dry-run lists them, says what would run again, and does nothing.`,
  examples: [
    ['replay batch 12', 'all of batch 12 again, with what is known now'],
    ['replay batch 12 --dry-run', 'the points of its history, and what would run again'],
    ['replay batch 12 --to probes', 'from its last probes on'],
    ['replay batch undo/default/u3f9a', 'an undo again'],
  ],
  operation: 'replay the batch',
  options: (command) =>
    command
      .option(
        '--to <point>',
        'plan, targets, stage, probes, commit, beginning, or the id of an event',
        'plan',
      )
      .option('--run <id>', 'reset this run (default: the latest)')
      .option('--dry-run', 'say what would run again, and do nothing')
      .option('--anyway', 'also a batch that is still running: its run is ended')
      .option(...BY_OPTION)
      .option(...LINEAGE_OPTION)
      .option(
        '--timeout <seconds>',
        'how long to wait for its end at most; it goes on all the same',
        secondsNamed,
        1_800,
      ),
  async run(session, options, [named]) {
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    return await withLineages(session, own, batch.operation, async (lineages, configuration) => {
      const { planReset, resetRun, runEnd } = await import('../../../operations/replay/reset.ts');
      const { temporalConverter } = await import('../../../infra/config/connections.ts');
      const { output } = session;
      const workflowId = await workflowNamed(lineage, named!);
      const planned = await planReset(
        { lineages, dataConverter: temporalConverter(configuration) },
        { workflowId, runId: options.run ?? null },
        options.to,
      );
      const runs = planned.run.status === 'RUNNING';
      if (options.dryRun === true) {
        output.result({ dryRun: true, ...planned }, () =>
          [
            resetText(planned, output),
            ...(runs ? ['It is still running: --anyway would end its run.'] : []),
            'Nothing was done.',
          ].join('\n'),
        );
        return EXIT.ok;
      }
      if (runs && options.anyway !== true) {
        throw new CommandFailure(
          batch.operation,
          `${workflowId} is still running`,
          '`errata failures` says what it waits for. With --anyway its run is ended and begun again from the point.',
          EXIT.usage,
        );
      }
      if (!output.json) output.line(resetText(planned, output));
      const runId = await resetRun(
        lineages,
        planned,
        `errata replay batch --to ${options.to}, by ${options.by}`,
      );
      const end = await runEnd(lineages, { workflowId, runId }, options.timeout);
      const status = await lineages.status(lineage).catch(() => null);
      const frozen = status?.frozen ?? null;
      output.result({ workflowId, runId, resetTo: planned.point.eventId, end, frozen }, () =>
        [
          endText(end, output),
          ...(frozen === null
            ? []
            : [
                `The lineage is frozen (${frozen.reason}). \`errata resume --lineage ${lineage}\` lets it go on; what is settled by now it finds settled.`,
              ]),
        ].join('\n'),
      );
      return end.kind === 'completed' ? EXIT.ok : EXIT.failure;
    });
  },
};

export default batch;

async function workflowNamed(lineage: string, named: string): Promise<string> {
  const { lineageOfWorkflow, workflowOfBatch } =
    await import('../../../pipelines/temporal/temporal-runs.ts');
  if (/^\d{1,15}$/.test(named)) return batchWorkflowId(lineage, Number(named));
  const workflowId = workflowOfBatch(lineage, named) ?? named;
  const of = lineageOfWorkflow(workflowId);
  if (of === null || workflowId.startsWith('lineage/'))
    throw new CommandFailure(
      batch.operation,
      `"${named}" names no batch`,
      'A batch is named by its number, by its id (000012-…), or by its workflow (edit-batch/<lineage>/12); `errata replay lineage` is for the lineage itself.',
      EXIT.usage,
    );
  if (of !== lineage)
    throw new CommandFailure(
      batch.operation,
      `${workflowId} is a workflow of lineage ${of}`,
      `Ask with --lineage ${of}.`,
      EXIT.usage,
    );
  return workflowId;
}

function endText(end: RunEnd, output: Output): string {
  const { green, red, yellow } = output.colours;
  if (end.kind === 'running')
    return `${yellow('!')} It still runs. It is not lost: \`errata status\` shows it, \`errata history\` what it does.`;
  if (end.kind === 'failed')
    return `${red('✗')} Its new run ${end.status.toLowerCase().replaceAll('_', ' ')}: ${end.reason}`;
  const { versions = [], outcomes } = (end.result ?? {}) as Partial<EditBatchResult>;
  const became = Object.entries(outcomes ?? {})
    .filter(([, count]) => count > 0)
    .map(([status, count]) => `${count} ${status.toLowerCase().replaceAll('_', ' ')}`);
  return `${green('✓')} It completed${versions.length === 0 ? '' : `, with version ${versions.join(', ')}`}${became.length === 0 ? '' : `: ${became.join(', ')}`}.`;
}
