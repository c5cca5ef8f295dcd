/**
 * What is done to a batch, step by step; in which order is the workflows' affair. Every activity is
 * idempotent and may run twice, be retried after a crash, or be run again by a reset.
 */
import type { CorrectionRevision, FactRevision } from '../schemas/correction.ts';
import type {
  BatchPlan,
  BlobReference,
  CommitResult,
  HeadReference,
  ProbeReport,
  Removal,
  StagedUpdate,
  TargetShard,
} from '../schemas/editing.ts';
import type { AliasMoved, AliasMove } from '../schemas/alias.ts';
import type { VerdictSettings } from '../schemas/settings.ts';
import type { UndoPlan, UndoRequest } from '../schemas/undo.ts';
import type { Engine } from '../model/engine.ts';
import type { Versions } from '../versions/versions.ts';
import { Asked } from './batch/probe-cache.ts';
import { commitUndo } from './undo/commit-undo.ts';
import { commitVersion } from './batch/commit-version.ts';
import { computeTargets } from './batch/compute-targets.ts';
import { discard } from './discard.ts';
import { moveAlias } from './move-alias.ts';
import { planBatch } from './batch/plan-batch.ts';
import { planUndo } from './undo/plan-undo.ts';
import { probeUndo } from './undo/probe-undo.ts';
import { pulseOfThisStep } from './heartbeat.ts';
import { runProbes } from './batch/run-probes.ts';
import { stageUndo } from './undo/stage-undo.ts';
import { stageUpdate } from './batch/stage-update.ts';

/** Need the model: they run on the task queue `edit-<lineage>`, one at a time. */
export interface EditActivities extends EditUndoActivities {
  /** `edits` may be a part of the batch (a shard); `removals` is always the whole batch's. */
  computeTargets: (step: EditStep) => Promise<TargetShard>;
  /**
   * Corrections that no shard accepted are left out; `rows` names those that were staged. With no
   * rows and no removal in force the batch changes nothing, and there is nothing to probe or to
   * commit.
   */
  stageUpdate: (step: EditStep & { shards: TargetShard[] }) => Promise<StagedUpdate>;
  runProbes: (
    step: EditStep & { staged: StagedUpdate; settings: VerdictSettings },
  ) => Promise<ProbeReport>;
}

/** Need the version log only. */
export interface LedgerActivities extends LedgerUndoActivities {
  planBatch: (step: {
    lineage: string;
    batchId: string;
    revisions: FactRevision[];
  }) => Promise<BatchPlan>;
  commitVersion: (
    step: EditStep & {
      withdrawals: FactRevision[];
      staged: StagedUpdate;
      probes: ProbeReport;
      workflow: { workflowId: string; runId: string };
    },
  ) => Promise<CommitResult>;
  /** Deletes what the batch and its parts staged. */
  discard: (step: { lineage: string; batchId: string }) => Promise<void>;
}

/** Need the model, as `EditActivities` do. */
export interface EditUndoActivities {
  /**
   * Copies the pairs of what comes back, bit for bit, and builds the hook. Nothing is refused, and
   * `rows` is empty: the steps say whose each row is, and there may be more of them than a payload
   * holds.
   */
  stageUndo: (step: UndoStep) => Promise<StagedUpdate>;
  /** Asks what a batch that adds the restored corrections is asked, with the same verdict. */
  probeUndo: (
    step: UndoStep & { staged: StagedUpdate; settings: VerdictSettings },
  ) => Promise<ProbeReport>;
}

/** Need the version log only. */
export interface LedgerUndoActivities {
  /**
   * `batchId` is the undo's own, derived from `request.id`: what it made before is found by it. The
   * steps are staged under it; `discard` takes them back.
   */
  planUndo: (step: { lineage: string; batchId: string; request: UndoRequest }) => Promise<UndoPlan>;
  /**
   * To be called with a verdict that passed. The outcomes are the register's: `announce` with none
   * and the version tells them.
   */
  commitUndo: (
    step: UndoStep & {
      staged: StagedUpdate;
      probes: ProbeReport;
      request: UndoRequest;
      workflow: { workflowId: string; runId: string };
    },
  ) => Promise<CommitResult>;
  /** Moves an alias; the same id twice is one move. */
  moveAlias: (step: { lineage: string } & AliasMove) => Promise<AliasMoved>;
}

export interface UndoStep {
  lineage: string;
  batchId: string;
  head: HeadReference;
  /** `UndoSteps`, as planned on `head`. */
  steps: BlobReference;
}

export interface EditStep {
  lineage: string;
  batchId: string;
  head: HeadReference;
  edits: CorrectionRevision[];
  /**
   * As planned; those whose successor was refused are left out by the activities themselves
   * (`removalsInForce`).
   */
  removals: Removal[];
}

/**
 * The steps of an edit worker. They run one at a time, even those of different lineages: a step
 * holds several hooks in the engine while it works, and another's would push them out.
 */
export function createEditActivities({
  engine,
  versions,
}: {
  engine: Engine;
  versions: Versions;
}): EditActivities {
  const asked = new Asked(engine);
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const before = last;
    const result = pulseOfThisStep()
      .during({ stage: 'waiting' }, () => before)
      .then(work);
    // Settles after the one before it, even where this one was cancelled while it waited.
    last = Promise.allSettled([before, result]).then(() => undefined);
    return result;
  };
  return {
    computeTargets: (step) => inTurn(() => computeTargets(engine, versions, step)),
    stageUpdate: (step) => inTurn(() => stageUpdate(engine, versions, step)),
    runProbes: (step) => inTurn(() => runProbes(engine, versions, asked, step)),
    stageUndo: (step) => inTurn(() => stageUndo(engine, versions, step)),
    probeUndo: (step) => inTurn(() => probeUndo(engine, versions, asked, step)),
  };
}

export function createLedgerActivities({ versions }: { versions: Versions }): LedgerActivities {
  return {
    planBatch: (step) => planBatch(versions, step),
    commitVersion: (step) => commitVersion(versions, step),
    discard: (step) => discard(versions, step),
    planUndo: (step) => planUndo(versions, step),
    commitUndo: (step) => commitUndo(versions, step),
    moveAlias: (step) => moveAlias(versions, step),
  };
}
