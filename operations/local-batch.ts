/** Runs the batch algorithm in this process, with direct calls of the activities. */
import {
  createEditActivities,
  createLedgerActivities,
  type EditActivities,
  type LedgerActivities,
} from '../activities/index.ts';
import type { Engine } from '../model/engine/engine.ts';
import type { BatchPort } from '../pipelines/batch/edit-batch.ts';
import { STAGING_GONE } from '../schemas/failures.ts';
import type { WorkflowRun } from '../schemas/steps.ts';
import type { Versions } from '../versions/versions.ts';

export type LocalSteps = EditActivities & LedgerActivities;

export function localSteps(engine: Engine, versions: Versions): LocalSteps {
  return { ...createEditActivities({ engine, versions }), ...createLedgerActivities({ versions }) };
}

/**
 * Registers outcomes and announces them to no topic. Nothing is retried: a failure that is not the
 * fault of one correction ends the batch, and the next run continues from the log.
 */
export function localPort(steps: LocalSteps, versions: Versions, workflow: WorkflowRun): BatchPort {
  return {
    steps: {
      ...steps,
      announce: async ({ lineage, outcomes }) =>
        (await versions.log(lineage).register()).settle(outcomes),
    },
    workflow,
    now: () => Date.now(),
    failureOf: (error) =>
      error instanceof Error && STEP_FAILURES.includes(error.name)
        ? { type: error.name, reason: error.message }
        : null,
    report: () => {},
  };
}

/** Failures caused by a correction, which would recur, and by discarded staging. */
const STEP_FAILURES: readonly string[] = ['NotPositiveDefinite', 'RangeError', STAGING_GONE];
