/** The outcomes and tombstones that entries imply, for the register. */
import type { KafkaPosition } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { Removal } from '../../schemas/editing.ts';
import { undoRevisionId } from '../../schemas/undo.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';

/** The last removal or refusal on a fact. An older revision that arrives late loses to it. */
export interface FactTombstone {
  factKey: string;
  because: Removal['because'];
  /** The revision that caused the removal or refusal. */
  id: string;
  issuedAt: number;
  /** Null where no version was made. */
  version: number | null;
}

/** The first outcomes of an entry's corrections and retractions. */
export function firstOutcomes(entry: VersionEntry): Outcome[] {
  const { lineage, version, batchId, added, retractions } = entry;
  const decidedAt = Date.parse(entry.createdAt);
  const decided = { lineage, version, reason: null, measured: {}, batchId, decidedAt };
  const outcome = (
    status: 'COMMITTED' | 'RETRACTED',
    revisionId: string,
    { factKey, position }: About,
  ) => ({
    ...decided,
    revisionId,
    factKey,
    status,
    position,
  });
  return [
    ...added.map((one) => outcome('COMMITTED', one.correctionId, one)),
    ...retractions.map((one) => outcome('RETRACTED', one.id, one)),
  ];
}

type About = Pick<Outcome, 'factKey' | 'position'>;
type LaterOutcome = Omit<Outcome, 'lineage' | 'factKey' | 'position'>;

/** The later outcomes of committed corrections that an entry removed or restored. */
export function laterOutcomes(entry: VersionEntry): LaterOutcome[] {
  const { added, removed, undo, version, batchId } = entry;
  const decided = { version, batchId, decidedAt: Date.parse(entry.createdAt) };
  return [
    ...removed.map(({ correctionId: revisionId, because, by }) => ({
      ...decided,
      revisionId,
      status: REMOVED_STATUS[because],
      reason: `${because} by ${by}`,
      measured: { code: because === 'contradicted' ? 'contradiction' : because, by },
    })),
    ...added
      .filter(({ origin }) => origin !== undefined)
      .map(({ correctionId: revisionId }) => ({
        ...decided,
        revisionId,
        status: 'COMMITTED' as const,
        reason: `restored by ${undoRevisionId(undo!)}`,
        measured: { code: 'restored', by: undoRevisionId(undo!) },
      })),
  ];
}

const REMOVED_STATUS = {
  superseded: 'SUPERSEDED',
  retracted: 'RETRACTED',
  reverted: 'RETRACTED',
  contradicted: 'QUARANTINED',
} as const;

/**
 * Returns the tombstone of an outcome that no version records: a retraction of a fact without a
 * correction, or two contradicting corrections of the same time.
 */
export function tombstoneOf(outcome: Outcome): FactTombstone | null {
  const { status, measured, factKey, revisionId: id } = outcome;
  const { issuedAt, code } = measured;
  if (typeof issuedAt !== 'number') return null;
  if (status === 'NOTHING_TO_RETRACT')
    return { factKey, because: 'retracted', id, issuedAt, version: null };
  return status === 'QUARANTINED' && code === 'contradiction'
    ? { factKey, because: 'contradicted', id, issuedAt, version: null }
    : null;
}

/** Tells whether a committed correction left the hook after `present`, or leaves it now. */
export function isLaterOutcome(outcome: Outcome, present: Outcome): boolean {
  return (
    present.status === 'COMMITTED' &&
    outcome.status !== 'COMMITTED' &&
    isSameRecord(outcome.position, present.position) &&
    (outcome.version ?? 0) > (present.version ?? 0)
  );
}

export function duplicateOf(outcome: Outcome, present: Outcome): Outcome {
  return {
    ...outcome,
    status: 'DUPLICATE',
    version: present.version,
    reason: duplicateReason(present),
    measured: { code: 'duplicate' },
  };
}

export function duplicateReason({ revisionId, status, version, position }: Outcome): string {
  const became = status.toLowerCase().replaceAll('_', ' ');
  return (
    `"${revisionId}" came before, at partition ${position.partition}, ` +
    `offset ${position.offset}, and became ${became}` +
    (version === null ? '' : ` in version ${version}`)
  );
}

export function isSameRecord(a: KafkaPosition, b: KafkaPosition): boolean {
  return a.topic === b.topic && a.partition === b.partition && a.offset === b.offset;
}
