/** What `serve` may ask of the lineages' workflows, as it knows it. */
import { rollbackMoveId } from '../../pipelines/workflows/contract.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { OperationsUnavailable, type Operations } from '../../serving/api/operations.ts';
import type { Configuration } from '../config/configuration.ts';
import { reasonAndHint } from '../../schemas/failures.ts';

export function lineageOperations(
  lineages: TemporalLineages,
  { settings }: Pick<Configuration, 'settings'>,
): Operations {
  return {
    freeze: (lineage, reason) => available(() => lineages.freeze(lineage, reason)),
    resume: (lineage) => available(() => lineages.resume(lineage)),
    undo: (lineage, request, releaseAlias) =>
      available(async () => {
        const taken = await lineages.undo(lineage, settings[lineage]!, { request, releaseAlias });
        if (taken.kind === 'refused') return { kind: 'refused', reason: taken.message };
        return {
          kind: 'taken',
          workflowId: taken.workflowId,
          waiting: taken.kind === 'left' ? null : taken.waiting,
        };
      }),
    undoState: (lineage, id) =>
      available(async () => {
        const progress = await lineages.undoProgress(lineage, id);
        if (progress.kind === 'ended') return { state: 'ended', result: progress.result };
        if (progress.kind === 'failed') return { state: 'failed', reason: progress.reason };
        if (progress.kind === 'running') return { state: 'running' };
        const undos = (await lineages.status(lineage))?.undos;
        const ended = undos?.ended.find((one) => one.id === id);
        if (ended?.kind === 'failed')
          return { state: 'failed', reason: ended.reason ?? 'it failed' };
        return {
          state:
            undos?.waiting.some((one) => one.id === id) === true || undos?.running?.id === id
              ? 'waiting'
              : 'unknown',
        };
      }),
    rollbackMoveId,
  };
}

async function available<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (fault) {
    throw new OperationsUnavailable(reasonAndHint(fault).replace(/\.$/, ''), { cause: fault });
  }
}
