/** Runs an undo through all its steps, as the workflow does when HEAD does not move. */
import { announceActivities } from '../../activities/announce.ts';
import {
  createEditActivities,
  createLedgerActivities,
  type EditActivities,
  type LedgerActivities,
} from '../../activities/index.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS, type VerdictSettings } from '../../schemas/settings.ts';
import type { UndoPlan, UndoRequest, UndoTarget } from '../../schemas/undo.ts';
import { Versions } from '../../versions/versions.ts';
import { LINEAGE } from './corrections.ts';
import { FakeEngine } from './fake-engine.ts';
import { runBatch } from './test-lineage.ts';
import { MemoryStore } from './memory-store.ts';

export function undoRequest(id: string, target: UndoTarget): UndoRequest {
  return { id, target, reason: 'it was wrong', requestedBy: 'an operator', requestedAt: 5_000 };
}

export async function planned(
  activities: LedgerActivities,
  request: UndoRequest,
): Promise<UndoPlan> {
  return await activities.planUndo({ lineage: LINEAGE, batchId: `undo-${request.id}`, request });
}

/** Returns the plan and its version; null if there was nothing to do. */
export async function runUndo(
  activities: EditActivities & LedgerActivities,
  request: UndoRequest,
  settings: VerdictSettings = DEFAULT_LINEAGE_SETTINGS.verdict,
) {
  const plan = await planned(activities, request);
  if (plan.steps === null) return { plan, version: plan.committed?.version ?? null };
  const { head, steps } = plan;
  const step = { lineage: LINEAGE, batchId: `undo-${request.id}`, head, steps };
  const staged = await activities.stageUndo(step);
  const probes = await activities.probeUndo({ ...step, staged, settings });
  const workflow = { workflowId: `undo/l/${request.id}`, runId: 'run' };
  const commit = () => activities.commitUndo({ ...step, staged, probes, request, workflow });
  if (!probes.verdict.pass) return { plan, step, staged, probes, commit, version: null };
  const result = await commit();
  if (result.kind !== 'committed') throw new Error('HEAD moved');
  await activities.discard({ lineage: LINEAGE, batchId: step.batchId });
  return { plan, step, staged, probes, commit, version: result.version };
}

/** A lineage without Kafka and Temporal, with its announcements. */
export function fresh(store = new MemoryStore()) {
  const versions = new Versions(store);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  const announced: Outcome[] = [];
  const announcing = announceActivities({
    announcer: {
      announceVersion: async () => undefined,
      announceOutcomes: async (_, outcomes) => void announced.push(...outcomes),
    },
    versions,
  });
  let batches = 0;
  return {
    store,
    versions,
    activities,
    log: versions.log(LINEAGE),
    announced,
    announce: (version: number | null, outcomes: Outcome[] = []) =>
      announcing.announce({ lineage: LINEAGE, outcomes, version }),
    batch: async (...revisions: Parameters<typeof runBatch>[2]) => {
      const run = await runBatch(activities, `b${(batches += 1)}`, revisions);
      if (run.staged.rows.length + run.plan.removals.length > 0) await run.commit();
      return run.plan;
    },
    undo: (id: string, target: UndoTarget) => runUndo(activities, undoRequest(id, target)),
  };
}

export const version = (number: number): UndoTarget => ({ kind: 'version', version: number });
export const rollback = (number: number): UndoTarget => ({ kind: 'rollback', version: number });
export const one = (id: string): UndoTarget => ({ kind: 'correction', id });
