/** The outcomes of a batch's revisions, exactly one for each. */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
  type KafkaPosition,
} from '../../schemas/correction.ts';
import {
  outcomeOf,
  type Decision,
  type Outcome,
  type OutcomeStatus,
  CONTRADICTS_A_COMMITTED_ONE,
  contradictionMeasured,
} from '../../schemas/outcome.ts';
import {
  removalsInForce,
  type BatchPlan,
  type ProbeScores,
  type Refusal,
  type Removal,
} from '../../schemas/editing.ts';

export type OutcomeCounts = Record<OutcomeStatus, number>;

export function noOutcomes(): OutcomeCounts {
  return {
    COMMITTED: 0,
    SUPERSEDED: 0,
    QUARANTINED: 0,
    RETRACTED: 0,
    DUPLICATE: 0,
    NOTHING_TO_RETRACT: 0,
  };
}

export function countOutcomes(outcomes: readonly Outcome[]): OutcomeCounts {
  const counts = noOutcomes();
  for (const outcome of outcomes) counts[outcome.status]++;
  return counts;
}

/** Returns a version's outcomes: of its corrections, withdrawals and removed corrections. */
export function committedOutcomes(
  edits: readonly CorrectionRevision[],
  { withdrawals, removals }: Pick<BatchPlan, 'withdrawals' | 'removals'>,
  version: number,
  decision: Decision,
): Outcome[] {
  const withdrawn = withdrawals.map((revision) =>
    revision.kind === 'retraction'
      ? outcomeOf(revision, decision, { status: 'RETRACTED', version })
      : outcomeOf(revision, decision, {
          status: 'QUARANTINED',
          reason: CONTRADICTS_A_COMMITTED_ONE,
          measured: contradictionMeasured(revision.correction.issuedAt, 1),
        }),
  );
  const revisions = new Map(
    [...edits, ...withdrawals].map((revision) => [revisionId(revision), revision]),
  );
  const left = removalsInForce(removals, edits.map(revisionId)).flatMap(
    ({ correctionId, factKey, position, because, by }): Outcome[] => {
      const remover = revisions.get(by);
      if (remover === undefined) return [];
      const outcome = outcomeOf(remover, decision, {
        status: STATUS_AFTER[because],
        version,
        reason: `${because} by ${by}`,
        measured: { code: because, by },
      });
      return [{ ...outcome, revisionId: correctionId, factKey, position }];
    },
  );
  return [
    ...edits.map((edit) => outcomeOf(edit, decision, { status: 'COMMITTED', version })),
    ...withdrawn,
    ...left,
  ];
}

export function quarantined(
  revisions: readonly FactRevision[],
  refused: readonly Refusal[],
  decision: Decision,
): Outcome[] {
  const byId = new Map(revisions.map((revision) => [revisionId(revision), revision]));
  return refused.flatMap(({ id, code, reason, measured }) => {
    const revision = byId.get(id);
    const failure = { code, reasons: [reason], measured };
    return revision === undefined ? [] : quarantinedTogether([revision], failure, decision);
  });
}

/** The failure of several revisions together. */
export interface JointFailure {
  code: string;
  reasons: readonly string[];
  measured: Record<string, number | string>;
}

export function quarantinedTogether(
  revisions: readonly FactRevision[],
  { code, reasons, measured }: JointFailure,
  decision: Decision,
): Outcome[] {
  return revisions.map((revision) =>
    outcomeOf(revision, decision, {
      status: 'QUARANTINED',
      reason: reasons.join('; '),
      measured: { ...measured, code },
    }),
  );
}

export function measuredScores(scores: ProbeScores): Record<string, number> {
  return Object.fromEntries(
    Object.entries(scores).filter((entry): entry is [string, number] => entry[1] !== null),
  );
}

/**
 * Returns the ids of the revisions that do not have exactly one outcome. A batch must not end while
 * there are any.
 *
 * An outcome belongs to a record by id and position: a duplicate has another position. A correction
 * that was committed before and is delivered again may leave in this very batch, or an undo between
 * two runs of the batch may remove or restore it. The last of these is then its outcome, however
 * often each is repeated.
 */
export function unaccounted(
  revisions: readonly FactRevision[],
  outcomes: readonly Outcome[],
): string[] {
  const byRecord = new Map<string, Map<string, Outcome>>();
  for (const outcome of outcomes) {
    const name = recordName(outcome.revisionId, outcome.position);
    const known = byRecord.get(name) ?? new Map<string, Outcome>();
    byRecord.set(name, known.set(`${outcome.status} ${outcome.version}`, outcome));
  }
  return revisions
    .filter((revision) => {
      const known = byRecord.get(recordName(revisionId(revision), revision.position));
      return !isOneOutcome([...(known?.values() ?? [])]);
    })
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

function recordName(id: string, { topic, partition, offset }: KafkaPosition): string {
  return `${id}@${topic}-${partition}-${offset}`;
}

/** The status of a committed correction after it leaves the hook. */
const STATUS_AFTER: Record<Removal['because'], OutcomeStatus> = {
  superseded: 'SUPERSEDED',
  retracted: 'RETRACTED',
  reverted: 'RETRACTED',
  contradicted: 'QUARANTINED',
};
