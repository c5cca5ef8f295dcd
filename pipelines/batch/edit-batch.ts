/**
 * Makes a version of a batch, or of the parts that pass the probes, and gives every revision its
 * one outcome: plan, find targets in shards, stage, probe, commit, announce.
 *
 * A part may fail the verdict although no correction fails individually. It is then split and its
 * halves are tried separately, each planned on the current HEAD. Each has its own batch id, since a
 * commit is idempotent by that id. Targets found before are used again.
 *
 * The algorithm depends on neither Temporal nor a store. The workflow runs it with activities as
 * steps; a rebuild and a benchmark call the same activities directly.
 */
import type { AnnounceActivities } from '../../activities/announce.ts';
import type { EditActivities, LedgerActivities } from '../../activities/index.ts';
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { Decision, Outcome } from '../../schemas/outcome.ts';
import {
  removalsInForce,
  type BatchPlan,
  type HeadReference,
  type Refusal,
  type TargetShard,
} from '../../schemas/editing.ts';
import { STAGING_GONE, STOPS_A_LINEAGE } from '../../schemas/failures.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { WorkflowRun } from '../../schemas/steps.ts';
import { partIdOf } from './batch-id.ts';
import {
  acceptedEdits,
  halvesOf,
  invalid,
  nextStepAfter,
  partsOf,
  unstaged,
  withoutRefused,
} from './decisions.ts';
import {
  committedOutcomes,
  measuredScores,
  quarantined,
  quarantinedTogether,
  unaccounted,
  type JointFailure,
} from './outcomes.ts';

/** Times a part of a batch may be planned again because HEAD moved. */
export const PLANS_MAX = 8;
/** Outcomes per announcement. */
const ANNOUNCED_OUTCOMES_MAX = 100;

export interface BatchInput {
  lineage: string;
  batchId: string;
  revisions: FactRevision[];
  /** Outcomes decided when the batch was cut; announced with it. */
  settled: Outcome[];
  shardEditsMax: number;
  verdict: VerdictSettings;
  /** Times that the batch and its parts may be staged and probed. */
  editAttemptsMax: number;
  /** The reason to quarantine all undecided revisions without trying them. */
  givenUp?: string;
}

export interface BatchResult {
  head: HeadReference | null;
  versions: number[];
  outcomes: Outcome[];
}

export type BatchSteps = Pick<
  EditActivities & LedgerActivities & AnnounceActivities,
  | 'planBatch'
  | 'computeTargets'
  | 'stageUpdate'
  | 'runProbes'
  | 'commitVersion'
  | 'announce'
  | 'discard'
>;

export interface StepFailure {
  type: string;
  reason: string;
}

/** The environment that the algorithm needs. */
export interface BatchPort {
  steps: BatchSteps;
  /** Recorded in the versions that the batch makes. */
  workflow: WorkflowRun;
  /** Milliseconds since 1970. */
  now(): number;
  /** Reads a step's failure; null for any other error, such as a cancellation. */
  failureOf(error: unknown): StepFailure | null;
  /** Logs that an edit failed permanently. */
  report(message: string, fields: Record<string, unknown>): void;
}

/** The batch cannot be finished. Nothing of it is lost, and it may be run again. */
export class BatchStuck extends Error {
  constructor(
    override readonly name: 'HeadKeepsMoving' | 'OutcomesMissing',
    message: string,
  ) {
    super(message);
  }
}

/** Throws `BatchStuck`, and the steps' errors that are not the fault of an edit. */
export async function editBatch(port: BatchPort, input: BatchInput): Promise<BatchResult> {
  return await new BatchRun(port, input).run();
}

/** A part of the batch: undecided revisions, and the targets found for them so far. */
interface Part {
  batchId: string;
  revisions: FactRevision[];
  shards: TargetShard[];
}

type Attempt =
  | { kind: 'committed'; version: number; hash: string }
  | { kind: 'plan-again'; already: boolean }
  | { kind: 'drop'; refused: Refusal[] }
  | { kind: 'failed'; failure: JointFailure; split: boolean };

interface FoundTargets {
  shards: TargetShard[];
  refused: Refusal[];
}

class BatchRun {
  readonly #outcomes: Outcome[] = [];
  readonly #versions: number[] = [];
  #head: HeadReference | null = null;
  #attempts = 0;

  constructor(
    private readonly port: BatchPort,
    private readonly input: BatchInput,
  ) {}

