/**
 * `lineage/<name>`: takes the revisions of one edited model, buffers them and edits them batch by
 * batch, for good. Exactly one batch runs at a time. What is decided here is decided in
 * `LineageState`.
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
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { UndoResult } from '../../schemas/undo.ts';
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
  UNDO_SIGNAL,
  UNDO_UPDATE,
  UNDO_WORKFLOW,
  batchWorkflowId,
  undoWorkflowId,
  type Acceptance,
  type CutBatch,
  type EditBatchInput,
  type EditBatchResult,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
  type UndoAccepted,
  type UndoInput,
  type UndoOrder,
} from './contract.ts';
import { AlertTeller } from './alert-teller.ts';
import { attributesAtStart, findLineage, idsIn, lineageInWords, undoInWords } from './findable.ts';
import { jsonBytes } from './json-size.ts';
import { LineageState, type NextStep } from './lineage-state.ts';
import { reasonOf } from './failure-reason.ts';

export async function lineage(input: LineageInput): Promise<void> {
  const state = new LineageState(input);
  const alerts = new AlertTeller(state);
  listen(state);
  // A cancelled lineage would lose what waits in its buffer, whose offsets Kafka has seen
  // committed: it is frozen instead.
  void CancellationScope.current().cancelRequested.catch(() =>
    state.freeze(
      'the lineage workflow was asked to cancel; resume it, or terminate it to give its buffer up',
      Date.now(),
    ),
  );
  await CancellationScope.nonCancellable(async () => {
    while (!mayContinueAsNew(state, alerts, input)) {
      if (state.settings.findable === true) findLineage(state.lineage, state.headVersion);
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

function listen(state: LineageState): void {
  setHandler(
    defineUpdate<Acceptance, [RevisionChunk]>(ACCEPT_UPDATE),
    (chunk) => ({ ...state.accept(chunk, Date.now()), run: workflowInfo().runId }),
    {
      validator: (chunk: RevisionChunk) => {
        const refusal = state.refusalOf(chunk, workflowInfo().runId);
        if (refusal !== null)
          throw ApplicationFailure.nonRetryable(
            refusal.message,
            refusal.type,
            ...(refusal.throughOffset === undefined ? [] : [refusal.throughOffset]),
          );
      },
    },
  );
  setHandler(
    defineUpdate<UndoAccepted, [UndoOrder]>(UNDO_UPDATE),
    (order) => state.acceptUndo(order),
    {
      validator: (order: UndoOrder) => {
        const refusal = state.undoRefusalOf(order);
        if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal.message, refusal.type);
      },
    },
  );
  setHandler(defineSignal<[UndoOrder]>(UNDO_SIGNAL), (order) => state.leaveUndo(order, Date.now()));
  setHandler(defineQuery<LineageStatus>(STATUS_QUERY), () => state.status());
  setHandler(defineSignal<[LineageSettings]>(CONFIGURE_SIGNAL), (settings) =>
    state.configure(settings),
  );
  setHandler(defineSignal(FLUSH_SIGNAL), () => state.flush());
  setHandler(defineSignal<[string]>(FREEZE_SIGNAL), (reason) => state.freeze(reason, Date.now()));
  setHandler(defineSignal(RESUME_SIGNAL), () => state.resume());
  setHandler(defineSignal(FORGET_POSITIONS_SIGNAL), () => state.forgetPositions());
}

async function runBatch(state: LineageState): Promise<void> {
  const batch = state.startBatch(Date.now());
  say(state);
  const { lineage } = state;
  try {
    state.batchSettled(await editBatchOf(batch, state), Date.now());
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      state.batchBusy(Date.now());
      log.warn('A batch of an earlier run is still at work', { lineage, batchId: batch.batchId });
      return;
    }
    if (isCancellation(error))
      log.warn('The batch was cancelled', { lineage, batchId: batch.batchId });
    state.batchFailed(reasonOf(error), Date.now());
    log.error('The batch was not settled', {
      lineage,
      batchId: batch.batchId,
      attempts: batch.attempts,
      reason: reasonOf(error),
    });
  }
}

async function editBatchOf(batch: CutBatch, state: LineageState): Promise<EditBatchResult> {
  const { batch: bounds, verdict, failures, findable } = state.settings;
  const argument: EditBatchInput = {
    lineage: state.lineage,
    batchId: batch.batchId,
    revisions: batch.revisions,
    settled: batch.settled,
    shardEditsMax: bounds.shardEditsMax,
    verdict,
    ...(failures === undefined ? {} : { editAttemptsMax: failures.editAttemptsMax }),
    ...(batch.givenUp === undefined ? {} : { givenUp: batch.givenUp }),
    ...(findable === true ? { findable } : {}),
  };
  return await executeChild<(input: EditBatchInput) => Promise<EditBatchResult>>(
    EDIT_BATCH_WORKFLOW,
    {
      workflowId: batchWorkflowId(state.lineage, batch.sequence),
      args: [argument],
      // A lineage that is terminated leaves its batch to finish what it announced to do.
      parentClosePolicy: ParentClosePolicy.ABANDON,
      ...(findable === true
        ? {
            typedSearchAttributes: attributesAtStart(state.lineage, idsIn(batch.revisions)),
            memo: {
              batchId: batch.batchId,
              revisions: batch.revisions.length,
              settled: batch.settled.length,
            },
            staticSummary: `Batch ${batch.batchId} of ${state.lineage}: ${batch.revisions.length} revisions`,
          }
        : {}),
    },
  );
}

async function runUndo(state: LineageState): Promise<void> {
  const order = state.startUndo();
  say(state);
  const { lineage } = state;
  const { id } = order.request;
  try {
    const { verdict, findable } = state.settings;
    const argument: UndoInput = {
      ...order,
      lineage,
      verdict,
      ...(findable === true ? { findable } : {}),
    };
    const result = await executeChild<(input: UndoInput) => Promise<UndoResult>>(UNDO_WORKFLOW, {
      workflowId: undoWorkflowId(lineage, id),
      args: [argument],
      parentClosePolicy: ParentClosePolicy.ABANDON,
      ...(findable === true
        ? {
            typedSearchAttributes: attributesAtStart(
              lineage,
              order.request.target.kind === 'correction' ? [order.request.target.id] : [],
            ),
            memo: { target: order.request.target },
            staticSummary: undoInWords(order.request),
          }
        : {}),
    });
    state.undoSettled(result, Date.now());
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      state.undoBusy(Date.now());
      log.warn('An undo of an earlier run is still at work', { lineage, undo: id });
      return;
    }
    state.undoFailed(reasonOf(error), Date.now());
    log.error('The undo was not done', { lineage, undo: id, reason: reasonOf(error) });
  }
}

/**
 * Waits for the time the next step is due, or for anything that moves it. That time has come is for
 * the timer alone to say: a refused update wakes the workflow and leaves nothing in the history, so
 * what was decided then, by the clock, could not be replayed.
 */
async function untilSomethingChanges(
  state: LineageState,
  alerts: AlertTeller,
  input: LineageInput,
  next: NextStep | null,
): Promise<void> {
  say(state);
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

/** What goes on, in words, for Temporal's own page. */
function say(state: LineageState): void {
  setCurrentDetails(lineageInWords(state.status()));
}

function mayContinueAsNew(state: LineageState, alerts: AlertTeller, input: LineageInput): boolean {
  const info = workflowInfo();
  const long =
    info.continueAsNewSuggested ||
    (input.historyEventsMax !== undefined && info.historyLength >= input.historyEventsMax);
  // Too much to carry is carried later: batches shrink it, and the buffer's bound keeps it from
  // growing.
  return (
    long &&
    !state.isAtWork &&
    alerts.isDone &&
    allHandlersFinished() &&
    jsonBytes(state.carried()) <= CARRIED_BYTES_MAX
  );
}
