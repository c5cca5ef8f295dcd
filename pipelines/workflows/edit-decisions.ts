/**
 * What an edit-batch workflow decides, without waiting for anything: how a batch is sharded and
 * split, which edits go on, and what each revision's outcome is.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
  type KafkaPosition,
} from '../../schemas/correction.ts';
import { CONTRADICTS_A_COMMITTED_ONE, contradictionMeasured } from '../../schemas/contradiction.ts';
import {
  removalsInForce,
  type Outcome,
  type OutcomeStatus,
  type ProbeReport,
  type ProbeScores,
  type Refusal,
  type Removal,
  type StagedUpdate,
  type TargetShard,
} from '../../schemas/editing.ts';
import { noOutcomes, type OutcomeCounts } from './contract.ts';

/**
 * Times a batch may be staged and probed, parts of it included; what is undecided then is
 * quarantined.
 */
export const EDIT_ATTEMPTS_MAX = 60;
/** Times a part of a batch may be planned anew because HEAD moved under it. */
export const PLANS_MAX = 8;
/** Outcomes per announcement. */
export const ANNOUNCED_OUTCOMES_MAX = 100;

export interface Decision {
  lineage: string;
  batchId: string;
  /** Milliseconds since 1970. */
  decidedAt: number;
}

/**
 * What the probes' report asks for next. `drop` leaves out the corrections that fail by themselves
 * and stages the rest again; without any, `split` tries the halves alone; a single revision that
 * fails is to be quarantined.
 */
export type NextStep =
  | { kind: 'commit' }
  | { kind: 'drop'; refused: Refusal[] }
  | { kind: 'split' }
  | { kind: 'quarantine' };

export function nextStepAfter(
  report: ProbeReport,
  edits: readonly CorrectionRevision[],
  undecided: readonly FactRevision[],
): NextStep {
  if (report.verdict.pass) return { kind: 'commit' };
  const ids = new Set(edits.map(revisionId));
  const refused = report.verdict.failing.filter((refusal) => ids.has(refusal.id));
  if (refused.length > 0) return { kind: 'drop', refused };
  return undecided.length > 1 ? { kind: 'split' } : { kind: 'quarantine' };
}

/** Parts of at most `itemsMax`, of nearly equal size, in order. */
export function partsOf<T>(items: readonly T[], itemsMax: number): T[][] {
  const count = Math.ceil(items.length / itemsMax);
  return Array.from({ length: count }, (_, i) =>
    items.slice(
      Math.floor((i * items.length) / count),
      Math.floor(((i + 1) * items.length) / count),
    ),
  );
}

/** Both halves are shorter than the whole and neither is empty; at least two items are needed. */
export function halvesOf<T>(items: readonly T[]): [T[], T[]] {
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}

/** Those that some shard found a target for. */
export function acceptedEdits(
  edits: readonly CorrectionRevision[],
  shards: readonly TargetShard[],
): CorrectionRevision[] {
  const accepted = new Set(shards.flatMap((shard) => shard.accepted.map((item) => item.id)));
  return edits.filter((edit) => accepted.has(revisionId(edit)));
}

export function withoutRefused(
  edits: readonly CorrectionRevision[],
  refused: readonly Refusal[],
): CorrectionRevision[] {
  const ids = new Set(refused.map((refusal) => refusal.id));
  return edits.filter((edit) => !ids.has(revisionId(edit)));
}

/**
 * The corrections that the staged update does not contain although it was meant to: refused, or
 * gone without a word.
 */
export function unstaged(edits: readonly CorrectionRevision[], staged: StagedUpdate): Refusal[] {
  const rows = new Set(staged.rows);
  const named = new Map(staged.refused.map((refusal) => [refusal.id, refusal]));
  return edits
    .map(revisionId)
    .filter((id) => !rows.has(id) || named.has(id))
    .map(
      (id) =>
        named.get(id) ?? {
          id,
          code: 'invalid',
          reason: 'the update was staged without this correction',
          measured: {},
        },
    );
}

/**
 * Outcomes of a version: its corrections and withdrawals, and the earlier corrections that left the
 * hook with it.
 */
