/**
 * A batch edited in this process, by the decisions that the edit-batch workflow takes
 * (`edit-decisions.ts`): planned, searched for, staged, probed; what fails by itself is dropped,
 * what fails together is halved, and what is left alone and fails is quarantined. Without a
 * workflow there is nobody to try again: a broken assumption ends it, and the next run goes on from
 * what is in the log.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import {
  removalsInForce,
  type BatchPlan,
  type Outcome,
  type Refusal,
  type TargetShard,
} from '../../schemas/editing.ts';
import { STOPS_A_LINEAGE } from '../../schemas/failures.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import {
  EDIT_ATTEMPTS_MAX,
  PLANS_MAX,
  acceptedEdits,
  committedOutcomes,
  halvesOf,
  measuredScores,
  nextStepAfter,
  partsOf,
  quarantined,
  quarantinedTogether,
  unstaged,
  withoutRefused,
  type Decision,
} from '../../pipelines/workflows/edit-decisions.ts';
import { partIdOf } from '../../pipelines/workflows/batch-id.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Workplace } from './workplace.ts';

export interface LocalBatch {
  batchId: string;
  revisions: FactRevision[];
  verdict: VerdictSettings;
  shardEditsMax: number;
  /** Who is written into the versions it makes. */
  workflow: { workflowId: string; runId: string };
}

export interface EditedBatch {
  versions: number[];
  outcomes: Outcome[];
}

export async function editBatchHere(
  place: Workplace,
  log: VersionLog,
  batch: LocalBatch,
): Promise<EditedBatch> {
  const run = new BatchHere(place, log, batch);
  if (batch.revisions.length > 0)
    await run.editPart({ batchId: batch.batchId, revisions: batch.revisions, shards: [] });
  await place.steps.discard({ lineage: log.lineage, batchId: batch.batchId });
  return { versions: run.versions, outcomes: run.outcomes };
}

interface Part {
  batchId: string;
  revisions: FactRevision[];
  shards: TargetShard[];
}

class BatchHere {
  readonly versions: number[] = [];
  readonly outcomes: Outcome[] = [];
  readonly #steps: Workplace['steps'];
  readonly #log: VersionLog;
  readonly #batch: LocalBatch;
  #attempts = 0;

  constructor(place: Workplace, log: VersionLog, batch: LocalBatch) {
    this.#steps = place.steps;
    this.#log = log;
    this.#batch = batch;
  }

