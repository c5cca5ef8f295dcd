/** Predicts the outcomes of revisions submitted now, by planning them all as one batch. */
import { precedentsOf } from '../../activities/batch/plan-batch.ts';
import { planOf } from '../../activities/batch/plan.ts';
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

export type LikelyOutcome =
  /** It would be edited, and the verdict decides. */
  | { kind: 'edited'; supersedes: string[] }
  | { kind: 'settled'; status: Outcome['status']; reason: string | null }
  /** It would remove others without an edit: a retraction, or a withdrawing correction. */
  | { kind: 'withdraws'; removes: string[] };

/**
 * Plans the revisions as one batch and returns the outcomes by revision id; decides nothing. Later
 * commits and submissions may change them.
 */
export async function likelyOutcomes(
  log: VersionLog,
  revisions: readonly FactRevision[],
  now: number,
): Promise<Map<string, LikelyOutcome>> {
  const batch = { lineage: log.lineage, batchId: 'dry-run', revisions };
  const plan = planOf(await precedentsOf(log, await log.read(), batch), batch, now);
  const removedBy = (id: string): string[] =>
    plan.removals.filter(({ by }) => by === id).map(({ correctionId }) => correctionId);
  const outcomes = new Map<string, LikelyOutcome>();
  for (const { revisionId: id, status, reason } of plan.settled)
    outcomes.set(id, { kind: 'settled', status, reason });
  for (const id of plan.edits.map(revisionId))
    outcomes.set(id, { kind: 'edited', supersedes: removedBy(id) });
  for (const id of plan.withdrawals.map(revisionId))
    outcomes.set(id, { kind: 'withdraws', removes: removedBy(id) });
  return outcomes;
}
