/**
 * A batch measured against what was decided before: a pure function, so that the same batch on the
 * same version is decided the same.
 */
import {
  normalisedText,
  revisionId,
  revisionIssuedAt,
  saysTheSame,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import { contradictionMeasured, contradictionReason } from '../../schemas/contradiction.ts';
import type { BatchPlan, Outcome, Removal } from '../../schemas/editing.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import {
  duplicateReason,
  isSameRecord,
  type FactTombstone,
} from '../../versions/log/entry-outcomes.ts';

export interface Batch {
  lineage: string;
  batchId: string;
  revisions: readonly FactRevision[];
}

/** What was decided before, as far as it concerns the batch. */
export interface Precedents {
  history: History;
  /** What became of the batch's ids, those that were decided. */
  outcomes: ReadonlyMap<string, Outcome>;
  /**
   * The last word on those of the batch's facts of which something was said that no correction
   * holds.
   */
  tombstones: ReadonlyMap<string, FactTombstone>;
}

export function planOf(precedents: Precedents, batch: Batch, decidedAt: number): BatchPlan {
  return new Planner(precedents, batch, decidedAt).plan();
}

class Planner {
  readonly #precedents: Precedents;
  readonly #batch: Batch;
  readonly #decidedAt: number;
  readonly #plan: BatchPlan;

