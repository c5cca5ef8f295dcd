/**
 * Which of the waiting revisions become the next batch, and what the others of the same facts
 * become.
 *
 * Nothing is decided when a revision comes in: everything is decided when a batch is cut, from what
 * waits then, so the decision does not depend on the order in which the partitions' records
 * arrived.
 */
import {
  revisionId,
  revisionIssuedAt,
  saysTheSame,
  type FactRevision,
} from '../../schemas/correction.ts';

export interface Waiting {
  revision: FactRevision;
  /** Of its JSON. */
  bytes: number;
  /** By the workflow's clock, milliseconds since 1970. */
  arrivedAt: number;
}

export interface CutLimits {
  editsMax: number;
  bytesMax: number;
}

export interface Cut {
  /**
   * At most one per fact, in order of arrival; several where corrections of one time contradict
   * each other, which the plan decides.
   */
  revisions: FactRevision[];
  settled: Settled[];
  rest: Waiting[];
}

/** A revision that needs no edit, and why. */
export type Settled =
  | { kind: 'duplicate'; revision: FactRevision; of: FactRevision }
  | { kind: 'superseded'; revision: FactRevision; by: FactRevision };

/**
 * Cuts a batch of at most `editsMax` facts and `bytesMax` bytes off the waiting revisions, oldest
 * fact first.
 *
 * Of the revisions of one fact the one issued last is edited and the others are superseded; of
 * those issued at the same time the one with the higher offset, and with it the corrections that
 * contradict it. A fact's revisions are taken together or not at all; a first fact is taken
 * whatever its size.
 */
export function cutBatch(waiting: readonly Waiting[], limits: CutLimits): Cut {
  const revisions: FactRevision[] = [];
  const settled: Settled[] = [];
  const taken = new Set<Waiting>();
  let bytes = 0;
  for (const group of groupsByFact(waiting)) {
    const groupBytes = group.reduce((sum, item) => sum + item.bytes, 0);
    if (taken.size > 0 && bytes + groupBytes > limits.bytesMax) break;
    const decided = decideFact(group.map((item) => item.revision));
    if (taken.size > 0 && revisions.length + decided.latest.length > limits.editsMax) break;
    revisions.push(...decided.latest);
    settled.push(...decided.settled);
    for (const item of group) taken.add(item);
    bytes += groupBytes;
  }
  return { revisions, settled, rest: waiting.filter((item) => !taken.has(item)) };
}

/**
 * The groups in order of their oldest member. Revisions with the same id belong together even under
 * different facts.
 */
function groupsByFact(waiting: readonly Waiting[]): Waiting[][] {
  const groups = new Map<string, Waiting[]>();
  const factOfId = new Map<string, string>();
  for (const item of waiting) {
    const id = revisionId(item.revision);
    const fact = factOfId.get(id) ?? item.revision.factKey;
    factOfId.set(id, fact);
    const group = groups.get(fact);
    if (group === undefined) groups.set(fact, [item]);
    else group.push(item);
  }
  return [...groups.values()];
}

function decideFact(revisions: readonly FactRevision[]): {
  latest: FactRevision[];
  settled: Settled[];
} {
  const settled: Settled[] = [];
  const first = new Map<string, FactRevision>();
  for (const revision of revisions) {
    const of = first.get(revisionId(revision));
    if (of === undefined) first.set(revisionId(revision), revision);
    else settled.push({ kind: 'duplicate', revision, of });
  }
  const distinct = [...first.values()].sort(byTimeThenOffset);
  const winner = distinct[0]!;
  const latest = distinct.filter((revision) => revision === winner || contradict(winner, revision));
  for (const revision of distinct)
    if (!latest.includes(revision)) settled.push({ kind: 'superseded', revision, by: winner });
  return { latest, settled };
}

function contradict(a: FactRevision, b: FactRevision): boolean {
  return (
    a.kind === 'correction' &&
    b.kind === 'correction' &&
    a.correction.issuedAt === b.correction.issuedAt &&
    !saysTheSame(a.correction, b.correction)
  );
}

/** Latest first; of one time the higher offset first. */
function byTimeThenOffset(a: FactRevision, b: FactRevision): number {
  const byTime = revisionIssuedAt(b) - revisionIssuedAt(a);
  if (byTime !== 0) return byTime;
  const byOffset = BigInt(b.position.offset) - BigInt(a.position.offset);
  if (byOffset !== 0n) return byOffset > 0n ? 1 : -1;
  return b.position.partition - a.position.partition;
}
