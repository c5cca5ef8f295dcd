/**
 * `lineage/<name>`: takes the revisions of one edited model, buffers them and edits them batch by
 * batch, without end. One batch or undo runs at a time. `LineageState` decides.
 */
import {
  ApplicationFailure,
  CancellationScope,
  ParentClosePolicy,
  allHandlersFinished,
  condition,
  continueAsNew,
  executeChild,
  isCancellation,
  log,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { revisionId } from '../../schemas/correction.ts';
import type { UndoResult } from '../../schemas/undo.ts';
import {
  CARRIED_BYTES_MAX,
  EDIT_BATCH_WORKFLOW,
  UNDO_WORKFLOW,
  batchWorkflowId,
  jsonBytes,
  undoWorkflowId,
  type CutBatch,
  type EditBatchInput,
  type EditBatchResult,
  type LineageInput,
  type RevisionChunk,
  type UndoInput,
  type UndoOrder,
} from './contract.ts';
import { AlertTeller } from './alert-teller.ts';
import { attributesAtStart, findLineage, lineageInWords, undoInWords } from './findable.ts';
import { BUSY_WAIT_MS, LineageState, type NextStep } from './lineage-state.ts';
import {
  acceptUpdate,
  configureSignal,
  flushSignal,
  forgetPositionsSignal,
  freezeSignal,
  resumeSignal,
  statusQuery,
  undoSignal,
  undoUpdate,
} from './messages.ts';
import { reasonOf } from './failure-reason.ts';

export async function lineage(input: LineageInput): Promise<void> {
  const state = new LineageState(input);
  const alerts = new AlertTeller(state);
  handleMessages(state);
  // Cancelling a lineage would lose the revisions in its buffer, whose offsets are committed in
  // Kafka. It is frozen instead.
  void CancellationScope.current().cancelRequested.catch(() =>
    state.freeze(
      'the lineage workflow was asked to cancel; resume it, or terminate it to give its buffer up',
      Date.now(),
    ),
  );
  await CancellationScope.nonCancellable(async () => {
    while (!mayContinueAsNew(state, alerts, input)) {
      if (state.settings.findable) findLineage(state.lineage, state.headVersion);
      alerts.tell();
      const next = state.nextStep();
      if (next === null || next.dueAt > Date.now())
        await untilSomethingChanges(state, alerts, input, next);
      else if (next.kind === 'undo') await runUndo(state);
      else await runBatch(state);
    }
  });
  await continueAsNew<typeof lineage>({ ...input, ...state.carried() });
}

function handleMessages(state: LineageState): void {
  const { runId } = workflowInfo();
  setHandler(acceptUpdate, (chunk) => ({ ...state.accept(chunk, Date.now()), run: runId }), {
    validator: (chunk: RevisionChunk) => {
      const refusal = state.refusalOf(chunk, runId);
      if (refusal === null) return;
      const { message, type, throughOffset } = refusal;
      const details = throughOffset === undefined ? [] : [throughOffset];
      throw ApplicationFailure.nonRetryable(message, type, ...details);
    },
  });
  setHandler(undoUpdate, (order) => state.undos.accept(order), {
    validator: (order: UndoOrder) => {
      const refusal = state.undos.refusalOf(order);
      if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal.message, refusal.type);
    },
  });
  setHandler(undoSignal, (order) => state.undos.acceptUnanswered(order, Date.now()));
  setHandler(statusQuery, () => state.status());
  setHandler(configureSignal, (settings) => state.configure(settings));
  setHandler(flushSignal, () => state.flush());
  setHandler(freezeSignal, (reason) => state.freeze(reason, Date.now()));
  setHandler(resumeSignal, () => state.resume());
  setHandler(forgetPositionsSignal, () => state.forgetPositions());
}

async function runBatch(state: LineageState): Promise<void> {
  const batch = state.startBatch(Date.now());
  showDetails(state);
  const fields = { lineage: state.lineage, batchId: batch.batchId };
  try {
    state.batchSettled(await editBatch(batch, state), Date.now());
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      state.batchBusy(Date.now());
      log.warn('A batch of an earlier run is still at work', fields);
      return;
    }
    if (isCancellation(error)) log.warn('The batch was cancelled', fields);
    const reason = reasonOf(error);
    state.batchFailed(reason, Date.now());
    log.error('The batch was not settled', { ...fields, attempts: batch.attempts, reason });
  }
}

