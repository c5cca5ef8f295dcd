/**
 * The messages of a lineage workflow, which the workflow handles and the client sends. Only
 * Temporal's workflow library is imported, since the sandbox loads this file.
 */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { LineageSettings } from '../../schemas/settings.ts';
import type {
  Acceptance,
  LineageStatus,
  RevisionChunk,
  UndoAccepted,
  UndoOrder,
} from './contract.ts';

/** Takes revisions into the buffer. Refused with a failure type of `contract.ts`. */
export const acceptUpdate = defineUpdate<Acceptance, [RevisionChunk]>('accept');
export const undoUpdate = defineUpdate<UndoAccepted, [UndoOrder]>('undo');
/** Requests an undo without an answer, for when no workflow worker can give one. */
export const undoSignal = defineSignal<[UndoOrder]>('undoLater');
/** Changes the settings from the next batch on. */
export const configureSignal = defineSignal<[LineageSettings]>('configure');
/** Starts a batch of the waiting revisions, whatever its size and age. */
export const flushSignal = defineSignal('flush');
/** Starts no batch until `resume`, for the reason given. */
export const freezeSignal = defineSignal<[string]>('freeze');
export const resumeSignal = defineSignal('resume');
/** Accepts the records of a topic that was deleted and created again. */
export const forgetPositionsSignal = defineSignal('forgetPositions');
export const statusQuery = defineQuery<LineageStatus>('status');
