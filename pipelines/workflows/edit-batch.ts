/**
 * `edit-batch/<lineage>/<seq>`: makes a version of a batch, or of the parts of it that pass the
 * probes, and gives every revision its one outcome. The order of steps is here, the decisions are
 * in `edit-decisions.ts`.
 *
 * A part that fails the verdict without a correction that fails by itself is split, and its halves
 * are tried alone, each planned on HEAD as it then is and each with a batch id of its own, since a
 * commit is idempotent by that id. Targets found before are used again.
 */
import {
  ApplicationFailure,
  ActivityFailure,
  isCancellation,
  log,
  proxyActivities,
  setCurrentDetails,
  workflowInfo,
  type RetryPolicy,
} from '@temporalio/workflow';
import type { EditActivities, LedgerActivities } from '../../activities/index.ts';
import type { AnnounceActivities } from '../../activities/announce.ts';
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import {
  removalsInForce,
  type BatchPlan,
  type HeadReference,
  type Outcome,
  type ProbeReport,
  type Refusal,
  type TargetShard,
} from '../../schemas/editing.ts';
import type { EditStep } from '../../schemas/steps.ts';
import { NOT_WORTH_A_RETRY, STAGING_GONE, STOPS_A_LINEAGE } from '../../schemas/failures.ts';
import { partIdOf } from './batch-id.ts';
import { editTaskQueue, type EditBatchInput, type EditBatchResult } from './contract.ts';
import {
  ANNOUNCED_OUTCOMES_MAX,
  EDIT_ATTEMPTS_MAX,
  PLANS_MAX,
  acceptedEdits,
  committedOutcomes,
  countOutcomes,
  halvesOf,
  measuredScores,
  nextStepAfter,
  partsOf,
  quarantined,
  quarantinedTogether,
  unaccounted,
  unstaged,
  withoutRefused,
  type Decision,
} from './edit-decisions.ts';
import { failureTypeOf, reasonOf } from './failure-reason.ts';
import { batchInWords, findBatch } from './findable.ts';

/**
 * Retried for as long as it takes: an outage passes, and a correction must not be given up for one.
 */
const RETRY: RetryPolicy = {
  initialInterval: '1 second',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
  nonRetryableErrorTypes: [...NOT_WORTH_A_RETRY],
};

export async function editBatch(input: EditBatchInput): Promise<EditBatchResult> {
  return await new EditBatch(input).run();
}

/** A part of the batch on its way: what is decided of it and what is not. */
interface Part {
  batchId: string;
  revisions: FactRevision[];
  /** Targets that an earlier attempt with these corrections found. */
  shards: TargetShard[];
}

type Attempt =
  | { kind: 'committed'; version: number; hash: string; edits: CorrectionRevision[] }
  | { kind: 'plan-again'; already: boolean }
  | { kind: 'drop'; refused: Refusal[] }
  | {
      kind: 'failed';
      code: string;
      reasons: string[];
      measured: Record<string, number | string>;
      split: boolean;
    };

class EditBatch {
  readonly #input: EditBatchInput;
  readonly #light: LedgerActivities & AnnounceActivities;
  readonly #edit: EditActivities;
  readonly #outcomes: Outcome[] = [];
  readonly #versions: number[] = [];
  #head: HeadReference | null = null;
  #attempts = 0;

