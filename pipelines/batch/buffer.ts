/**
 * Cuts batches from the waiting revisions. All decisions are made when a batch is cut, from all
 * waiting revisions, so that the order of arrival does not matter.
 */
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import { outcomeOf, type Decision, type Outcome } from '../../schemas/outcome.ts';
import { decideFact } from '../../schemas/supersession.ts';
import { batchIdOf } from './batch-id.ts';

export interface Waiting {
  revision: FactRevision;
  /** Bytes of the revision's JSON. */
  bytes: number;
  /** Milliseconds since 1970, by the workflow's clock. */
  arrivedAt: number;
}

interface CutLimits {
  editsMax: number;
  bytesMax: number;
}

interface Cut {
  /**
   * One revision per fact, in order of arrival. Contradicting corrections of the same time are all
   * included, and the plan decides between them.
   */
  revisions: FactRevision[];
  settled: Settled[];
  rest: Waiting[];
}

interface Settled {
  kind: 'duplicate' | 'superseded';
  revision: FactRevision;
  by: FactRevision;
}

/**
 * Cuts a batch of at most `editsMax` facts and `bytesMax` bytes, oldest fact first. A fact's
 * revisions stay together. The first fact is taken whatever its size.
 */
export function cutBatch(waiting: readonly Waiting[], limits: CutLimits): Cut {
  const revisions: FactRevision[] = [];
  const settled: Settled[] = [];
  const taken = new Set<Waiting>();
  let bytes = 0;
  for (const group of groupsByFact(waiting)) {
    const groupBytes = group.reduce((sum, item) => sum + item.bytes, 0);
    if (taken.size > 0 && bytes + groupBytes > limits.bytesMax) break;
    const decided = decideGroup(group.map((item) => item.revision));
    if (taken.size > 0 && revisions.length + decided.winners.length > limits.editsMax) break;
    revisions.push(...decided.winners);
    settled.push(...decided.settled);
    for (const item of group) taken.add(item);
    bytes += groupBytes;
  }
  return { revisions, settled, rest: waiting.filter((item) => !taken.has(item)) };
}

/** Cuts the batch with this number, with the outcomes of revisions that need no edit. */
export function cutNumbered(
  waiting: readonly Waiting[],
  limits: CutLimits,
  { lineage, sequence, now }: { lineage: string; sequence: number; now: number },
) {
  const { revisions, settled, rest } = cutBatch(waiting, limits);
  const batchId = batchIdOf(sequence, [...revisions, ...settled.map((one) => one.revision)]);
  const decision = { lineage, batchId, decidedAt: now };
  const outcomes = settled.map((one) => settledOutcome(one, decision));
  return { batchId, revisions, settled: outcomes, rest };
}

/** Returns the outcome of a revision that was decided when its batch was cut. */
function settledOutcome({ kind, revision, by }: Settled, decision: Decision): Outcome {
  const { partition, offset } = by.position;
  if (kind === 'duplicate')
    return outcomeOf(revision, decision, {
      status: 'DUPLICATE',
      reason: `the record at partition ${partition}, offset ${offset} has the same id`,
      measured: { code: 'duplicate' },
    });
  return outcomeOf(revision, decision, {
    status: 'SUPERSEDED',
    reason: `superseded by ${revisionId(by)} before it was edited`,
    measured: { code: 'superseded', by: revisionId(by) },
  });
}

/** Groups by fact, oldest member first; one id stays together even under different facts. */
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

function decideGroup(group: readonly FactRevision[]): {
  winners: FactRevision[];
  settled: Settled[];
} {
  const settled: Settled[] = [];
  const first = new Map<string, FactRevision>();
  for (const revision of group) {
    const by = first.get(revisionId(revision));
    if (by === undefined) first.set(revisionId(revision), revision);
    else settled.push({ kind: 'duplicate', revision, by });
  }
  const { winners, superseded } = decideFact([...first.values()]);
  for (const revision of superseded)
    settled.push({ kind: 'superseded', revision, by: winners[0]! });
  return { winners, settled };
}