  async run(): Promise<BatchResult> {
    const { lineage, batchId, revisions, settled, givenUp } = this.input;
    await this.#settle(settled, null);
    if (revisions.length > 0)
      await (givenUp === undefined
        ? this.#editPart({ batchId, revisions, shards: [] })
        : this.#giveUp(givenUp));
    const missing = unaccounted(revisions, this.#outcomes);
    if (missing.length > 0)
      throw new BatchStuck(
        'OutcomesMissing',
        `${missing.length} without exactly one outcome: ${missing.slice(0, 5).join(', ')}`,
      );
    await this.port.steps.discard({ lineage, batchId });
    return { head: this.#head, versions: this.#versions, outcomes: this.#outcomes };
  }

  /**
   * Plans once more, since parts may have been committed or decided before the batch failed, and
   * quarantines the rest.
   */
  async #giveUp(reason: string): Promise<void> {
    const { batchId, revisions } = this.input;
    const plan = await this.#plan(batchId, revisions);
    const undecided = quarantinedTogether(
      [...plan.edits, ...plan.withdrawals],
      { code: 'given-up', reasons: [reason], measured: {} },
      this.#decision(batchId),
    );
    await this.#settle([...plan.settled, ...undecided], plan.committed?.version ?? null);
  }

  async #editPart(part: Part): Promise<void> {
    let { revisions, shards } = part;
    let decided: Outcome[] = [];
    for (let plans = 0; plans < PLANS_MAX; plans++) {
      const plan = await this.#plan(part.batchId, revisions);
      decided.push(...plan.settled);
      if (plan.committed !== null) return await this.#settle(decided, plan.committed.version);
      const found = await this.#findTargets(plan, part.batchId, shards);
      decided.push(...quarantined(plan.edits, found.refused, this.#decision(part.batchId)));
      const moved = await this.#editPlan(part.batchId, plan, found.shards, decided);
      if (moved === null) return;
      // An earlier run committed this very part, and its decisions hold.
      if (moved.already) decided = [];
      revisions = moved.already ? part.revisions : moved.undecided;
      // Another version changes the model's answers, so targets must be found on top of it.
      shards = [];
    }
    throw new BatchStuck(
      'HeadKeepsMoving',
      `HEAD moved ${PLANS_MAX} times under batch ${part.batchId}`,
    );
  }

  /**
   * Stages and probes with fewer and fewer corrections. Returns null once a version is made, the
   * halves were tried, or no correction is left. If HEAD moved, returns the revisions to plan
   * again.
   */
  async #editPlan(
    batchId: string,
    plan: BatchPlan,
    shards: TargetShard[],
    decided: Outcome[],
  ): Promise<{ already: boolean; undecided: FactRevision[] } | null> {
    let edits = acceptedEdits(plan.edits, shards);
    while (edits.length + plan.withdrawals.length > 0) {
      const rest: FactRevision[] = [...edits, ...plan.withdrawals];
      const attempt = await this.#attempt(batchId, plan, edits, shards);
      if (attempt.kind === 'plan-again') return { already: attempt.already, undecided: rest };
      if (attempt.kind === 'drop') {
        decided.push(...quarantined(edits, attempt.refused, this.#decision(batchId)));
        edits = withoutRefused(edits, attempt.refused);
      } else if (attempt.kind === 'committed') {
        const { version, hash } = attempt;
        this.#head = { version, hash };
        decided.push(...committedOutcomes(edits, plan, version, this.#decision(batchId)));
        await this.#settle(decided, version);
        return null;
      } else {
        const split =
          attempt.split && rest.length > 1 && this.#attempts < this.input.editAttemptsMax;
        if (!split)
          decided.push(...quarantinedTogether(rest, attempt.failure, this.#decision(batchId)));
        await this.#settle(decided, null);
        if (split)
          for (const half of halvesOf(rest))
            await this.#editPart({ batchId: partIdOf(batchId, half), revisions: half, shards });
        return null;
      }
    }
    await this.#settle(decided, null);
    return null;
  }

  /** Stages, probes and, if the verdict is good, commits. */
  async #attempt(
    batchId: string,
    plan: BatchPlan,
    edits: CorrectionRevision[],
    shards: TargetShard[],
  ): Promise<Attempt> {
    this.#attempts++;
    const { steps, workflow } = this.port;
    const { lineage, verdict: settings } = this.input;
    const removals = removalsInForce(plan.removals, edits.map(revisionId));
    const step = { lineage, batchId, head: plan.head, edits, removals };
    try {
      const staged = await this.#edit('stageUpdate', steps.stageUpdate({ ...step, shards }));
      const refused = unstaged(edits, staged);
      // Staged again without them, so that the probed and the committed corrections are the same.
      if (refused.length > 0) return { kind: 'drop', refused };
      const probes = await this.#edit('runProbes', steps.runProbes({ ...step, staged, settings }));
      const { withdrawals } = plan;
      const next = nextStepAfter(probes, edits, [...edits, ...withdrawals]);
      if (next.kind === 'drop') return next;
      if (next.kind !== 'commit') {
        const { reasons } = probes.verdict;
        const failure = { code: 'verdict', reasons, measured: measuredScores(probes.after) };
        return { kind: 'failed', failure, split: next.kind === 'split' };
      }
      const made = await steps.commitVersion({ ...step, withdrawals, staged, probes, workflow });
      if (made.kind === 'head-moved') return { kind: 'plan-again', already: false };
      if (made.already) return { kind: 'plan-again', already: true };
      return { kind: 'committed', version: made.version, hash: made.hash };
    } catch (error) {
      if (error instanceof EditFailed)
        return { kind: 'failed', failure: error.failure, split: true };
      // Occurs after a reset: the run before discarded its staging when it ended.
      if (this.port.failureOf(error)?.type === STAGING_GONE)
        return { kind: 'plan-again', already: false };
      throw error;
    }
  }

  /** Finds missing targets; every correction is accepted or refused. */
  async #findTargets(
    plan: BatchPlan,
    batchId: string,
    known: readonly TargetShard[],
  ): Promise<FoundTargets> {
    const have = new Set(acceptedEdits(plan.edits, known).map(revisionId));
    const missing = plan.edits.filter((edit) => !have.has(revisionId(edit)));
    const useful = known.filter(({ accepted }) => accepted.some(({ id }) => have.has(id)));
    const parts = partsOf(missing, this.input.shardEditsMax);
    const found = await this.#searchShards(plan, batchId, parts);
    const shards = [...useful, ...found.shards];
    const refused = [...found.shards.flatMap((shard) => shard.refused), ...found.refused];
    const unanswered = withoutRefused(plan.edits, [
      ...shards.flatMap(({ accepted }) => accepted),
      ...refused,
    ]);
    for (const edit of unanswered)
      refused.push(invalid(revisionId(edit), 'no target was found and no reason given'));
    return { shards, refused };
  }

  /** Halves a shard that fails permanently, until only the correction that fails is left. */
  async #searchShard(
    plan: BatchPlan,
    batchId: string,
    edits: CorrectionRevision[],
  ): Promise<FoundTargets> {
    const { lineage } = this.input;
    const { head, removals } = plan;
    const step = { lineage, batchId, head, edits, removals };
    try {
      const search = this.port.steps.computeTargets(step);
      return { shards: [await this.#edit('computeTargets', search)], refused: [] };
    } catch (error) {
      if (!(error instanceof EditFailed)) throw error;
      const { reasons, measured } = error.failure;
      const [only] = edits;
      if (edits.length === 1)
        return { shards: [], refused: [invalid(revisionId(only!), reasons.join('; '), measured)] };
      return await this.#searchShards(plan, batchId, halvesOf(edits));
    }
  }

  async #searchShards(
    plan: BatchPlan,
    batchId: string,
    parts: CorrectionRevision[][],
  ): Promise<FoundTargets> {
    const found = await Promise.all(parts.map((edits) => this.#searchShard(plan, batchId, edits)));
    return {
      shards: found.flatMap(({ shards }) => shards),
      refused: found.flatMap(({ refused }) => refused),
    };
  }

  /**
   * Waits for a step that edits. Throws `EditFailed` where the edit fails permanently. A failure of
   * the version log would affect every later batch, and stops the lineage instead.
   */
  async #edit<Result>(activity: string, step: Promise<Result>): Promise<Result> {
    try {
      return await step;
    } catch (error) {
      const failure = this.port.failureOf(error);
      if (failure === null || [STAGING_GONE, ...STOPS_A_LINEAGE].includes(failure.type))
        throw error;
      const { type: code, reason } = failure;
      const { lineage, batchId } = this.input;
      this.port.report('An edit failed for good', { lineage, batchId, activity, code, reason });
      throw new EditFailed({ code, reasons: [reason], measured: { activity } });
    }
  }

  async #plan(batchId: string, revisions: FactRevision[]): Promise<BatchPlan> {
    const { lineage } = this.input;
    const plan = await this.port.steps.planBatch({ lineage, batchId, revisions });
    this.#head = plan.head;
    return plan;
  }

  /** Registers and announces outcomes; an id that was decided before keeps its outcome. */
  async #settle(outcomes: Outcome[], version: number | null): Promise<void> {
    if (version !== null) this.#versions.push(version);
    const chunks = partsOf(outcomes, ANNOUNCED_OUTCOMES_MAX);
    if (chunks.length === 0 && version !== null) chunks.push([]);
    const { lineage } = this.input;
    for (const [i, chunk] of chunks.entries()) {
      const step = { lineage, outcomes: chunk, version: i === 0 ? version : null };
      this.#outcomes.push(...(await this.port.steps.announce(step)));
    }
  }

  #decision(batchId: string): Decision {
    return { lineage: this.input.lineage, batchId, decidedAt: this.port.now() };
  }
}

/** An edit failed permanently, so its halves are to be tried separately. */
class EditFailed extends Error {
  constructor(readonly failure: JointFailure) {
    super(failure.reasons.join('; '));
  }
}
