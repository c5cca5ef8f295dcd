/** The arguments that workflows, rebuilds and benchmarks pass to the activities. */
import type { CorrectionRevision, FactRevision } from './correction.ts';
import type {
  BlobReference,
  HeadReference,
  ProbeReport,
  Removal,
  StagedUpdate,
  TargetShard,
} from './editing.ts';
import type { VerdictSettings } from './settings.ts';
import type { UndoRequest } from './undo.ts';

/** The workflow run that is recorded in the version it makes. */
export interface WorkflowRun {
  workflowId: string;
  runId: string;
}

export interface PlanStep {
  lineage: string;
  batchId: string;
  revisions: readonly FactRevision[];
}

export interface EditStep {
  lineage: string;
  batchId: string;
  head: HeadReference;
  /** May be a shard of the batch in `computeTargets`. */
  edits: CorrectionRevision[];
  /**
   * The whole batch's removals, as planned. Activities omit those whose successor was refused
   * (`removalsInForce`).
   */
  removals: Removal[];
}

export type StageStep = EditStep & { shards: TargetShard[] };

/** A staged update to probe, and the thresholds of its verdict. */
export interface Probing {
  staged: StagedUpdate;
  settings: VerdictSettings;
}

export type ProbeStep = EditStep & Probing;

/** The contents of a version, from a batch or an undo. */
export interface Commitment {
  staged: StagedUpdate;
  probes: ProbeReport;
  workflow: WorkflowRun;
}

export type CommitStep = EditStep & Commitment & { withdrawals: FactRevision[] };

export interface PlanUndoStep {
  lineage: string;
  /** Derived from `request.id`, so that a repeated run finds the version it made earlier. */
  batchId: string;
  request: UndoRequest;
}

export interface UndoStep {
  lineage: string;
  batchId: string;
  head: HeadReference;
  /** `UndoSteps`, as planned on `head`. */
  steps: BlobReference;
}

export type ProbeUndoStep = UndoStep & Probing;
export type CommitUndoStep = UndoStep & Commitment & { request: UndoRequest };
