/**
 * Decides which revisions of a fact win. One rule serves the cutting of a batch, its plan against
 * what is committed, and a rebuild, so that the result depends neither on the order of arrival nor
 * on where batches are cut.
 */
import {
  revisionIssuedAt,
  saysTheSame,
  type FactRevision,
  type KafkaPosition,
} from './correction.ts';

/** The order of two revisions of a fact depends on these; committed corrections have them. */
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
 * Compares two revisions of a fact: positive where `a` wins. The later time of issue wins; at the
 * same time a retraction, and of two alike the one with the higher offset, partition and topic.
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

/** Tells whether two answers to one fact were issued at the same time and differ: neither holds. */
export function contradict(
  a: { issuedAt: number; target: string },
  b: { issuedAt: number; target: string },
): boolean {
  return a.issuedAt === b.issuedAt && !saysTheSame(a, b);
}

/** `winners` is one revision, or all that contradict each other at the latest time; best first. */
export interface DecidedFact {
  winners: FactRevision[];
  superseded: FactRevision[];
}

/** Decides between revisions of one fact with different ids; there must be at least one. */
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
