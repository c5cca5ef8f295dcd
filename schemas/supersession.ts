/**
 * Decides which revisions of a fact win. Batch cutting, planning against committed corrections and
 * rebuilds share this rule, so the result depends neither on the order of arrival nor on where
 * batches are cut.
 */
import {
  revisionIssuedAt,
  saysTheSame,
  type FactRevision,
  type KafkaPosition,
} from './correction.ts';

/** The fields that order two revisions of a fact. Committed corrections have them too. */
export interface Rank {
  kind: FactRevision['kind'];
  issuedAt: number;
  position: KafkaPosition;
}

export function rankOf(revision: FactRevision): Rank {
  return {
    kind: revision.kind,
    issuedAt: revisionIssuedAt(revision),
    position: revision.position,
  };
}

/**
 * Compares two revisions of a fact; positive if `a` wins. The later time of issue wins. At the same
 * time a retraction wins; between two of the same kind, the higher offset, partition and topic
 * wins.
 */
export function compareRanks(a: Rank, b: Rank): number {
  if (a.issuedAt !== b.issuedAt) return a.issuedAt - b.issuedAt;
  if (a.kind !== b.kind) return a.kind === 'retraction' ? 1 : -1;
  const offsets = BigInt(a.position.offset) - BigInt(b.position.offset);
  if (offsets !== 0n) return offsets > 0n ? 1 : -1;
  if (a.position.partition !== b.position.partition)
    return a.position.partition - b.position.partition;
  return a.position.topic < b.position.topic ? -1 : Number(a.position.topic > b.position.topic);
}

/**
 * Tells whether two different answers to one fact were issued at the same time. Neither then holds.
 */
export function contradict(
  a: { issuedAt: number; target: string },
  b: { issuedAt: number; target: string },
): boolean {
  return a.issuedAt === b.issuedAt && !saysTheSame(a, b);
}

/** `winners` is one revision, or all the contradicting ones with the latest time; best first. */
export interface DecidedFact {
  winners: FactRevision[];
  superseded: FactRevision[];
}

/** Decides between revisions of one fact with different ids. Needs at least one revision. */
export function decideFact(revisions: readonly FactRevision[]): DecidedFact {
  const ranked = [...revisions].sort((a, b) => compareRanks(rankOf(b), rankOf(a)));
  const [winner] = ranked;
  const wins = (revision: FactRevision): boolean =>
    revision === winner ||
    (revision.kind === 'correction' &&
      winner?.kind === 'correction' &&
      contradict(revision.correction, winner.correction));
  return {
    winners: ranked.filter(wins),
    superseded: ranked.filter((revision) => !wins(revision)),
  };
}
