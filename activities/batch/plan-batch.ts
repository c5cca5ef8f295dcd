/** First step of a batch: what is there to do, seen from HEAD. */
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import { CONTRADICTS_A_COMMITTED_ONE, contradictionMeasured } from '../../schemas/contradiction.ts';
import type { BatchPlan, Outcome } from '../../schemas/editing.ts';
import type { History } from '../../versions/log/history.ts';
import type { FactTombstone } from '../../versions/log/entry-outcomes.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { outcomeOf, planOf, type Batch, type Precedents } from './plan.ts';

export async function planBatch(versions: Versions, step: Batch): Promise<BatchPlan> {
  const log = versions.log(step.lineage);
  const decidedAt = Date.now();
  const version = await (await log.register()).versionOfBatch(step.batchId);
  const history = await log.read();
  if (version === null) return planOf(await precedentsOf(log, history, step), step, decidedAt);
  // Planned again on the version before its own, the batch is decided as it was then; what it wrote
  // is in the register.
  const plan = planOf(await precedentsOf(log, await log.at(version - 1), step), step, decidedAt);
  const undone = [...plan.edits, ...plan.withdrawals].map((revision) =>
    outcomeBesideVersion(revision, plan, version, step, decidedAt),
  );
  return {
    head: history.head,
    committed: { version, hash: (await log.entry(version)).hash },
    edits: [],
    removals: [],
    withdrawals: [],
    settled: [...plan.settled, ...undone],
  };
}

/** What the version log knows of a batch's ids and facts, as of a history. */
export async function precedentsOf(
  log: VersionLog,
  history: History,
  batch: Batch,
): Promise<Precedents> {
  const register = await log.register();
  const [outcomes, tombstones] = await Promise.all([
    register.outcomesOf(batch.revisions.map(revisionId)),
    register.tombstones(
      batch.revisions.map(({ factKey }) => factKey),
      (word) => isInForce(history, word),
    ),
  ]);
  return { history, outcomes, tombstones };
}

/**
 * Only an operator brings back a correction that is older than a word that took its fact: with it
 * that word was undone, for as long as the correction or one after it holds. That two contradict
 * each other stays true whatever holds.
 */
function isInForce(
  { active, activeByFact }: History,
  { factKey, because, issuedAt }: Pick<FactTombstone, 'factKey' | 'because' | 'issuedAt'>,
): boolean {
  const holder = active.get(activeByFact.get(factKey) ?? '');
  return holder === undefined || issuedAt <= holder.issuedAt || because === 'contradicted';
}

/** Of a revision that its batch's version does not carry: the version was made without it. */
function outcomeBesideVersion(
  revision: FactRevision,
  plan: BatchPlan,
  version: number,
  batch: Batch,
  decidedAt: number,
): Outcome {
  if (revision.kind === 'correction' && plan.withdrawals.includes(revision)) {
    return outcomeOf(revision, batch, {
      status: 'QUARANTINED',
      reason: CONTRADICTS_A_COMMITTED_ONE,
      decidedAt,
      measured: contradictionMeasured(revision.correction.issuedAt, 1),
    });
  }
  return outcomeOf(revision, batch, {
    status: 'QUARANTINED',
    reason: `refused when its batch made version ${version}`,
    decidedAt,
  });
}