  constructor(input: EditBatchInput) {
    this.#input = input;
    this.#light = proxyActivities<LedgerActivities & AnnounceActivities>({
      startToCloseTimeout: '30 minutes',
      heartbeatTimeout: '10 seconds',
      retry: RETRY,
    });
    this.#edit = proxyActivities<EditActivities>({
      taskQueue: editTaskQueue(input.lineage),
      startToCloseTimeout: '6 hours',
      heartbeatTimeout: '30 seconds',
      retry: RETRY,
    });
  }

  async run(): Promise<EditBatchResult> {
    const { batchId, revisions, settled } = this.#input;
    await this.#settle(settled, null);
    if (revisions.length > 0)
      await (this.#input.givenUp === undefined
        ? this.#editPart({ batchId, revisions, shards: [] })
        : this.#giveUp(this.#input.givenUp));
    const lost = unaccounted(revisions, this.#outcomes);
    if (lost.length > 0)
      throw ApplicationFailure.nonRetryable(
        `without exactly one outcome: ${lost.slice(0, 5).join(', ')}`,
        'OutcomesMissing',
        lost.length,
      );
    await this.#light.discard({ lineage: this.#input.lineage, batchId });
    const result = {
      head: this.#head,
      versions: this.#versions,
      outcomes: countOutcomes(this.#outcomes),
    };
    setCurrentDetails(`Batch ${batchId}, ${revisions.length} revisions. ${batchInWords(result)}.`);
    if (this.#input.findable === true) findBatch(result);
    return result;
  }

  /**
   * Planned once more, since parts of it may have been committed or decided before it failed; what
   * is left is quarantined.
   */
  async #giveUp(reason: string): Promise<void> {
    const { lineage, batchId, revisions } = this.#input;
    const plan = await this.#light.planBatch({ lineage, batchId, revisions });
    this.#head = plan.head;
    const undecided = quarantinedTogether(
      [...plan.edits, ...plan.withdrawals],
      { code: 'given-up', reasons: [reason], measured: {} },
      { lineage, batchId, decidedAt: Date.now() },
    );
    await this.#settle([...plan.settled, ...undecided], plan.committed?.version ?? null);
  }

  async #editPart(part: Part): Promise<void> {
    let undecided = part.revisions;
    let decided: Outcome[] = [];
    let { shards } = part;
    for (let plans = 0; plans < PLANS_MAX; plans++) {
      const plan = await this.#light.planBatch({
        lineage: this.#input.lineage,
        batchId: part.batchId,
        revisions: undecided,
      });
      this.#head = plan.head;
      if (plan.committed !== null)
        return await this.#settle([...decided, ...plan.settled], plan.committed.version);
      decided.push(...plan.settled);

      const found = await this.#targetsFor(plan, part.batchId, shards);
      shards = found.shards;
      decided.push(...quarantined(plan.edits, found.refused, this.#decision(part)));
      let edits = acceptedEdits(plan.edits, shards);
      decided.push(...this.#unfound(plan.edits, edits, found.refused, part));

      let moved = false;
      while (!moved && edits.length + plan.withdrawals.length > 0) {
        const attempt = await this.#attempt(part, plan, edits, shards);
        switch (attempt.kind) {
          case 'committed':
            this.#head = { version: attempt.version, hash: attempt.hash };
            decided.push(
              ...committedOutcomes(
                attempt.edits,
                plan.withdrawals,
                plan.removals,
                attempt.version,
                this.#decision(part),
              ),
            );
            return await this.#settle(decided, attempt.version);
          case 'drop':
            decided.push(...quarantined(edits, attempt.refused, this.#decision(part)));
            edits = withoutRefused(edits, attempt.refused);
            break;
          case 'plan-again':
            // An earlier run committed this very part: what it decided holds, not what was decided
            // here since.
            if (attempt.already) decided = [];
            undecided = attempt.already ? part.revisions : [...edits, ...plan.withdrawals];
            // Another's version changes what the model says; the targets are to be found on top of
            // it.
            shards = [];
            moved = true;
            break;
          case 'failed': {
            const rest: FactRevision[] = [...edits, ...plan.withdrawals];
            if (
              !attempt.split ||
              rest.length === 1 ||
              this.#attempts >= (this.#input.editAttemptsMax ?? EDIT_ATTEMPTS_MAX)
            ) {
              return await this.#settle(
                [...decided, ...quarantinedTogether(rest, attempt, this.#decision(part))],
                null,
              );
            }
            await this.#settle(decided, null);
            for (const half of halvesOf(rest)) {
              await this.#editPart({
                batchId: partIdOf(part.batchId, half),
                revisions: half,
                shards,
              });
            }
            return;
          }
        }
      }
      if (!moved) return await this.#settle(decided, null);
    }
    throw ApplicationFailure.nonRetryable(
      `HEAD moved ${PLANS_MAX} times under batch ${part.batchId}`,
      'HeadKeepsMoving',
    );
  }

  /** Stages, probes and, where the verdict is good, commits. */
  async #attempt(
    part: Part,
    plan: BatchPlan,
    edits: CorrectionRevision[],
    shards: TargetShard[],
  ): Promise<Attempt> {
    this.#attempts++;
    const step: EditStep = {
      lineage: this.#input.lineage,
      batchId: part.batchId,
      head: plan.head,
      edits,
      removals: removalsInForce(plan.removals, edits.map(revisionId)),
    };
    try {
      const staged = await this.#edit.stageUpdate({ ...step, shards });
      const refused = unstaged(edits, staged);
      // Staged again without them, so that what is probed and committed is what was asked for.
      if (refused.length > 0) return { kind: 'drop', refused };
      const report = await this.#edit.runProbes({ ...step, staged, settings: this.#input.verdict });
      const next = nextStepAfter(report, edits, [...edits, ...plan.withdrawals]);
      if (next.kind === 'drop') return next;
      if (next.kind !== 'commit') return { ...failedVerdict(report), split: next.kind === 'split' };
      const workflow = { workflowId: workflowInfo().workflowId, runId: workflowInfo().runId };
      const result = await this.#light.commitVersion({
        ...step,
        withdrawals: plan.withdrawals,
        staged,
        probes: report,
        workflow,
      });
      if (result.kind === 'head-moved') return { kind: 'plan-again', already: false };
      if (result.already) return { kind: 'plan-again', already: true };
      return { kind: 'committed', version: result.version, hash: result.hash, edits };
    } catch (error) {
      // After a reset: the run before discarded it when it ended.
      if (failureTypeOf(error) === STAGING_GONE) return { kind: 'plan-again', already: false };
      const failure = editFailure(error);
      if (failure === null) throw error;
      log.error('An edit failed for good', {
        lineage: step.lineage,
        batchId: step.batchId,
        edits: edits.length,
        reason: reasonOf(error),
      });
      return failure;
    }
  }

  /**
   * Targets for the corrections that have none yet. A shard that fails for good is halved until one
   * correction is left.
   */
  async #targetsFor(
    plan: BatchPlan,
    batchId: string,
    known: TargetShard[],
  ): Promise<{ shards: TargetShard[]; refused: Refusal[] }> {
    const have = new Set(acceptedEdits(plan.edits, known).map(revisionId));
    const missing = plan.edits.filter((edit) => !have.has(revisionId(edit)));
    const useful = known.filter((shard) => shard.accepted.some((item) => have.has(item.id)));
    const found = await Promise.all(
      partsOf(missing, this.#input.shardEditsMax).map((edits) => this.#shard(plan, batchId, edits)),
    );
    const shards = found.flatMap((part) => part.shards);
    return {
      shards: [...useful, ...shards],
      refused: [
        ...shards.flatMap((shard) => shard.refused),
        ...found.flatMap((part) => part.refused),
      ],
    };
  }

  async #shard(
    plan: BatchPlan,
    batchId: string,
    edits: CorrectionRevision[],
  ): Promise<{ shards: TargetShard[]; refused: Refusal[] }> {
    try {
      const shard = await this.#edit.computeTargets({
        lineage: this.#input.lineage,
        batchId,
        head: plan.head,
        edits,
        removals: plan.removals,
      });
      return { shards: [shard], refused: [] };
    } catch (error) {
      const failure = editFailure(error);
      if (failure === null) throw error;
      log.error('Targets could not be found', {
        lineage: this.#input.lineage,
        batchId,
        edits: edits.length,
        reason: reasonOf(error),
      });
      if (edits.length === 1)
        return {
          shards: [],
          refused: [
            {
              id: revisionId(edits[0]!),
              code: 'invalid',
              reason: failure.reasons.join('; '),
              measured: failure.measured,
            },
          ],
        };
      const halves = await Promise.all(
        halvesOf(edits).map((half) => this.#shard(plan, batchId, half)),
      );
      return {
        shards: halves.flatMap((half) => half.shards),
        refused: halves.flatMap((half) => half.refused),
      };
    }
  }

  /**
   * Corrections that a shard neither accepted nor refused: none should be, but none may be lost.
   */
  #unfound(
    planned: CorrectionRevision[],
    accepted: CorrectionRevision[],
    refused: Refusal[],
    part: Part,
  ): Outcome[] {
    const left = withoutRefused(planned, [
      ...refused,
      ...accepted.map((edit): Refusal => ({
        id: revisionId(edit),
        code: 'invalid',
        reason: '',
        measured: {},
      })),
    ]);
    return quarantinedTogether(
      left,
      { code: 'invalid', reasons: ['no target was found and no reason given'], measured: {} },
      this.#decision(part),
    );
  }

  /** Registered and announced; what was decided of an id before stands. */
  async #settle(outcomes: Outcome[], version: number | null): Promise<void> {
    if (version !== null) this.#versions.push(version);
    const chunks = partsOf(outcomes, ANNOUNCED_OUTCOMES_MAX);
    if (chunks.length === 0 && version !== null) chunks.push([]);
    for (const [i, chunk] of chunks.entries()) {
      this.#outcomes.push(
        ...(await this.#light.announce({
          lineage: this.#input.lineage,
          outcomes: chunk,
          version: i === 0 ? version : null,
        })),
      );
    }
  }

  #decision(part: Part): Decision {
    return { lineage: this.#input.lineage, batchId: part.batchId, decidedAt: Date.now() };
  }
}

/**
 * An edit that gave up for good, as a failed attempt whose halves are to be tried alone; null for
 * what is no edit's fault: a cancellation, a bug of the workflow, or a failure of the version log,
 * which would take every batch after this one with it and so stops the lineage instead.
 */
function editFailure(error: unknown): Extract<Attempt, { kind: 'failed' }> | null {
  if (!(error instanceof ActivityFailure) || isCancellation(error)) return null;
  const code = failureTypeOf(error);
  if (!EDITS.has(error.activityType) || STOPS_A_LINEAGE.includes(code)) return null;
  return {
    kind: 'failed',
    code,
    reasons: [reasonOf(error)],
    measured: { activity: error.activityType },
    split: true,
  };
}

const EDITS: ReadonlySet<string> = new Set<keyof EditActivities>([
  'computeTargets',
  'stageUpdate',
  'runProbes',
]);

function failedVerdict(report: ProbeReport): Omit<Extract<Attempt, { kind: 'failed' }>, 'split'> {
  return {
    kind: 'failed',
    code: 'verdict',
    reasons: report.verdict.reasons,
    measured: measuredScores(report.after),
  };
}
