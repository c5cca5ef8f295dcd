/** Plans an undo, seen from HEAD: its first step. */
import type { PlanUndoStep } from '../../schemas/steps.ts';
import type { UndoPlan, UndoSteps } from '../../schemas/undo.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { undoOf } from '../../versions/undo.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';

/** Bounds the kept corrections that a plan names. The log has the rest. */
const KEPT_TOLD_MAX = 100;

export async function planUndo(
  versions: Versions,
  { lineage, batchId, request }: PlanUndoStep,
): Promise<UndoPlan> {
  const log = versions.log(lineage);
  const made = await (await log.register()).versionOfBatch(batchId);
  if (made !== null) return await planOfMade(log, made);
  const { head, removals, restored, kept, nothing } = await undoOf(log, request);
  const steps: UndoSteps = { removals, restored };
  return {
    head,
    committed: null,
    steps: nothing === null ? await log.blobs.stage(batchId, canonicalJson(steps)) : null,
    removed: removals.length,
    restored: restored.length,
    kept: kept.slice(0, KEPT_TOLD_MAX),
    nothing,
  };
}

async function planOfMade(log: VersionLog, version: number): Promise<UndoPlan> {
  const { entry, hash } = await log.entry(version);
  const { head } = await log.read();
  return {
    head,
    committed: { version, hash },
    steps: null,
    removed: entry.removed.length,
    restored: entry.added.length,
    kept: [],
    nothing: null,
  };
}