  async editPart(part: Part): Promise<void> {
    const { lineage } = this.#log;
    let { shards } = part;
    let undecided = part.revisions;
    const decided: Outcome[] = [];
    for (let plans = 0; plans < PLANS_MAX; plans++) {
      const plan = await this.#steps.planBatch({
        lineage,
        batchId: part.batchId,
        revisions: undecided,
      });
      if (plan.committed !== null)
        return await this.#settle([...decided, ...plan.settled], plan.committed.version);
      decided.push(...plan.settled);
      const found = await this.#targetsFor(plan, part.batchId, shards);
      shards = found.shards;
      decided.push(...quarantined(plan.edits, found.refused, this.#decision(part)));
      const result = await this.#untilDecided(
        part,
        plan,
        acceptedEdits(plan.edits, shards),
        shards,
        decided,
      );
      if (result !== 'head-moved') return;
      const settled = new Set(decided.map((outcome) => outcome.revisionId));
      undecided = undecided.filter((revision) => !settled.has(revisionId(revision)));
      shards = [];
    }
    throw new Error(
      `another process writes versions of lineage ${lineage}: HEAD moved ${PLANS_MAX} times under batch ${part.batchId}`,
    );
  }

  /**
   * Stages and probes with fewer and fewer corrections, until a version is made, or halves are
   * tried, or nothing is left.
   */
  async #untilDecided(
    part: Part,
    plan: BatchPlan,
    accepted: CorrectionRevision[],
    shards: TargetShard[],
    decided: Outcome[],
  ): Promise<'decided' | 'head-moved'> {
    const { lineage } = this.#log;
    let edits = accepted;
    while (edits.length + plan.withdrawals.length > 0) {
      this.#attempts++;
      const removals = removalsInForce(plan.removals, edits.map(revisionId));
      const step = { lineage, batchId: part.batchId, head: plan.head, edits, removals };
      const staged = await this.#steps.stageUpdate({ ...step, shards });
      const refused = unstaged(edits, staged);
      const report =
        refused.length > 0
          ? null
          : await this.#steps.runProbes({ ...step, staged, settings: this.#batch.verdict });
      const rest: FactRevision[] = [...edits, ...plan.withdrawals];
      const next =
        report === null ? { kind: 'drop' as const, refused } : nextStepAfter(report, edits, rest);
      if (next.kind === 'drop') {
        decided.push(...quarantined(edits, next.refused, this.#decision(part)));
        edits = withoutRefused(edits, next.refused);
        continue;
      }
      if (next.kind === 'commit') {
        const result = await this.#steps.commitVersion({
          ...step,
          withdrawals: plan.withdrawals,
          staged,
          probes: report!,
          workflow: this.#batch.workflow,
        });
        if (result.kind === 'head-moved') return 'head-moved';
        await this.#settle(
          [
            ...decided,
            ...committedOutcomes(
              edits,
              plan.withdrawals,
              plan.removals,
              result.version,
              this.#decision(part),
            ),
          ],
          result.version,
        );
        return 'decided';
      }
      if (next.kind === 'quarantine' || rest.length === 1 || this.#attempts >= EDIT_ATTEMPTS_MAX) {
        const why = {
          code: 'verdict',
          reasons: report!.verdict.reasons,
          measured: measuredScores(report!.after),
        };
        await this.#settle(
          [...decided, ...quarantinedTogether(rest, why, this.#decision(part))],
          null,
        );
        return 'decided';
      }
      await this.#settle(decided, null);
      for (const half of halvesOf(rest))
        await this.editPart({ batchId: partIdOf(part.batchId, half), revisions: half, shards });
      return 'decided';
    }
    await this.#settle(decided, null);
    return 'decided';
  }

  async #targetsFor(
    plan: BatchPlan,
    batchId: string,
    known: TargetShard[],
  ): Promise<{ shards: TargetShard[]; refused: Refusal[] }> {
    const have = new Set(acceptedEdits(plan.edits, known).map(revisionId));
    const useful = known.filter((shard) => shard.accepted.some(({ id }) => have.has(id)));
    const shards: TargetShard[] = [];
    const refused: Refusal[] = [];
    for (const edits of partsOf(
      plan.edits.filter((edit) => !have.has(revisionId(edit))),
      this.#batch.shardEditsMax,
    )) {
      const found = await this.#shard(plan, batchId, edits);
      shards.push(...found.shards);
      refused.push(...found.refused, ...found.shards.flatMap((shard) => shard.refused));
    }
    return { shards: [...useful, ...shards], refused };
  }

  /** A shard that fails for good is halved until the correction is alone that is to blame. */
  async #shard(
    plan: BatchPlan,
    batchId: string,
    edits: CorrectionRevision[],
  ): Promise<{ shards: TargetShard[]; refused: Refusal[] }> {
    try {
      return {
        shards: [
          await this.#steps.computeTargets({
            lineage: this.#log.lineage,
            batchId,
            head: plan.head,
            edits,
            removals: plan.removals,
          }),
        ],
        refused: [],
      };
    } catch (fault) {
      if (
        !(fault instanceof Error) ||
        !ONE_CORRECTIONS_FAULT.includes(fault.name) ||
        STOPS_A_LINEAGE.includes(fault.name)
      )
        throw fault;
      if (edits.length === 1)
        return {
          shards: [],
          refused: [
            { id: revisionId(edits[0]!), code: 'invalid', reason: fault.message, measured: {} },
          ],
        };
      const halves = [];
      for (const half of halvesOf(edits)) halves.push(await this.#shard(plan, batchId, half));
      return {
        shards: halves.flatMap((half) => half.shards),
        refused: halves.flatMap((half) => half.refused),
      };
    }
  }

  async #settle(outcomes: Outcome[], version: number | null): Promise<void> {
    if (version !== null) this.versions.push(version);
    this.outcomes.push(...(await (await this.#log.register()).settle(outcomes)));
  }

  #decision(part: Part): Decision {
    return { lineage: this.#log.lineage, batchId: part.batchId, decidedAt: Date.now() };
  }
}

/** What may be thrown while targets are searched for, and would be thrown again. */
const ONE_CORRECTIONS_FAULT: readonly string[] = ['NotPositiveDefinite', 'RangeError'];
