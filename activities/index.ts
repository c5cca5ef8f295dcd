/**
 * The steps of a batch and of an undo; the workflows decide their order. Every activity is
 * idempotent: it may run twice, be retried after a crash, or be run again by a reset.
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
 * The activities that need the model, on the task queue `edit-<lineage>`. They run one at a time,
 * even those of different lineages: a step holds several hooks in the engine while it works, and
 * another's would push them out.
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

/** The activities that need only the version log. */
export function createLedgerActivities({ versions }: { versions: Versions }) {
  return {
    planBatch: (step: PlanStep) => planBatch(versions, step),
    commitVersion: (step: CommitStep) => commitVersion(versions, step),
    /** Deletes what the batch and its parts staged; a version's blobs were kept by its commit. */
    discard: ({ lineage, batchId }: { lineage: string; batchId: string }) =>
      versions.log(lineage).blobs.discardStaged(batchId),
    planUndo: (step: PlanUndoStep) => planUndo(versions, step),
    commitUndo: (step: CommitUndoStep) => commitUndo(versions, step),
    /** Moves an alias; the same id twice is one move. */
    moveAlias: ({ lineage, ...move }: { lineage: string } & AliasMove) =>
      versions.log(lineage).moveAlias(move),
  };
}
