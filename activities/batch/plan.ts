/**
 * Compares a batch with earlier decisions. It is a pure function: the same batch on the same
 * version gets the same decision.
 */
import {
  normalisedText,
  revisionId,
  saysTheSame,
  type CorrectionRevision,
  type FactRevision,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import {
  outcomeOf,
  type Decision,
  type Outcome,
  contradictionMeasured,
  contradictionReason,
} from '../../schemas/outcome.ts';
import type { BatchPlan, Removal } from '../../schemas/editing.ts';
import type { PlanStep } from '../../schemas/steps.ts';
import {
  compareRanks,
  contradict,
  decideFact,
  rankOf,
  type Rank,
} from '../../schemas/supersession.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import {
  duplicateReason,
  isSameRecord,
  type FactTombstone,
} from '../../versions/log/entry-outcomes.ts';

/** Earlier decisions that concern the batch. */
export interface Precedents {
  history: History;
  /** Outcomes of the batch's ids that were decided earlier. */
  outcomes: ReadonlyMap<string, Outcome>;
  /** Tombstones of the batch's facts, where one exists. */
  tombstones: ReadonlyMap<string, FactTombstone>;
}

export function planOf(precedents: Precedents, batch: PlanStep, decidedAt: number): BatchPlan {
  return new Planner(precedents, batch, decidedAt).plan();
}

class Planner {
  readonly #precedents: Precedents;
  readonly #revisions: readonly FactRevision[];
  readonly #decision: Decision;
  readonly #plan: BatchPlan;

  constructor(precedents: Precedents, { lineage, batchId, revisions }: PlanStep, at: number) {
    this.#precedents = precedents;
    this.#revisions = revisions;
    this.#decision = { lineage, batchId, decidedAt: at };
    const { head } = precedents.history;
    this.#plan = { head, committed: null, edits: [], removals: [], withdrawals: [], settled: [] };
  }

