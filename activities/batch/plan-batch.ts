/** Plans a batch, seen from HEAD. */
import { revisionId } from '../../schemas/correction.ts';
import {
  outcomeOf,
  CONTRADICTS_A_COMMITTED_ONE,
  contradictionMeasured,
} from '../../schemas/outcome.ts';
import type { BatchPlan } from '../../schemas/editing.ts';
import type { PlanStep } from '../../schemas/steps.ts';
import type { History } from '../../versions/log/history.ts';
import type { FactTombstone } from '../../versions/log/entry-outcomes.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { planOf, type Precedents } from './plan.ts';

export async function planBatch(versions: Versions, step: PlanStep): Promise<BatchPlan> {
  const log = versions.log(step.lineage);
  const decidedAt = Date.now();
  const version = await (await log.register()).versionOfBatch(step.batchId);
  const history = await log.read();
  if (version === null) return planOf(await precedentsOf(log, history, step), step, decidedAt);
  // Planned again on the version before its own, the batch is decided as it was then. The register
  // has the corrections it wrote. Those missing from its version were refused.
  const plan = planOf(await precedentsOf(log, await log.at(version - 1), step), step, decidedAt);
  const refused = [...plan.edits, ...plan.withdrawals].map((revision) =>
    outcomeOf(
      revision,
      { ...step, decidedAt },
      {
        status: 'QUARANTINED',
        ...(revision.kind === 'correction' && plan.withdrawals.includes(revision)
          ? {
              reason: CONTRADICTS_A_COMMITTED_ONE,
              measured: contradictionMeasured(revision.correction.issuedAt, 1),
            }
          : { reason: `refused when its batch made version ${version}` }),
      },
    ),
  );
  return {
    head: history.head,
    committed: { version, hash: (await log.entry(version)).hash },
    edits: [],
    removals: [],
    withdrawals: [],
    settled: [...plan.settled, ...refused],
  };
}

/** Reads the version log's records of a batch's ids and facts, as of a history. */
export async function precedentsOf(
  log: VersionLog,
  history: History,
  { revisions }: Pick<PlanStep, 'revisions'>,
): Promise<Precedents> {
  const register = await log.register();
  const [outcomes, tombstones] = await Promise.all([
    register.outcomesOf(revisions.map(revisionId)),
    register.tombstones(
      revisions.map(({ factKey }) => factKey),
      (tombstone) => isInForce(history, tombstone),
    ),
  ]);
  return { history, outcomes, tombstones };
}

/**
 * Only an operator can restore a correction that is older than its fact's tombstone. The tombstone
 * is then void while that correction or a later one holds. A contradiction's tombstone stays.
 */
function isInForce(
  { active, activeByFact }: History,
  { factKey, because, issuedAt }: Pick<FactTombstone, 'factKey' | 'because' | 'issuedAt'>,
): boolean {
  const holder = active.get(activeByFact.get(factKey) ?? '');
  return holder === undefined || issuedAt <= holder.issuedAt || because === 'contradicted';
}
