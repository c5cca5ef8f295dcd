/**
 * What the version log tells: whether it is sound, and which corrections were quarantined and never
 * came right.
 */
import type { Outcome } from '../../schemas/editing.ts';
import { replayedId } from '../../schemas/replay.ts';
import { VersionLogDamaged } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { nothingFound, shellWord, type Failure, type Findings } from './failure.ts';

/** Quarantined corrections that are listed, the newest. */
export const QUARANTINED_SHOWN_MAX = 100;
/** Outcomes that are read; of a longer register the rest is said to be unseen. */
const DECIDED_READ_MAX = 100_000;

export async function logFailures(log: VersionLog): Promise<Findings> {
  const findings = nothingFound();
  const { lineage } = log;
  try {
    const history = await log.read();
    const decided = await decidedIn(log);
    if (decided.unread)
      findings.unseen.push(
        `lineage ${lineage}: quarantined corrections beyond the first ${DECIDED_READ_MAX} decisions`,
      );
    const unhealed: Outcome[] = [];
    for (const outcome of decided.quarantined) {
      if (await isHealed(outcome, decided, history, log)) findings.healed++;
      else unhealed.push(outcome);
    }
    unhealed.sort((a, b) => b.decidedAt - a.decidedAt);
    findings.failures = unhealed
      .slice(0, QUARANTINED_SHOWN_MAX)
      .map((outcome) => failureOf(outcome, lineage));
    findings.more = Math.max(0, unhealed.length - QUARANTINED_SHOWN_MAX);
  } catch (error) {
    if (!(error instanceof VersionLogDamaged)) throw error;
    findings.failures.push({
      lineage,
      kind: 'damaged log',
      subject: String(error.facts['objectName']),
      since: null,
      cause: String(error.facts['what']),
      heal: `errata verify --lineage ${lineage}`,
    });
  }
  return findings;
}

interface Decided {
  quarantined: Outcome[];
  /** When each was decided. */
  at: Map<string, number>;
  /** What committed corrections were sent again for. */
  replayed: ReadonlySet<string>;
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
  return {
    quarantined,
    at,
    replayed: quarantined.length === 0 ? new Set() : await replayedIn(log),
    unread,
  };
}

/** What the corrections of all versions were sent again for. */
export async function replayedIn(log: VersionLog): Promise<Set<string>> {
  const replayed = new Set<string>();
  for await (const { entry } of log.walk())
    for (const { replayOf } of entry.added) if (replayOf !== undefined) replayed.add(replayOf);
  return replayed;
}

/**
 * Sent again and decided under its new id (what became of that one is told of it), corrected by
 * another since, or withdrawn since.
 */
async function isHealed(
  { revisionId, factKey, decidedAt }: Outcome,
  { at, replayed }: Decided,
  { activeByFact }: History,
  log: VersionLog,
): Promise<boolean> {
  if (replayed.has(revisionId) || at.has(replayedId(revisionId))) return true;
  const holder = activeByFact.get(factKey);
  if (holder !== undefined && (at.get(holder) ?? 0) > decidedAt) return true;
  const word = (await log.registered.tombstones([factKey])).get(factKey);
  return word !== undefined && word.because === 'retracted' && word.issuedAt > decidedAt;
}

function failureOf(
  { revisionId, decidedAt, reason, measured, batchId }: Outcome,
  lineage: string,
): Failure {
  const { code, ...numbers } = measured;
  return {
    lineage,
    kind: 'quarantined',
    subject: revisionId,
    since: decidedAt,
    cause: `${reason ?? 'no reason was given'}${code === undefined ? '' : ` (${code})`}, in batch ${batchId}`,
    measured: numbers,
    // A retraction has nothing to repair.
    heal: `errata replay quarantined ${shellWord(revisionId)} --lineage ${lineage}${revisionId.startsWith('retract:') ? '' : ' --set target=...'}`,
  };
}