async function editBatch(batch: CutBatch, state: LineageState): Promise<EditBatchResult> {
  const { lineage } = state;
  const { batch: bounds, verdict, failures, findable } = state.settings;
  const { sequence, batchId, revisions, settled, givenUp } = batch;
  const input: EditBatchInput = {
    lineage,
    batchId,
    revisions,
    settled,
    shardEditsMax: bounds.shardEditsMax,
    verdict,
    editAttemptsMax: failures.editAttemptsMax,
    ...(givenUp === undefined ? {} : { givenUp }),
    findable,
  };
  return await runChild<EditBatchInput, EditBatchResult>(EDIT_BATCH_WORKFLOW, input, {
    workflowId: batchWorkflowId(lineage, sequence),
    corrections: revisions.map(revisionId),
    memo: { batchId, revisions: revisions.length, settled: settled.length },
    summary: `Batch ${batchId} of ${lineage}: ${revisions.length} revisions`,
  });
}

async function runUndo(state: LineageState): Promise<void> {
  const order = state.undos.start();
  showDetails(state);
  const { lineage, settings } = state;
  const { id, target } = order.request;
  const fields = { lineage, undo: id };
  const { verdict, findable } = settings;
  try {
    const input: UndoInput = { ...order, lineage, verdict, findable };
    const result = await runChild<UndoInput, UndoResult>(UNDO_WORKFLOW, input, {
      workflowId: undoWorkflowId(lineage, id),
      corrections: target.kind === 'correction' ? [target.id] : [],
      memo: { target },
      summary: undoInWords(order.request),
    });
    state.undoSettled(result, Date.now());
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      state.undos.busy(Date.now() + BUSY_WAIT_MS);
      log.warn('An undo of an earlier run is still at work', fields);
      return;
    }
    const reason = reasonOf(error);
    state.undos.failed(reason, Date.now());
    log.error('The undo was not done', { ...fields, reason });
  }
}

/** The name and search attributes of a child workflow. */
interface ChildDescription {
  workflowId: string;
  corrections: readonly string[];
  memo: Record<string, unknown>;
  summary: string;
}

async function runChild<Input extends { lineage: string; findable: boolean }, Result>(
  type: string,
  input: Input,
  { workflowId, corrections, memo, summary: staticSummary }: ChildDescription,
): Promise<Result> {
  const typedSearchAttributes = attributesAtStart(input.lineage, corrections);
  return await executeChild<(input: Input) => Promise<Result>>(type, {
    workflowId,
    args: [input] as never,
    // If the lineage is terminated, its child still finishes its work.
    parentClosePolicy: ParentClosePolicy.ABANDON,
    ...(input.findable ? { typedSearchAttributes, memo, staticSummary } : {}),
  });
}

/**
 * Waits until the next step is due, or until a message changes it. Only the timer may decide that
 * the time has come. A refused update wakes the workflow and leaves nothing in the history, so a
 * decision by the clock at that moment could not be replayed.
 */
async function untilSomethingChanges(
  state: LineageState,
  alerts: AlertTeller,
  input: LineageInput,
  next: NextStep | null,
): Promise<void> {
  showDetails(state);
  const { findable } = state.settings;
  const changed = (): boolean =>
    mayContinueAsNew(state, alerts, input) ||
    !isSameStep(state.nextStep(), next) ||
    state.settings.findable !== findable;
  if (next === null) await condition(changed);
  else await condition(changed, next.dueAt - Date.now());
}

function isSameStep(a: NextStep | null, b: NextStep | null): boolean {
  return a?.kind === b?.kind && a?.dueAt === b?.dueAt;
}

/** Shows the lineage's progress on Temporal's own page. */
function showDetails(state: LineageState): void {
  setCurrentDetails(lineageInWords(state.status()));
}

function mayContinueAsNew(state: LineageState, alerts: AlertTeller, input: LineageInput): boolean {
  const { continueAsNewSuggested, historyLength } = workflowInfo();
  const isLong = continueAsNewSuggested || historyLength >= (input.historyEventsMax ?? Infinity);
  // A state that is too large is carried later: batches shrink it, and the buffer's bound limits
  // its growth.
  return (
    isLong &&
    !state.isAtWork &&
    alerts.isDone &&
    allHandlersFinished() &&
    jsonBytes(state.carried()) <= CARRIED_BYTES_MAX
  );
}