export function committedOutcomes(
  edits: readonly CorrectionRevision[],
  withdrawals: readonly FactRevision[],
  removals: readonly Removal[],
  version: number,
  decision: Decision,
): Outcome[] {
  const outcome = (revision: FactRevision, status: OutcomeStatus): Outcome => ({
    ...emptyOutcome(revision, decision),
    status,
    version,
  });
  const asking = new Map(
    [...edits, ...withdrawals].map((revision) => [revisionId(revision), revision]),
  );
  const left = removalsInForce(removals, edits.map(revisionId)).flatMap((removal): Outcome[] => {
    const by = asking.get(removal.by);
    if (by === undefined) return [];
    return [
      {
        ...outcome(by, LEFT_BECAUSE[removal.because]),
        revisionId: removal.correctionId,
        factKey: removal.factKey,
        position: removal.position,
        reason: `${removal.because} by ${removal.by}`,
        measured: { code: removal.because, by: removal.by },
      },
    ];
  });
  const withdrawn = withdrawals.map((revision): Outcome =>
    revision.kind === 'retraction'
      ? outcome(revision, 'RETRACTED')
      : {
          ...emptyOutcome(revision, decision),
          reason: CONTRADICTS_A_COMMITTED_ONE,
          measured: contradictionMeasured(revision.correction.issuedAt, 1),
        },
  );
  return [...edits.map((edit) => outcome(edit, 'COMMITTED')), ...withdrawn, ...left];
}

const LEFT_BECAUSE: Record<Removal['because'], OutcomeStatus> = {
  superseded: 'SUPERSEDED',
  retracted: 'RETRACTED',
  reverted: 'RETRACTED',
  contradicted: 'QUARANTINED',
};

export function quarantined(
  revisions: readonly FactRevision[],
  refused: readonly Refusal[],
  decision: Decision,
): Outcome[] {
  const byId = new Map(revisions.map((revision) => [revisionId(revision), revision]));
  return refused.flatMap((refusal): Outcome[] => {
    const revision = byId.get(refusal.id);
    if (revision === undefined) return [];
    return [
      {
        ...emptyOutcome(revision, decision),
        status: 'QUARANTINED',
        reason: refusal.reason,
        measured: { ...refusal.measured, code: refusal.code },
      },
    ];
  });
}

/** Quarantines revisions that cannot be told apart, for a failed verdict or an error. */
export function quarantinedTogether(
  revisions: readonly FactRevision[],
  why: { code: string; reasons: readonly string[]; measured: Record<string, number | string> },
  decision: Decision,
): Outcome[] {
  return revisions.map((revision) => ({
    ...emptyOutcome(revision, decision),
    status: 'QUARANTINED',
    reason: why.reasons.join('; '),
    measured: { ...why.measured, code: why.code },
  }));
}

/** The scores that were measured, by name. */
export function measuredScores(scores: ProbeScores): Record<string, number> {
  return Object.fromEntries(
    Object.entries(scores).filter((entry): entry is [string, number] => entry[1] !== null),
  );
}

/**
 * The revisions that have not exactly one outcome; a batch must not end while there is one. An
 * outcome is of a record if it bears its id and its position: a duplicate of it has a position of
 * its own. One that was committed before and is delivered again may leave in this very batch, or an
 * undo between two runs of it take it out or bring it back: then the last of these is its outcome,
 * however often each is said.
 */
export function unaccounted(
  revisions: readonly FactRevision[],
  outcomes: readonly Outcome[],
): string[] {
  const told = new Map<string, Map<string, Outcome>>();
  for (const outcome of outcomes) {
    const name = recordName(outcome.revisionId, outcome.position);
    told.set(
      name,
      (told.get(name) ?? new Map<string, Outcome>()).set(
        `${outcome.status} ${outcome.version}`,
        outcome,
      ),
    );
  }
  return revisions
    .filter(
      (revision) =>
        !isOneOutcome([
          ...(told.get(recordName(revisionId(revision), revision.position))?.values() ?? []),
        ]),
    )
    .map(revisionId);
}

function isOneOutcome(outcomes: readonly Outcome[]): boolean {
  if (outcomes.length < 2) return outcomes.length === 1;
  const versions = outcomes.map(({ version }) => version ?? 0).sort((a, b) => a - b);
  const first = outcomes.find(({ version }) => (version ?? 0) === versions[0]);
  return (
    first?.status === 'COMMITTED' &&
    versions.every((version, i) => i === 0 || version > versions[i - 1]!)
  );
}

function recordName(id: string, position: KafkaPosition): string {
  return `${id}@${position.topic}-${position.partition}-${position.offset}`;
}

export function countOutcomes(outcomes: readonly Outcome[]): OutcomeCounts {
  const counts = noOutcomes();
  for (const outcome of outcomes) counts[outcome.status]++;
  return counts;
}

function emptyOutcome(revision: FactRevision, decision: Decision): Outcome {
  return {
    lineage: decision.lineage,
    revisionId: revisionId(revision),
    factKey: revision.factKey,
    status: 'QUARANTINED',
    version: null,
    reason: null,
    measured: {},
    position: revision.position,
    batchId: decision.batchId,
    decidedAt: decision.decidedAt,
  };
}
