/** `edit-batch/<lineage>/<seq>`: the batch algorithm with activities as its steps. */
import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  log,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';
import { BatchStuck, editBatch as edit, type BatchResult } from '../batch/edit-batch.ts';
import { countOutcomes } from '../batch/outcomes.ts';
import { editActivities, ledgerActivities } from './activities.ts';
import type { EditBatchInput, EditBatchResult } from './contract.ts';
import { failureTypeOf, reasonOf } from './failure-reason.ts';
import { batchInWords, findBatch } from './findable.ts';

export async function editBatch(input: EditBatchInput): Promise<EditBatchResult> {
  const { workflowId, runId } = workflowInfo();
  const { planBatch, commitVersion, announce, discard } = ledgerActivities;
  const { computeTargets, stageUpdate, runProbes } = editActivities(input.lineage);
  const ledgerSteps = { planBatch, commitVersion, announce, discard };
  let edited: BatchResult;
  try {
    edited = await edit(
      {
        steps: { ...ledgerSteps, computeTargets, stageUpdate, runProbes },
        workflow: { workflowId, runId },
        now: () => Date.now(),
        failureOf: (error) =>
          error instanceof ActivityFailure && !isCancellation(error)
            ? { type: failureTypeOf(error), reason: reasonOf(error) }
            : null,
        report: (message, fields) => log.error(message, fields),
      },
      input,
    );
  } catch (error) {
    if (error instanceof BatchStuck)
      throw ApplicationFailure.nonRetryable(error.message, error.name);
    throw error;
  }
  const result = { ...edited, outcomes: countOutcomes(edited.outcomes) };
  const { batchId, revisions, findable } = input;
  setCurrentDetails(`Batch ${batchId}, ${revisions.length} revisions. ${batchInWords(result)}.`);
  if (findable) findBatch(result);
  return result;
}
