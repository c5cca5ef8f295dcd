/** Names, bounds and types that the workflows share with their clients. */
import type { FactRevision, KafkaPosition } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import type { HeadReference } from '../../schemas/editing.ts';
import type { LineageSettings, VerdictSettings } from '../../schemas/settings.ts';
import type { UndoRequest, UndoResult, UndoTarget } from '../../schemas/undo.ts';
import type { Waiting } from '../batch/buffer.ts';
import type { BatchInput } from '../batch/edit-batch.ts';
import type { OutcomeCounts } from '../batch/outcomes.ts';

export const LINEAGE_WORKFLOW = 'lineage';
export const EDIT_BATCH_WORKFLOW = 'editBatch';
export const UNDO_WORKFLOW = 'undo';

/** Failure types with which `accept` refuses; the history then gets no event. */
export const BUFFER_FULL = 'BufferFull';
export const CHUNK_UNSOUND = 'ChunkUnsound';
/** The partition ends before offsets that were taken from it: the topic was created again. */
export const TOPIC_RECREATED = 'TopicRecreated';
/**
 * Records are missing between the workflow's last record and the chunk. The failure's detail is the
 * workflow's last offset, -1 for none.
 */
export const RECORDS_MISSING = 'RecordsMissing';
/** Failure types with which `undo` refuses. */
export const UNDOS_FULL = 'UndosFull';
export const UNDO_UNSOUND = 'UndoUnsound';

/**
 * The search attributes by which Temporal's page and lists find workflows. Used if the lineage's
 * settings say that they are registered. Temporal never encrypts them.
 */
export const SEARCH_ATTRIBUTES = {
  ErrataLineage: 'KEYWORD',
  ErrataVersion: 'INT',
  ErrataOutcomes: 'KEYWORD_LIST',
  ErrataCorrections: 'KEYWORD_LIST',
} as const;

export const CHUNK_REVISIONS_MAX = 100;
/** Undos of a lineage that may wait at the same time. */
export const UNDOS_WAITING_MAX = 10;
/** Results of undos that a lineage remembers. */
export const UNDOS_REMEMBERED_MAX = 10;
/** Bytes as `jsonBytes` counts them. One record of 64 KiB is at most 394 KB of it. */
export const CHUNK_BYTES_MAX = 400_000;
export const BATCH_BYTES_MAX = 400_000;
/** Together with a held batch it stays below Temporal's 2 MB for one payload. */
export const BUFFER_BYTES_CEILING = 1_500_000;
export const CARRIED_BYTES_MAX = 1_950_000;

