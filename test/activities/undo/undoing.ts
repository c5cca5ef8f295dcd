/** An undo through all the steps, as the workflow takes it where nothing moves. */
import type { EditActivities, LedgerActivities } from '../../../activities/index.ts';
import { DEFAULT_LINEAGE_SETTINGS, type VerdictSettings } from '../../../schemas/settings.ts';
import type { UndoPlan, UndoRequest, UndoTarget } from '../../../schemas/undo.ts';
import { LINEAGE } from '../../harness/corrections.ts';

export function undoRequest(id: string, target: UndoTarget): UndoRequest {
  return { id, target, reason: 'it was wrong', requestedBy: 'an operator', requestedAt: 5_000 };
}

export async function planned(
  activities: LedgerActivities,
  request: UndoRequest,
): Promise<UndoPlan> {
  return await activities.planUndo({ lineage: LINEAGE, batchId: `undo-${request.id}`, request });
}

/** The plan, and the version that was made of it; null where there was nothing to do. */
export async function runUndo(
  activities: EditActivities & LedgerActivities,
  request: UndoRequest,
  settings: VerdictSettings = DEFAULT_LINEAGE_SETTINGS.verdict,
) {
  const plan = await planned(activities, request);
  if (plan.steps === null) return { plan, version: plan.committed?.version ?? null };
  const step = {
    lineage: LINEAGE,
    batchId: `undo-${request.id}`,
    head: plan.head,
    steps: plan.steps,
  };
  const staged = await activities.stageUndo(step);
  const probes = await activities.probeUndo({ ...step, staged, settings });
  const commit = () =>
    activities.commitUndo({
      ...step,
      staged,
      probes,
      request,
      workflow: { workflowId: `undo/l/${request.id}`, runId: 'run' },
    });
  if (!probes.verdict.pass) return { plan, step, staged, probes, commit, version: null };
  const result = await commit();
  if (result.kind !== 'committed') throw new Error('HEAD moved');
  await activities.discard({ lineage: LINEAGE, batchId: step.batchId });
  return { plan, step, staged, probes, commit, version: result.version };
}
