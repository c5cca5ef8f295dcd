/**
 * `undo/<lineage>/<id>`: undoes a version, a correction or all later versions, by a new version
 * that passes the same probes as a batch. The lineage runs it between two batches.
 *
 * Steps: plan, stage, probe, commit, announce. A failed verdict is a result, and nothing was
 * written then. The alias that a rollback moved is released only once HEAD has the same content.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';
import type { EditActivities } from '../../activities/index.ts';
import type { UndoStep } from '../../schemas/steps.ts';
import type { ProbeReport } from '../../schemas/editing.ts';
import { STAGING_GONE } from '../../schemas/failures.ts';
import type { UndoPlan, UndoResult } from '../../schemas/undo.ts';
import { PLANS_MAX } from '../batch/edit-batch.ts';
import { editActivities, ledgerActivities } from './activities.ts';
import { rollbackMoveId, undoBatchId, type UndoInput } from './contract.ts';
import { failureTypeOf } from './failure-reason.ts';
import { findUndo, resultInWords, undoInWords } from './findable.ts';

export async function undo(input: UndoInput): Promise<UndoResult> {
  return await new Undo(input).run();
}

type Attempt = UndoResult | 'plan-again';

class Undo {
  readonly #batchId: string;
  readonly #edit: EditActivities;

  constructor(private readonly input: UndoInput) {
    this.#batchId = undoBatchId(input.request.id);
    this.#edit = editActivities(input.lineage);
  }

  async run(): Promise<UndoResult> {
    const { request, findable } = this.input;
    setCurrentDetails(`Under way: ${undoInWords(request)}`);
    let result: UndoResult;
    try {
      result = await this.#untilDecided();
      if (result.kind !== 'refused') await this.#releaseAlias(result);
    } finally {
      // Also needed after a failure or cancellation: nothing else would discard the staging.
      await CancellationScope.nonCancellable(() =>
        ledgerActivities.discard({ lineage: this.input.lineage, batchId: this.#batchId }),
      );
    }
    setCurrentDetails(`${undoInWords(request)}\n${resultInWords(result)}`);
    if (findable) findUndo(result);
    return result;
  }

  async #untilDecided(): Promise<UndoResult> {
    const { lineage, request } = this.input;
    for (let plans = 0; plans < PLANS_MAX; plans++) {
      const plan = await ledgerActivities.planUndo({ lineage, batchId: this.#batchId, request });
      if (plan.committed !== null) return await this.#announced(plan, plan.committed, null);
      const { head, steps, nothing, kept } = plan;
      if (steps === null)
        return { kind: 'nothing', reason: nothing ?? 'there is nothing to undo', kept };
      const attempt = await this.#attempt(plan, { lineage, batchId: this.#batchId, head, steps });
      if (attempt !== 'plan-again') return attempt;
    }
    throw ApplicationFailure.nonRetryable(
      `HEAD moved ${PLANS_MAX} times under undo ${request.id}`,
      'HeadKeepsMoving',
    );
  }

  /** Stages, probes and, if the verdict is good, commits. */
  async #attempt(plan: UndoPlan, step: UndoStep): Promise<Attempt> {
    const { request, verdict } = this.input;
    try {
      const staged = await this.#edit.stageUndo(step);
      const probes = await this.#edit.probeUndo({ ...step, staged, settings: verdict });
      const { before, after } = probes;
      if (!probes.verdict.pass)
        return { kind: 'refused', reasons: reasonsOf(probes), before, after };
      const { workflowId, runId } = workflowInfo();
      const workflow = { workflowId, runId };
      const commit = { ...step, staged, probes, request, workflow };
      const result = await ledgerActivities.commitUndo(commit);
      if (result.kind === 'head-moved') return 'plan-again';
      return await this.#announced(plan, result, probes);
    } catch (error) {
      // Occurs after a reset: the run before discarded its staging when it ended.
      if (error instanceof ActivityFailure && failureTypeOf(error) === STAGING_GONE)
        return 'plan-again';
      throw error;
    }
  }

  /** Announces the version; the register has the outcomes that it changed. */
  async #announced(
    plan: UndoPlan,
    { version, hash }: { version: number; hash: string },
    probes: ProbeReport | null,
  ): Promise<UndoResult> {
    await ledgerActivities.announce({ lineage: this.input.lineage, outcomes: [], version });
    const { removed, restored, kept } = plan;
    return {
      kind: 'undone',
      version,
      hash,
      removed,
      restored,
      kept,
      before: probes?.before ?? null,
      after: probes?.after ?? null,
    };
  }

  async #releaseAlias(result: UndoResult): Promise<void> {
    const { lineage, request, releaseAlias } = this.input;
    if (releaseAlias === null) return;
    const reason = `undo ${request.id}: ${resultInWords(result)}`;
    await ledgerActivities.moveAlias({
      lineage,
      alias: releaseAlias,
      version: null,
      reason: reason.slice(0, ALIAS_REASON_CHARACTERS_MAX),
      by: request.requestedBy,
      id: `release:${request.id}`,
      takesBack: rollbackMoveId(request.id),
    });
  }
}

const ALIAS_REASON_CHARACTERS_MAX = 1_000;

function reasonsOf({ verdict }: ProbeReport): string[] {
  const failing = verdict.failing.map(({ id, reason }) => `${id}: ${reason}`);
  return [...verdict.reasons, ...failing].slice(0, REASONS_MAX);
}

const REASONS_MAX = 100;
