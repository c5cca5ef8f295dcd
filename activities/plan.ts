/** A batch measured against a history: a pure function, so that the same batch on the same version is decided the same. */
import { revisionId, revisionIssuedAt, type CorrectionRevision, type FactRevision, type RetractionRevision } from '../schemas/correction.ts';
import type { BatchPlan, Outcome, Removal } from '../schemas/editing.ts';
import type { ActiveCorrection, History } from '../versions/history.ts';

export interface Batch {
  lineage: string;
  batchId: string;
  revisions: readonly FactRevision[];
}

export function planOf(history: History, batch: Batch, decidedAt: number): BatchPlan {
  const plan: BatchPlan = { head: history.head, committed: null, edits: [], removals: [], retractions: [], settled: [] };
  const settle = (revision: FactRevision, status: Outcome['status'], reason: string | null, more: Partial<Outcome> = {}) =>
    plan.settled.push(outcomeOf(revision, batch, { status, reason, decidedAt, ...more }));

  const fresh = withoutDuplicates(history, batch.revisions, settle);
  const newest = newestOfEachFact(fresh, settle);
  const corrections = withoutContradictions(newest.filter((revision) => revision.kind === 'correction'), settle);
  const activeByPrompt = new Map([...history.active.values()].map((active) => [promptOf(active.prompt), active]));

  for (const revision of corrections) {
    const latest = history.latestByFact.get(revision.factKey);
    const holder = history.activeByFact.get(revision.factKey);
    // A fact may have been corrected under another relation's name; one prompt has one answer.
    const samePrompt = activeByPrompt.get(promptOf(revision.correction.prompt));
    const rival = samePrompt !== undefined && samePrompt.correctionId !== holder && samePrompt.target !== revision.correction.target ? samePrompt : undefined;
    const later = [latest, rival].find((earlier) => earlier !== undefined && earlier.issuedAt > revision.correction.issuedAt);
    if (later !== undefined) {
      const id = 'id' in later ? later.id : later.correctionId;
      settle(revision, 'SUPERSEDED', `"${id}", committed in version ${later.version}, was issued later`, { version: later.version });
      continue;
    }
    plan.edits.push(revision);
    for (const predecessor of [history.active.get(holder ?? ''), rival]) {
      if (predecessor !== undefined) addRemoval(plan, removalOf(predecessor, 'superseded', revision.correction.id));
    }
  }
  for (const revision of newest.filter((one): one is RetractionRevision => one.kind === 'retraction')) {
    const holder = history.active.get(history.activeByFact.get(revision.factKey) ?? '');
    if (holder === undefined) settle(revision, 'NOTHING_TO_RETRACT', 'the fact has no committed correction');
    else if (holder.issuedAt > revision.issuedAt) {
      settle(revision, 'SUPERSEDED', `"${holder.correctionId}", committed in version ${holder.version}, was issued later`, { version: holder.version });
    } else {
      plan.retractions.push(revision);
      addRemoval(plan, removalOf(holder, 'retracted', revision.id));
    }
  }
  return plan;
}

export function outcomeOf(
  revision: FactRevision,
  batch: { lineage: string; batchId: string },
  decided: Pick<Outcome, 'status' | 'reason' | 'decidedAt'> & Partial<Pick<Outcome, 'version' | 'measured'>>,
): Outcome {
  return {
    lineage: batch.lineage,
    revisionId: revisionId(revision),
    factKey: revision.factKey,
    version: null,
    measured: {},
    position: revision.position,
    batchId: batch.batchId,
    ...decided,
  };
}

type Settle = (revision: FactRevision, status: Outcome['status'], reason: string | null, more?: Partial<Outcome>) => void;

function removalOf({ correctionId, factKey, position }: ActiveCorrection, because: Removal['because'], by: string): Removal {
  return { correctionId, factKey, because, by, position };
}

/** A correction that two of the batch want gone goes once; a retraction outweighs, for it holds though an edit is refused. */
function addRemoval(plan: BatchPlan, removal: Removal): void {
  const at = plan.removals.findIndex(({ correctionId }) => correctionId === removal.correctionId);
  if (at === -1) plan.removals.push(removal);
  else if (removal.because === 'retracted') plan.removals[at] = removal;
}

function withoutDuplicates(history: History, revisions: readonly FactRevision[], settle: Settle): FactRevision[] {
  const seen = new Set<string>();
  return revisions.filter((revision) => {
    const id = revisionId(revision);
    const version = history.committed.get(id);
    if (version !== undefined && isOwnRecord(history, version, revision)) settle(revision, revision.kind === 'correction' ? 'COMMITTED' : 'RETRACTED', null, { version });
    else if (version !== undefined) settle(revision, 'DUPLICATE', `"${id}" was committed in version ${version}`, { version });
    else if (seen.has(id)) settle(revision, 'DUPLICATE', `"${id}" is in the batch twice`);
    else return seen.add(id);
    return false;
  });
}

/** The very record was committed, by a part of its batch in an earlier run: it has its outcome and is no duplicate of itself. */
function isOwnRecord(history: History, version: number, revision: FactRevision): boolean {
  const { added, retractions } = history.entries[version - 1]!.entry;
  const id = revisionId(revision);
  const position = (added.find(({ correctionId }) => correctionId === id) ?? retractions.find((retraction) => retraction.id === id))?.position;
  const { topic, partition, offset } = revision.position;
  return position !== undefined && position.topic === topic && position.partition === partition && position.offset === offset;
}

function newestOfEachFact(revisions: readonly FactRevision[], settle: Settle): FactRevision[] {
  const newest = new Map<string, FactRevision>();
  for (const revision of revisions) {
    const rival = newest.get(revision.factKey);
    if (rival === undefined || isNewer(revision, rival)) newest.set(revision.factKey, revision);
  }
  return revisions.filter((revision) => {
    const winner = newest.get(revision.factKey)!;
    if (winner !== revision) settle(revision, 'SUPERSEDED', `"${revisionId(winner)}" of the same batch is newer`);
    return winner === revision;
  });
}

/** Two facts that give one prompt different answers: the newer is written. */
function withoutContradictions(corrections: readonly CorrectionRevision[], settle: Settle): CorrectionRevision[] {
  const newest = new Map<string, CorrectionRevision>();
  for (const revision of corrections) {
    const prompt = promptOf(revision.correction.prompt);
    const rival = newest.get(prompt);
    if (rival === undefined || isNewer(revision, rival)) newest.set(prompt, revision);
  }
  return corrections.filter((revision) => {
    const winner = newest.get(promptOf(revision.correction.prompt))!;
    const contradicted = winner.correction.target !== revision.correction.target;
    if (contradicted) {
      settle(revision, 'QUARANTINED', `"${winner.correction.id}" of the same batch answers the same prompt with "${winner.correction.target}"`, { measured: { code: 'contradiction' } });
    }
    return !contradicted;
  });
}

/** By the submitters' clock, then by the place in Kafka, then by the place in the batch. */
function isNewer(revision: FactRevision, rival: FactRevision): boolean {
  const [issuedAt, rivalIssuedAt] = [revisionIssuedAt(revision), revisionIssuedAt(rival)];
  if (issuedAt !== rivalIssuedAt) return issuedAt > rivalIssuedAt;
  const [a, b] = [revision.position, rival.position];
  return a.topic !== b.topic || a.partition !== b.partition || BigInt(a.offset) >= BigInt(b.offset);
}

function promptOf(prompt: string): string {
  return prompt.normalize('NFC').trim().replace(/\s+/gu, ' ');
}
