/** Finds failures in the version log: its own damage, and quarantined corrections. */
import type { Outcome } from '../../schemas/outcome.ts';
import { resubmittedId } from '../../schemas/resubmit.ts';
import { VersionLogDamaged } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { resubmittedIn } from '../resubmit/dead-letters.ts';
import { failure, nothingFound, type Failure, type Findings } from './failure.ts';

/** Quarantined corrections that are listed, the newest. */
const QUARANTINED_SHOWN_MAX = 100;
/** Outcomes that are read; those of a longer register are reported as not searched. */
const DECIDED_READ_MAX = 100_000;

/** Finds corrections that were quarantined and not fixed since, or the damage of the log. */
export async function logFailures(log: VersionLog): Promise<Findings> {
  const findings = nothingFound();
  const { lineage } = log;
  try {
    const history = await log.read();
    const decided = await decidedIn(log);
    if (decided.unread)
      findings.unseen.push(`lineage ${lineage}: decisions after the first ${DECIDED_READ_MAX}`);
    const open: Outcome[] = [];
    for (const outcome of decided.quarantined) {
      if (await isFixed(outcome, decided, history, log)) findings.healed++;
      else open.push(outcome);
    }
    open.sort((a, b) => b.decidedAt - a.decidedAt);
    findings.failures = open
      .slice(0, QUARANTINED_SHOWN_MAX)
      .map((outcome) => quarantined(outcome, lineage));
    findings.more = Math.max(0, open.length - QUARANTINED_SHOWN_MAX);
  } catch (error) {
    if (!(error instanceof VersionLogDamaged)) throw error;
    const { objectName, what } = error.facts;
    const about = { lineage, subject: String(objectName), since: null };
    findings.failures.push(failure(about, 'damaged log', { problem: String(what) }));
  }
  return findings;
}

interface Decided {
  quarantined: Outcome[];
  /** Time of each decision. */
  at: Map<string, number>;
  /** The ids and records that committed corrections resubmit. */
  resubmitted: ReadonlyMap<string, number>;
  unread: boolean;
}

async function decidedIn(log: VersionLog): Promise<Decided> {
  const quarantined: Outcome[] = [];
  const at = new Map<string, number>();
  let unread = false;
  for await (const outcome of log.registered.decided()) {
    unread = at.size === DECIDED_READ_MAX;
    if (unread) break;
    at.set(outcome.revisionId, outcome.decidedAt);
    if (outcome.status === 'QUARANTINED') quarantined.push(outcome);
  }
  const resubmitted = quarantined.length === 0 ? new Map() : await resubmittedIn(log);
  return { quarantined, at, resubmitted, unread };
}

/**
 * Tells whether a correction was resubmitted and decided under its new id, or its fact was
 * corrected or retracted since. If it was quarantined again, the new id is a failure of its own.
 */
async function isFixed(
  { revisionId, factKey, decidedAt }: Outcome,
  { at, resubmitted }: Decided,
  { activeByFact }: History,
  log: VersionLog,
): Promise<boolean> {
  if (resubmitted.has(revisionId) || at.has(resubmittedId(revisionId))) return true;
  const holder = activeByFact.get(factKey);
  if (holder !== undefined && (at.get(holder) ?? 0) > decidedAt) return true;
  const tombstone = (await log.registered.tombstones([factKey])).get(factKey);
  return tombstone?.because === 'retracted' && tombstone.issuedAt > decidedAt;
}

function quarantined(
  { revisionId: id, decidedAt: since, reason, measured, batchId }: Outcome,
  lineage: string,
): Failure {
  const { code, ...numbers } = measured;
  return failure({ lineage, subject: id, since, measured: numbers }, 'quarantined', {
    id,
    reason,
    ...(code === undefined ? {} : { code }),
    batchId,
  });
}
