/**
 * The steps of a batch and of an undo, which the workflows put in order. Every activity is
 * idempotent: it may run twice, be retried after a crash, or run again after a reset.
 */
import type { Engine } from '../model/engine/engine.ts';
import type { AliasMove } from '../schemas/alias.ts';
import type {
  CommitStep,
  CommitUndoStep,
  EditStep,
  PlanStep,
  PlanUndoStep,
  ProbeStep,
  ProbeUndoStep,
  StageStep,
  UndoStep,
} from '../schemas/steps.ts';
import type { Versions } from '../versions/versions.ts';
import { commitVersion } from './batch/commit-version.ts';
import { computeTargets } from './batch/compute-targets.ts';
import { planBatch } from './batch/plan-batch.ts';
import { ProbeCache } from './batch/probe-cache.ts';
import { runProbes } from './batch/run-probes.ts';
import { stageUpdate } from './batch/stage-update.ts';
import { currentHeartbeat } from './heartbeat.ts';
import { commitUndo } from './undo/commit-undo.ts';
import { planUndo } from './undo/plan-undo.ts';
import { probeUndo } from './undo/probe-undo.ts';
import { stageUndo } from './undo/stage-undo.ts';

export type EditActivities = ReturnType<typeof createEditActivities>;
export type LedgerActivities = ReturnType<typeof createLedgerActivities>;

/**
 * Creates the activities that need the model, on the task queue `edit-<lineage>`. They run one at a
 * time, even across lineages: a step holds several hooks in the engine while it works, and another
 * step's hooks would evict them.
 */
export function createEditActivities({ engine, versions }: { engine: Engine; versions: Versions }) {
  const cache = new ProbeCache(engine);
  const inTurn = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    let begin = () => {};
    const turn = new Promise<void>((resolve) => (begin = resolve));
    const waited = currentHeartbeat().during({ stage: 'waiting' }, () => turn);
    const worked = engine.queue.run(() => {
      begin();
      return waited.then(work);
    });
    // A step that is cancelled while it waits ends at once; its turn is skipped when it comes.
    return (await Promise.all([worked, waited]))[0];
  };
  return {
    computeTargets: (step: EditStep) => inTurn(() => computeTargets(engine, versions, step)),
    stageUpdate: (step: StageStep) => inTurn(() => stageUpdate(engine, versions, step)),
    runProbes: (step: ProbeStep) => inTurn(() => runProbes(engine, versions, cache, step)),
    stageUndo: (step: UndoStep) => inTurn(() => stageUndo(engine, versions, step)),
    probeUndo: (step: ProbeUndoStep) => inTurn(() => probeUndo(engine, versions, cache, step)),
  };
}

/** Creates the activities that need only the version log. */
export function createLedgerActivities({ versions }: { versions: Versions }) {
  return {
    planBatch: (step: PlanStep) => planBatch(versions, step),
    commitVersion: (step: CommitStep) => commitVersion(versions, step),
    /**
     * Deletes the files staged by the batch and its parts. The commit has kept the version's blobs.
     */
    discard: ({ lineage, batchId }: { lineage: string; batchId: string }) =>
      versions.log(lineage).blobs.discardStaged(batchId),
    planUndo: (step: PlanUndoStep) => planUndo(versions, step),
    commitUndo: (step: CommitUndoStep) => commitUndo(versions, step),
    /** Moves an alias. A repeated id has no effect. */
    moveAlias: ({ lineage, ...move }: { lineage: string } & AliasMove) =>
      versions.log(lineage).moveAlias(move),
  };
}