  constructor(precedents: Precedents, batch: Batch, decidedAt: number) {
    this.#precedents = precedents;
    this.#batch = batch;
    this.#decidedAt = decidedAt;
    this.#plan = {
      head: precedents.history.head,
      committed: null,
      edits: [],
      removals: [],
      withdrawals: [],
      settled: [],
    };
  }

  plan(): BatchPlan {
    const newest = this.#newestOfEachFact(this.#withoutDuplicates());
    const corrections = this.#withoutContradictions(
      newest.filter((revision) => revision.kind === 'correction'),
    );
    for (const revision of corrections) this.#correct(revision);
    for (const revision of newest) if (revision.kind === 'retraction') this.#retract(revision);
    return this.#plan;
  }

  /**
   * An id decided before keeps what it became; the very record that was decided has its outcome and
   * is no duplicate of itself.
   */
  #withoutDuplicates(): FactRevision[] {
    const seen = new Map<string, FactRevision>();
    return this.#batch.revisions.filter((revision) => {
      const id = revisionId(revision);
      const decided = this.#precedents.outcomes.get(id);
      const twin = seen.get(id);
      if (decided !== undefined && isSameRecord(decided.position, revision.position))
        this.#plan.settled.push(decided);
      else if (decided !== undefined)
        this.#settle(revision, 'DUPLICATE', duplicateReason(decided), {
          version: decided.version,
          measured: { code: 'duplicate' },
        });
      else if (twin !== undefined)
        this.#settle(revision, 'DUPLICATE', `"${id}" is in the batch twice`, {
          measured: { code: 'duplicate' },
        });
      else return seen.set(id, revision);
      return false;
    });
  }

  /**
   * What was issued last goes on, of one time the record that came last; corrections of one time
   * that say different things all go on.
   */
  #newestOfEachFact(revisions: readonly FactRevision[]): FactRevision[] {
    const newest = new Map<string, FactRevision>();
    for (const revision of revisions) {
      const rival = newest.get(revision.factKey);
      if (rival === undefined || isNewer(revision, rival)) newest.set(revision.factKey, revision);
    }
    return revisions.filter((revision) => {
      const winner = newest.get(revision.factKey)!;
      const goesOn = winner === revision || contradict(winner, revision);
      if (!goesOn)
        this.#settle(revision, 'SUPERSEDED', `"${revisionId(winner)}" of the same batch is newer`, {
          measured: { code: 'superseded', by: revisionId(winner) },
        });
      return goesOn;
    });
  }

  /**
   * One prompt has one answer, whatever its facts are called: of two answers the newer holds, of
   * one time neither does.
   */
  #withoutContradictions(corrections: readonly CorrectionRevision[]): CorrectionRevision[] {
    const byPrompt = grouped(corrections, ({ correction }) => normalisedText(correction.prompt));
    const byFact = grouped(corrections, ({ factKey }) => factKey);
    return corrections.filter((revision) => {
      const near = new Set([
        ...byPrompt.get(normalisedText(revision.correction.prompt))!,
        ...byFact.get(revision.factKey)!,
      ]);
      const rivals = [...near].filter(
        (rival) => !saysTheSame(rival.correction, revision.correction),
      );
      const newer = rivals.find(
        (rival) => rival.correction.issuedAt > revision.correction.issuedAt,
      );
      const equal = rivals.filter(
        (rival) => rival.correction.issuedAt === revision.correction.issuedAt,
      );
      if (newer !== undefined) {
        this.#settle(
          revision,
          'SUPERSEDED',
          `"${newer.correction.id}" of the same batch answers the same prompt and is newer`,
          { measured: { code: 'superseded', by: newer.correction.id } },
        );
      } else if (equal.length > 0)
        this.#contradicted(
          revision,
          equal.map(({ correction }) => correction),
        );
      return newer === undefined && equal.length === 0;
    });
  }

  #correct(revision: CorrectionRevision): void {
    const { history, tombstones } = this.#precedents;
    const { correction, factKey } = revision;
    const holders = this.#holders(revision);
    const holder = history.active.get(history.activeByFact.get(factKey) ?? '');
    const word = tombstones.get(factKey);
    const later = holders.find(({ issuedAt }) => issuedAt > correction.issuedAt);
    if (later !== undefined)
      return this.#settle(
        revision,
        'SUPERSEDED',
        `"${later.correctionId}", committed in version ${later.version}, was issued later`,
        { version: later.version },
      );
    if (word !== undefined && (holder === undefined || word.issuedAt > holder.issuedAt)) {
      if (word.issuedAt > correction.issuedAt)
        return this.#settle(revision, 'SUPERSEDED', laterWord(word), { version: word.version });
      if (word.because === 'contradicted' && word.issuedAt === correction.issuedAt) {
        return this.#settle(
          revision,
          'QUARANTINED',
          `issued at the same time as corrections that contradict each other ("${word.id}" is one)`,
          { measured: contradictionMeasured(correction.issuedAt, 1) },
        );
      }
    }
    const contradicted = holders.filter(
      (holder) => holder.issuedAt === correction.issuedAt && !saysTheSame(holder, correction),
    );
    if (contradicted.length > 0) return this.#contradict(revision, contradicted);
    this.#plan.edits.push(revision);
    for (const holder of holders) this.#remove(holder, 'superseded', correction.id);
  }

  /**
   * A committed correction of the same time that says otherwise goes: which came first must not
   * decide what is believed.
   */
  #contradict(revision: CorrectionRevision, contradicted: readonly ActiveCorrection[]): void {
    this.#plan.withdrawals.push(revision);
    for (const holder of contradicted) this.#remove(holder, 'contradicted', revision.correction.id);
  }

  #contradicted(
    revision: CorrectionRevision,
    others: readonly { id: string; target: string }[],
  ): void {
    const { issuedAt } = revision.correction;
    const holders = this.#holders(revision).filter((holder) => holder.issuedAt === issuedAt);
    if (holders.length > 0) return this.#contradict(revision, holders);
    this.#settle(revision, 'QUARANTINED', contradictionReason(others), {
      measured: contradictionMeasured(issuedAt, others.length),
    });
  }

  #retract(revision: Extract<FactRevision, { kind: 'retraction' }>): void {
    const { history } = this.#precedents;
    const { factKey, issuedAt, id } = revision;
    const holder = history.active.get(history.activeByFact.get(factKey) ?? '');
    if (holder === undefined)
      this.#settle(revision, 'NOTHING_TO_RETRACT', 'the fact has no committed correction', {
        measured: { code: 'nothing-to-retract', issuedAt },
      });
    else if (holder.issuedAt > issuedAt)
      this.#settle(
        revision,
        'SUPERSEDED',
        `"${holder.correctionId}", committed in version ${holder.version}, was issued later`,
        { version: holder.version },
      );
    else {
      this.#plan.withdrawals.push(revision);
      this.#remove(holder, 'retracted', id);
    }
  }

  /**
   * The committed corrections that this one would take the place of: its fact's, and those of other
   * facts that answer its prompt otherwise.
   */
  #holders(revision: CorrectionRevision): ActiveCorrection[] {
    const { history } = this.#precedents;
    const holder = history.active.get(history.activeByFact.get(revision.factKey) ?? '');
    const rivals = (
      this.#activeByPrompt.get(normalisedText(revision.correction.prompt)) ?? []
    ).filter((rival) => rival !== holder && !saysTheSame(rival, revision.correction));
    return [...(holder === undefined ? [] : [holder]), ...rivals];
  }

  #byPrompt: Map<string, ActiveCorrection[]> | null = null;
  get #activeByPrompt(): Map<string, ActiveCorrection[]> {
    return (this.#byPrompt ??= grouped(
      [...this.#precedents.history.active.values()],
      ({ prompt }) => normalisedText(prompt),
    ));
  }

  /**
   * A correction that two of the batch want gone goes once; what holds though an edit is refused
   * outweighs.
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

  #settle(
    revision: FactRevision,
    status: Outcome['status'],
    reason: string,
    more: Partial<Outcome> = {},
  ): void {
    this.#plan.settled.push(
      outcomeOf(revision, this.#batch, { status, reason, decidedAt: this.#decidedAt, ...more }),
    );
  }
}

function laterWord({ id, because }: FactTombstone): string {
  if (because === 'reverted')
    return `"${id}", which reverted a later correction of the fact, stands`;
  return `"${id}", ${because === 'retracted' ? 'which retracted the fact' : `which was ${because}`}, was issued later`;
}

export function outcomeOf(
  revision: FactRevision,
  batch: { lineage: string; batchId: string },
  decided: Pick<Outcome, 'status' | 'reason' | 'decidedAt'> &
    Partial<Pick<Outcome, 'version' | 'measured'>>,
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

function contradict(a: FactRevision, b: FactRevision): boolean {
  return (
    a.kind === 'correction' &&
    b.kind === 'correction' &&
    a.correction.issuedAt === b.correction.issuedAt &&
    !saysTheSame(a.correction, b.correction)
  );
}

/** By the submitters' clock, then by the place in Kafka, then by the place in the batch. */
function isNewer(revision: FactRevision, rival: FactRevision): boolean {
  const [issuedAt, rivalIssuedAt] = [revisionIssuedAt(revision), revisionIssuedAt(rival)];
  if (issuedAt !== rivalIssuedAt) return issuedAt > rivalIssuedAt;
  const [a, b] = [revision.position, rival.position];
  return a.topic !== b.topic || a.partition !== b.partition || BigInt(a.offset) >= BigInt(b.offset);
}

function grouped<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
