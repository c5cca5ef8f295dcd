/** First step of a batch: what is there to do, seen from HEAD. */
import type { FactRevision } from '../schemas/correction.ts';
import type { BatchPlan, Outcome } from '../schemas/editing.ts';
import type { StoredEntry } from '../versions/history.ts';
import type { Versions } from '../versions/versions.ts';
import { outcomeOf, planOf } from './plan.ts';

export async function planBatch(versions: Versions, step: { lineage: string; batchId: string; revisions: FactRevision[] }): Promise<BatchPlan> {
  const log = versions.log(step.lineage);
  const history = await log.read();
  const version = history.batches.get(step.batchId);
  const decidedAt = Date.now();
  if (version === undefined) return planOf(history, step, decidedAt);
  // Planned again on the version before its own, the batch is decided as it was then.
  const plan = planOf(await log.at(version - 1), step, decidedAt);
  const made = history.entries[version - 1]!;
  const settled = [...plan.settled, ...[...plan.edits, ...plan.retractions].map((revision) => outcomeInVersion(revision, made, step, decidedAt))];
  return { head: history.head, committed: { version, hash: made.hash }, edits: [], removals: [], retractions: [], settled };
}

function outcomeInVersion(revision: FactRevision, { entry }: StoredEntry, batch: { lineage: string; batchId: string }, decidedAt: number): Outcome {
  const outcome = (status: Outcome['status'], version: number | null, reason: string | null) => outcomeOf(revision, batch, { status, version, reason, decidedAt });
  const written =
    revision.kind === 'correction'
      ? entry.added.some(({ correctionId }) => correctionId === revision.correction.id)
      : entry.retractions.some(({ id }) => id === revision.id);
  if (!written) return outcome('QUARANTINED', null, `refused when its batch made version ${entry.version}`);
  return outcome(revision.kind === 'correction' ? 'COMMITTED' : 'RETRACTED', entry.version, null);
}
