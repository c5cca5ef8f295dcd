/** The names, bounds and types that the workflows share with those who start and ask them. */
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

/** Failure types with which `accept` refuses; nothing is written to the history then. */
export const BUFFER_FULL = 'BufferFull';
export const CHUNK_UNSOUND = 'ChunkUnsound';
/** The partition ends before offsets that were taken from it: the topic was created again. */
export const TOPIC_RECREATED = 'TopicRecreated';
/**
 * Records lie between what the workflow has and the chunk. The failure's detail is the last offset
 * it has, -1 for none.
 */
export const RECORDS_MISSING = 'RecordsMissing';
/** Failure types with which `undo` refuses. */
export const UNDOS_FULL = 'UndosFull';
export const UNDO_UNSOUND = 'UndoUnsound';

/**
 * The search attributes by which Temporal's page and lists find workflows. Used where the lineage's
 * settings say that they are registered. Temporal never encrypts them.
 */
export const SEARCH_ATTRIBUTES = {
  ErrataLineage: 'KEYWORD',
  ErrataVersion: 'INT',
  ErrataOutcomes: 'KEYWORD_LIST',
  ErrataCorrections: 'KEYWORD_LIST',
} as const;

export const CHUNK_REVISIONS_MAX = 100;
/** Undos of a lineage that wait their turn. */
export const UNDOS_WAITING_MAX = 10;
/** Results of undos that a lineage remembers. */
export const UNDOS_REMEMBERED_MAX = 10;
/** Bytes are those of `jsonBytes`. One record of 64 KiB is at most 394 KB of it. */
export const CHUNK_BYTES_MAX = 400_000;
export const BATCH_BYTES_MAX = 400_000;
/** Together with a held batch it stays below Temporal's 2 MB for one payload. */
export const BUFFER_BYTES_CEILING = 1_500_000;
export const CARRIED_BYTES_MAX = 1_950_000;

/** Bytes of a value as JSON in UTF-8, which is what Temporal stores and bounds. */
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

/** Names what an undo stages and the version that it makes, as a batch's id does. */
export function undoBatchId(requestId: string): string {
  return `undo-${requestId}`;
}

/** The alias move that begins a rollback, and that the rollback's undo takes back at its end. */
export function rollbackMoveId(requestId: string): string {
  return `rollback:${requestId}`;
}

/** The queue of the activities that need the model. */
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
  /** The next offset that the broker will give, when the records were read. */
  endOffset: string;
  /** Where reading began: from here to `firstOffset` there is no other revision. */
  readFrom: string;
  /**
   * The run that the sender knows: one that knows another run is not refused for want of room. Null
   * where the lineage was never started.
   */
  run: string | null;
  revisions: FactRevision[];
}

export interface Acceptance {
  /**
   * The workflow has everything of the partition up to here. It may be less than the chunk's own
   * end: a chunk sent again under the same update id gets the first one's answer, and it may have
   * grown since.
   */
  throughOffset: string;
  accepted: number;
  redelivered: number;
  waiting: number;
  /** The run that has them. */
  run: string;
}

export interface LineageInput {
  lineage: string;
  settings: LineageSettings;
  carried: Carried | null;
  /** Continues as new after so many events, before the server suggests it: for drills and tests. */
  historyEventsMax?: number;
}

/** A batch that was cut from the buffer and is not yet settled. */
export interface CutBatch {
  sequence: number;
  batchId: string;
  revisions: FactRevision[];
  /** Decided when the batch was cut; announced by it. */
  settled: Outcome[];
  /** Times it was started; more than one after a failure. */
  attempts: number;
  startedAt: number;
  /** The reason to quarantine its revisions, once its tries are used up. */
  givenUp?: string;
}

/** An operator's undo; a workflow of its own carries it out, between two batches. */
export interface UndoOrder {
  request: UndoRequest;
  /**
   * The alias that was moved first (`rollbackMoveId`) and follows HEAD again when the undo is done;
   * null: none.
   */
  releaseAlias: string | null;
}

export interface UndoAccepted {
  workflowId: string;
  /** Undos before it. */
  waiting: number;
  /** The lineage had it before: it is not done twice. */
  known: boolean;
}

export interface UndoInput extends UndoOrder {
  lineage: string;
  verdict: VerdictSettings;
  findable: boolean;
}

/** How an undo ended. */
export interface UndoEnded {
  id: string;
  target: UndoTarget;
  requestedBy: string;
  /** `failed`: its workflow ended without a result. */
  kind: UndoResult['kind'] | 'failed';
  version: number | null;
  /** The reason that nothing was done; null where something was. */
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
  /** When the oldest waiting revision came in; null where none waits. */
  waitingSince: number | null;
  running: (HeldBatch & { startedAt: number }) | null;
  /** As the last batch left it; null before the first. */
  head: HeadReference | null;
  /** The last offset taken, by `<topic>-<partition>`. */
  highWater: Record<string, string>;
  outcomes: OutcomeCounts;
  batches: number;
  frozen: Frozen | null;
  /** A batch that failed and is kept; null where there is none, or where it runs. */
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