  plan(): BatchPlan {
    const winners = this.#winnersOfEachFact(this.#withoutDuplicates());
    const corrections = winners.filter((revision) => revision.kind === 'correction');
    for (const revision of this.#withoutContradictions(corrections)) this.#correct(revision);
    for (const revision of winners) if (revision.kind === 'retraction') this.#retract(revision);
    return this.#plan;
  }

  /**
   * An id that was decided earlier keeps its outcome. The record that was decided is not a
   * duplicate of itself.
   */
  #withoutDuplicates(): FactRevision[] {
    const seen = new Set<string>();
    const measured = { code: 'duplicate' };
    return this.#revisions.filter((revision) => {
      const id = revisionId(revision);
      const decided = this.#precedents.outcomes.get(id);
      if (decided === undefined && !seen.has(id)) {
        seen.add(id);
        return true;
      }
      if (decided === undefined)
        this.#settle(revision, 'DUPLICATE', `"${id}" is in the batch twice`, { measured });
      else if (isSameRecord(decided.position, revision.position)) this.#plan.settled.push(decided);
      else {
        const { version } = decided;
        this.#settle(revision, 'DUPLICATE', duplicateReason(decided), { version, measured });
      }
      return false;
    });
  }

  #winnersOfEachFact(revisions: readonly FactRevision[]): FactRevision[] {
    const superseded = new Map<FactRevision, FactRevision>();
    for (const ofFact of grouped(revisions, ({ factKey }) => factKey).values()) {
      const decided = decideFact(ofFact);
      for (const revision of decided.superseded) superseded.set(revision, decided.winners[0]!);
    }
    return revisions.filter((revision) => {
      const winner = superseded.get(revision);
      if (winner === undefined) return true;
      const by = revisionId(winner);
      this.#supersede(revision, by, `"${by}" of the same batch is newer`);
      return false;
    });
  }

  /**
   * One prompt has one answer, whatever its facts are called. The newer of two answers wins; two
   * with the same time contradict each other.
   */
  #withoutContradictions(corrections: readonly CorrectionRevision[]): CorrectionRevision[] {
    const byPrompt = grouped(corrections, ({ correction }) => normalisedText(correction.prompt));
    const byFact = grouped(corrections, ({ factKey }) => factKey);
    return corrections.filter((revision) => {
      const { correction, factKey } = revision;
      const near = new Set([
        ...byPrompt.get(normalisedText(correction.prompt))!,
        ...byFact.get(factKey)!,
      ]);
      const rivals = [...near]
        .map((rival) => rival.correction)
        .filter((rival) => !saysTheSame(rival, correction));
      const newer = rivals.find(({ issuedAt }) => issuedAt > correction.issuedAt);
      const equal = rivals.filter((rival) => contradict(rival, correction));
      if (newer !== undefined) {
        const reason = `"${newer.id}" of the same batch answers the same prompt and is newer`;
        this.#supersede(revision, newer.id, reason);
      } else if (equal.length > 0) this.#contradicted(revision, equal);
      return newer === undefined && equal.length === 0;
    });
  }

  #correct(revision: CorrectionRevision): void {
    const { correction, factKey } = revision;
    const holders = this.#holdersOf(revision);
    const newer = holders.find((holder) => isNewer(holder, revision));
    if (newer !== undefined) return this.#supersedeLate(revision, newer);
    const holder = this.#holderOf(factKey);
    const tombstone = this.#precedents.tombstones.get(factKey);
    if (tombstone !== undefined && (holder === undefined || tombstone.issuedAt > holder.issuedAt)) {
      const { because, version } = tombstone;
      const isTied = tombstone.issuedAt === correction.issuedAt;
      if (tombstone.issuedAt > correction.issuedAt || (isTied && because === 'retracted'))
        return this.#settle(revision, 'SUPERSEDED', laterReason(tombstone), { version });
      if (isTied && because === 'contradicted') {
        const measured = contradictionMeasured(correction.issuedAt, 1);
        return this.#settle(revision, 'QUARANTINED', contradictedReason(tombstone), { measured });
      }
    }
    const contradicted = holders.filter((one) => contradict(one, correction));
    if (contradicted.length > 0) return this.#withdraw(revision, contradicted, 'contradicted');
    this.#plan.edits.push(revision);
    for (const one of holders) this.#remove(one, 'superseded', correction.id);
  }

  /**
   * Also removes a committed correction with the same time: the order of arrival decides nothing.
   */
  #contradicted(
    revision: CorrectionRevision,
    others: readonly { id: string; target: string }[],
  ): void {
    const { issuedAt } = revision.correction;
    const holders = this.#holdersOf(revision).filter((holder) => holder.issuedAt === issuedAt);
    if (holders.length > 0) return this.#withdraw(revision, holders, 'contradicted');
    const measured = contradictionMeasured(issuedAt, others.length);
    this.#settle(revision, 'QUARANTINED', contradictionReason(others), { measured });
  }

  #retract(revision: RetractionRevision): void {
    const holder = this.#holderOf(revision.factKey);
    if (holder === undefined) {
      const measured = { code: 'nothing-to-retract', issuedAt: revision.issuedAt };
      const reason = 'the fact has no committed correction';
      this.#settle(revision, 'NOTHING_TO_RETRACT', reason, { measured });
    } else if (isNewer(holder, revision)) this.#supersedeLate(revision, holder);
    else this.#withdraw(revision, [holder], 'retracted');
  }

  #holderOf(factKey: string): ActiveCorrection | undefined {
    const { active, activeByFact } = this.#precedents.history;
    return active.get(activeByFact.get(factKey) ?? '');
  }

  /**
   * Returns the committed corrections that this one would replace: its fact's, and those of other
   * facts that answer its prompt differently.
   */
  #holdersOf({ factKey, correction }: CorrectionRevision): ActiveCorrection[] {
    const holder = this.#holderOf(factKey);
    const ofPrompt = this.#activeByPrompt.get(normalisedText(correction.prompt)) ?? [];
    const rivals = ofPrompt.filter((one) => one !== holder && !saysTheSame(one, correction));
    return holder === undefined ? rivals : [holder, ...rivals];
  }

  #byPrompt: Map<string, ActiveCorrection[]> | null = null;
  get #activeByPrompt(): Map<string, ActiveCorrection[]> {
    const { active } = this.#precedents.history;
    return (this.#byPrompt ??= grouped([...active.values()], ({ prompt }) =>
      normalisedText(prompt),
    ));
  }

  #withdraw(
    revision: FactRevision,
    holders: readonly ActiveCorrection[],
    because: Removal['because'],
  ): void {
    this.#plan.withdrawals.push(revision);
    for (const holder of holders) this.#remove(holder, because, revisionId(revision));
  }

  /**
   * Removes a correction once, even if two revisions of the batch remove it. A removal that holds
   * even if an edit is refused takes precedence over a supersession.
   */
  #remove(
    { correctionId, factKey, position }: ActiveCorrection,
    because: Removal['because'],
    by: string,
  ): void {
    const removal = { correctionId, factKey, because, by, position };
    const { removals } = this.#plan;
    const at = removals.findIndex((one) => one.correctionId === correctionId);
    if (at === -1) removals.push(removal);
    else if (removals[at]!.because === 'superseded') removals[at] = removal;
  }

  #supersede(revision: FactRevision, by: string, reason: string): void {
    this.#settle(revision, 'SUPERSEDED', reason, { measured: { code: 'superseded', by } });
  }

  #supersedeLate(revision: FactRevision, { correctionId, version }: ActiveCorrection): void {
    const reason = `"${correctionId}", committed in version ${version}, was issued later`;
    this.#settle(revision, 'SUPERSEDED', reason, { version });
  }

  #settle(
    revision: FactRevision,
    status: Outcome['status'],
    reason: string,
    more: Partial<Pick<Outcome, 'version' | 'measured'>>,
  ): void {
    this.#plan.settled.push(outcomeOf(revision, this.#decision, { status, reason, ...more }));
  }
}

/** Tells whether a committed correction wins over the revision without contradicting it. */
function isNewer(holder: ActiveCorrection, revision: FactRevision): boolean {
  const rank: Rank = { ...holder, kind: 'correction' };
  if (revision.kind === 'correction' && contradict(holder, revision.correction)) return false;
  return compareRanks(rank, rankOf(revision)) > 0;
}

function laterReason({ id, because }: FactTombstone): string {
  if (because === 'reverted') return `"${id}" reverted a later correction of the fact`;
  const what = because === 'retracted' ? 'which retracted the fact' : `which was ${because}`;
  return `"${id}", ${what}, was issued later`;
}

function contradictedReason({ id }: FactTombstone): string {
  return `issued at the same time as corrections that contradict each other ("${id}" is one)`;
}

function grouped<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