/** Returns the bytes of a value as JSON in UTF-8, which is what Temporal stores and bounds. */
export function jsonBytes(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

export function lineageWorkflowId(lineage: string): string {
  return `lineage/${lineage}`;
}

export function batchWorkflowId(lineage: string, sequence: number): string {
  return `edit-batch/${lineage}/${sequence}`;
}

export function undoWorkflowId(lineage: string, requestId: string): string {
  return `undo/${lineage}/${requestId}`;
}

/** Returns the batch id of an undo, for its staging and its version. */
export function undoBatchId(requestId: string): string {
  return `undo-${requestId}`;
}

/**
 * Returns the id of the alias move that begins a rollback, and that its undo reverses at the end.
 */
export function rollbackMoveId(requestId: string): string {
  return `rollback:${requestId}`;
}

/** Returns the queue of the activities that need the model. */
export function editTaskQueue(lineage: string): string {
  return `edit-${lineage}`;
}

/** The queue of the workflows and of the activities that need no model. */
export const WORKFLOW_TASK_QUEUE = 'errata-workflows';

/** Successive records of one partition, without those that went to the dead-letter topic. */
export interface RevisionChunk {
  topic: string;
  partition: number;
  firstOffset: string;
  throughOffset: string;
  /** The next offset that the broker would assign, at the time of reading. */
  endOffset: string;
  /** The offset at which reading began: there is no other revision from here to `firstOffset`. */
  readFrom: string;
  /**
   * The run that the sender knows; null if the lineage was never started. A sender that knows
   * another run is not refused for lack of room.
   */
  run: string | null;
  revisions: FactRevision[];
}

export interface Acceptance {
  /**
   * The workflow has everything of the partition through this offset. It may be less than the
   * chunk's own end: a chunk that grew and was sent again under the same update id gets the first
   * one's answer.
   */
  throughOffset: string;
  accepted: number;
  redelivered: number;
  waiting: number;
  /** The run that took the records. */
  run: string;
}

export interface LineageInput {
  lineage: string;
  settings: LineageSettings;
  carried: Carried | null;
  /**
   * Events after which the run continues as new, before the server suggests it. For drills and
   * tests.
   */
  historyEventsMax?: number;
}

/** A batch that was cut from the buffer and is not yet settled. */
export interface CutBatch {
  sequence: number;
  batchId: string;
  revisions: FactRevision[];
  /** Outcomes decided when the batch was cut; the batch announces them. */
  settled: Outcome[];
  /** Number of starts; more than one after a failure. */
  attempts: number;
  startedAt: number;
  /** The reason to quarantine its revisions, once its tries are used up. */
  givenUp?: string;
}

/** An operator's undo. Its own workflow carries it out, between two batches. */
export interface UndoOrder {
  request: UndoRequest;
  /**
   * The alias that was moved first (`rollbackMoveId`) and follows HEAD again when the undo is done;
   * null for none.
   */
  releaseAlias: string | null;
}

export interface UndoAccepted {
  workflowId: string;
  /** Number of undos before it. */
  waiting: number;
  /** Whether the lineage had it before; it is not done twice. */
  known: boolean;
}

export interface UndoInput extends UndoOrder {
  lineage: string;
  verdict: VerdictSettings;
  findable: boolean;
}

/** The result of an undo. */
export interface UndoEnded {
  id: string;
  target: UndoTarget;
  requestedBy: string;
  /** `failed`: its workflow ended without a result. */
  kind: UndoResult['kind'] | 'failed';
  version: number | null;
  /** The reason that nothing was done; null if something was. */
  reason: string | null;
  endedAt: number;
}

/** The state that a run hands to its successor. */
export interface Carried {
  waiting: Waiting[];
  held: CutBatch | null;
  highWater: Record<string, string>;
  nextSequence: number;
  head: HeadReference | null;
  outcomes: OutcomeCounts;
  flushAsked: boolean;
  frozen: Frozen | null;
  undos: UndoOrder[];
  undone: UndoEnded[];
}

export interface Frozen {
  since: number;
  reason: string;
}

export interface LineageStatus {
  lineage: string;
  waiting: number;
  waitingBytes: number;
  /** Arrival of the oldest waiting revision; null without any. */
  waitingSince: number | null;
  running: (HeldBatch & { startedAt: number }) | null;
  /** HEAD after the last batch; null before the first. */
  head: HeadReference | null;
  /** The last offset taken, by `<topic>-<partition>`. */
  highWater: Record<string, string>;
  outcomes: OutcomeCounts;
  batches: number;
  frozen: Frozen | null;
  /** A batch that failed and is kept; null while it runs or without one. */
  held: HeldBatch | null;
  undos: { running: UndoSummary | null; waiting: UndoSummary[]; ended: UndoEnded[] };
  settings: LineageSettings;
}

export interface HeldBatch {
  batchId: string;
  workflowId: string;
  revisions: number;
  attempts: number;
}

export type UndoSummary = UndoRequest & { workflowId: string };

export type EditBatchInput = BatchInput & { findable: boolean };

export interface EditBatchResult {
  head: HeadReference | null;
  versions: number[];
  outcomes: OutcomeCounts;
}

export function partitionKey(position: Pick<KafkaPosition, 'topic' | 'partition'>): string {
  return `${position.topic}-${position.partition}`;
}
