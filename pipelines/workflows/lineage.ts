/**
 * `lineage/<name>`: takes the revisions of one edited model, buffers them and edits them batch by batch, for good.
 * Exactly one batch runs at a time. What is decided here is decided in `LineageState`.
 */
import {
  ApplicationFailure,
  CancellationScope,
  ParentClosePolicy,
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  executeChild,
  isCancellation,
  log,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { LineageSettings } from '../../schemas/settings.ts';
import {
  ACCEPT_UPDATE,
  CARRIED_BYTES_MAX,
  CONFIGURE_SIGNAL,
  EDIT_BATCH_WORKFLOW,
  FLUSH_SIGNAL,
  FORGET_POSITIONS_SIGNAL,
  FREEZE_SIGNAL,
  RESUME_SIGNAL,
  STATUS_QUERY,
  batchWorkflowId,
  type Acceptance,
  type CutBatch,
  type EditBatchInput,
  type EditBatchResult,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
} from './contract.ts';
import { jsonBytes } from './json-size.ts';
import { LineageState } from './lineage-state.ts';
import { reasonOf } from './failure-reason.ts';

export async function lineage(input: LineageInput): Promise<void> {
  const state = new LineageState(input);
  listen(state);
  // A cancelled lineage would lose what waits in its buffer, whose offsets Kafka has seen committed: it is frozen instead.
  void CancellationScope.current().cancelRequested.catch(() => state.freeze('the lineage workflow was asked to cancel; resume it, or terminate it to give its buffer up', Date.now()));
  await CancellationScope.nonCancellable(async () => {
    while (!mayContinueAsNew(state, input)) {
      const dueAt = state.batchDueAt();
      if (dueAt !== null && dueAt <= Date.now()) await runBatch(state, input);
      else await untilSomethingChanges(state, input, dueAt);
    }
  });
  await continueAsNew<typeof lineage>({ ...input, ...state.carried() });
}

function listen(state: LineageState): void {
  setHandler(defineUpdate<Acceptance, [RevisionChunk]>(ACCEPT_UPDATE), (chunk) => ({ ...state.accept(chunk, Date.now()), run: workflowInfo().runId }), {
    validator: (chunk: RevisionChunk) => {
      const refusal = state.refusalOf(chunk, workflowInfo().runId);
      if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal.message, refusal.type, ...(refusal.throughOffset === undefined ? [] : [refusal.throughOffset]));
    },
  });
  setHandler(defineQuery<LineageStatus>(STATUS_QUERY), () => state.status());
  setHandler(defineSignal<[LineageSettings]>(CONFIGURE_SIGNAL), (settings) => state.configure(settings));
  setHandler(defineSignal(FLUSH_SIGNAL), () => state.flush());
  setHandler(defineSignal<[string]>(FREEZE_SIGNAL), (reason) => state.freeze(reason, Date.now()));
  setHandler(defineSignal(RESUME_SIGNAL), () => state.resume());
  setHandler(defineSignal(FORGET_POSITIONS_SIGNAL), () => state.forgetPositions());
}

async function runBatch(state: LineageState, input: LineageInput): Promise<void> {
  const batch = state.startBatch(Date.now());
  try {
    state.batchSettled(await editBatchOf(batch, state));
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      state.batchBusy(Date.now());
      log.warn('A batch of an earlier run is still at work', { lineage: input.lineage, batchId: batch.batchId });
      return;
    }
    if (isCancellation(error)) log.warn('The batch was cancelled', { lineage: input.lineage, batchId: batch.batchId });
    state.batchFailed(reasonOf(error), Date.now());
    log.error('The batch was not settled', { lineage: input.lineage, batchId: batch.batchId, attempts: batch.attempts, reason: reasonOf(error) });
  }
}

async function editBatchOf(batch: CutBatch, state: LineageState): Promise<EditBatchResult> {
  const { batch: bounds, verdict } = state.status().settings;
  const argument: EditBatchInput = {
    lineage: state.lineage,
    batchId: batch.batchId,
    revisions: batch.revisions,
    settled: batch.settled,
    shardEditsMax: bounds.shardEditsMax,
    verdict,
  };
  return await executeChild<(input: EditBatchInput) => Promise<EditBatchResult>>(EDIT_BATCH_WORKFLOW, {
    workflowId: batchWorkflowId(state.lineage, batch.sequence),
    args: [argument],
    // A lineage that is terminated leaves its batch to finish what it announced to do.
    parentClosePolicy: ParentClosePolicy.ABANDON,
  });
}

/**
 * Waits for the time the next batch is due, or for anything that moves it. That time has come is for the timer alone to
 * say: a refused update wakes the workflow and leaves nothing in the history, so what was decided then, by the clock,
 * could not be replayed.
 */
async function untilSomethingChanges(state: LineageState, input: LineageInput, dueAt: number | null): Promise<void> {
  const changed = (): boolean => mayContinueAsNew(state, input) || state.batchDueAt() !== dueAt;
  if (dueAt === null) await condition(changed);
  else await condition(changed, dueAt - Date.now());
}

function mayContinueAsNew(state: LineageState, input: LineageInput): boolean {
  const info = workflowInfo();
  const long = info.continueAsNewSuggested || (input.historyEventsMax !== undefined && info.historyLength >= input.historyEventsMax);
  // Too much to carry is carried later: batches shrink it, and the buffer's bound keeps it from growing.
  return long && !state.batchRuns && allHandlersFinished() && jsonBytes(state.carried()) <= CARRIED_BYTES_MAX;
}
