/**
 * What would become of revisions if they were taken now: the plan of a batch of them all, by the
 * same pure function.
 */
import { precedentsOf } from '../../activities/batch/plan-batch.ts';
import { planOf } from '../../activities/batch/plan.ts';
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

export type LikelyFate =
  /** Its target would be searched for, and the verdict decides. */
  | { kind: 'edited'; supersedes: string[] }
  | { kind: 'settled'; status: Outcome['status']; reason: string | null }
  /** It would take others out and not be taken itself, or be a retraction that is carried out. */
  | { kind: 'withdraws'; removes: string[] };

/**
 * By id. Nothing is decided by it. Where HEAD moves, or more is submitted before, it may be decided
 * otherwise.
 */
export async function likelyFates(
  log: VersionLog,
  revisions: readonly FactRevision[],
  now: number,
): Promise<Map<string, LikelyFate>> {
  const batch = { lineage: log.lineage, batchId: 'dry-run', revisions };
  const plan = planOf(await precedentsOf(log, await log.read(), batch), batch, now);
  const fates = new Map<string, LikelyFate>();
  const removedBy = (id: string): string[] =>
    plan.removals.filter(({ by }) => by === id).map(({ correctionId }) => correctionId);
  for (const { revisionId: id, status, reason } of plan.settled)
    fates.set(id, { kind: 'settled', status, reason });
  for (const edit of plan.edits)
    fates.set(revisionId(edit), { kind: 'edited', supersedes: removedBy(revisionId(edit)) });
  for (const withdrawal of plan.withdrawals)
    fates.set(revisionId(withdrawal), {
      kind: 'withdraws',
      removes: removedBy(revisionId(withdrawal)),
    });
  return fates;
}
