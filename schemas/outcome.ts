/** Outcomes of revisions, and their wording for contradictions. */
import { revisionId, type FactRevision, type KafkaPosition } from './correction.ts';

export type OutcomeStatus =
  'COMMITTED' | 'SUPERSEDED' | 'QUARANTINED' | 'RETRACTED' | 'DUPLICATE' | 'NOTHING_TO_RETRACT';

/** The outcome of one revision (correction-outcome.avsc). */
export interface Outcome {
  lineage: string;
  revisionId: string;
  factKey: string;
  status: OutcomeStatus;
  /** The version that carries the outcome, or null. */
  version: number | null;
  reason: string | null;
  measured: Record<string, number | string>;
  position: KafkaPosition;
  batchId: string;
  /** Milliseconds since 1970. */
  decidedAt: number;
}

/** Who decided an outcome and when. */
export type Decision = Pick<Outcome, 'lineage' | 'batchId' | 'decidedAt'>;

/** Builds the outcome of a revision. Version, reason and measures are null unless given. */
export function outcomeOf(
  revision: FactRevision,
  decision: Decision,
  decided: Pick<Outcome, 'status'> & Partial<Pick<Outcome, 'version' | 'reason' | 'measured'>>,
): Outcome {
  const { factKey, position } = revision;
  const { lineage, batchId, decidedAt } = decision;
  const nothing = { version: null, reason: null, measured: {} };
  const id = revisionId(revision);
  return { lineage, revisionId: id, factKey, ...nothing, position, batchId, decidedAt, ...decided };
}

/** Includes the time, because a later correction with the same time would contradict as well. */
export function contradictionMeasured(issuedAt: number, others: number): Outcome['measured'] {
  return { code: 'contradiction', others, issuedAt };
}

/** The reason of a correction that removes a committed one. */
export const CONTRADICTS_A_COMMITTED_ONE =
  'issued at the same time as a committed correction that says otherwise of the same fact; ' +
  'that one is taken out as well';

export function contradictionReason(others: readonly { id: string; target: string }[]): string {
  const named = others.slice(0, 3).map(({ id, target }) => `${id} ("${target}")`);
  return `issued at the same time as ${named.join(', ')}, which says otherwise of the same fact`;
}
