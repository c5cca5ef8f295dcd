/**
 * What a lineage workflow and its batches are asked and answer: the names and types both sides
 * share.
 */
import type { FactRevision, KafkaPosition } from '../../schemas/correction.ts';
import type { HeadReference, Outcome, OutcomeStatus } from '../../schemas/editing.ts';
import type { LineageSettings, VerdictSettings } from '../../schemas/settings.ts';
import type { UndoRequest, UndoResult, UndoTarget } from '../../schemas/undo.ts';
import type { Waiting } from './buffer.ts';

export const LINEAGE_WORKFLOW = 'lineage';
export const EDIT_BATCH_WORKFLOW = 'editBatch';
export const UNDO_WORKFLOW = 'undo';

export const ACCEPT_UPDATE = 'accept';
export const UNDO_UPDATE = 'undo';
/** The same without an answer, for when no workflow worker is there to give one. */
export const UNDO_SIGNAL = 'undoLater';
export const STATUS_QUERY = 'status';
export const CONFIGURE_SIGNAL = 'configure';
export const FLUSH_SIGNAL = 'flush';
export const FREEZE_SIGNAL = 'freeze';
export const RESUME_SIGNAL = 'resume';
export const FORGET_POSITIONS_SIGNAL = 'forgetPositions';

/** Failure types with which `accept` refuses; nothing is written to the history then. */
export const BUFFER_FULL = 'BufferFull';
export const CHUNK_UNSOUND = 'ChunkUnsound';
/**
 * The partition ends before offsets that were taken from it: it is not the partition that it was.
 */
export const TOPIC_RECREATED = 'TopicRecreated';
/** So many undos wait already. */
export const UNDOS_FULL = 'UndosFull';
export const UNDO_UNSOUND = 'UndoUnsound';
/**
 * Records lie between what the workflow has and the chunk. The failure's detail is the last offset
 * it has, -1 for none.
 */
export const RECORDS_MISSING = 'RecordsMissing';

/**
 * By which Temporal's page and its lists find workflows, and their types. Used where the lineage's
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
/**
 * Bytes are those of the JSON that Temporal stores. One record of 64 KiB is at most 394 KB of it.
 */
export const CHUNK_BYTES_MAX = 400_000;
export const BATCH_BYTES_MAX = 400_000;
/**
 * Whatever the settings say; together with a held batch it stays below Temporal's 2 MB for one
 * payload.
 */
export const BUFFER_BYTES_CEILING = 1_500_000;
export const CARRIED_BYTES_MAX = 1_950_000;

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

/**
 * The word on the alias with which a rollback begins, and that its undo takes back when it is done.
 */
export function rollbackMoveId(requestId: string): string {
  return `rollback:${requestId}`;
}

/** Queue of the activities that need the model. */
export function editTaskQueue(lineage: string): string {
  return `edit-${lineage}`;
}

/** Queue of the workflows and the activities that need no model. */
export const WORKFLOW_TASK_QUEUE = 'errata-workflows';

/** Successive records of one partition, without those that went to the dead-letter topic. */
export interface RevisionChunk {
  topic: string;
  partition: number;
  firstOffset: string;
  throughOffset: string;
  /** Next offset that the broker will give, when the records were read. */
  endOffset: string;
  /**
   * From here to `firstOffset` there is no other revision: it follows what was handed over before,
   * or was read from here on.
   */
  readFrom?: string;
  /**
   * The run that answered the sender last, or that it found at first. Another one does not refuse
   * for want of room.
   */
  run?: string;
  revisions: FactRevision[];
}

export interface Acceptance {
  /**
   * Everything of the partition up to here is the workflow's. It may be less than the chunk's own
   * end: a chunk that is sent again under the same update id gets the first one's answer, and by
   * then it may have grown.
   */
  throughOffset: string;
  accepted: number;
  redelivered: number;
  waiting: number;
  /** The run that has them. */
  run?: string;
}

export interface LineageInput {
  lineage: string;
  settings: LineageSettings;
  carried: Carried | null;
  /**
   * Continue as new after so many events, if the server does not suggest it before. For drills and
   * tests.
   */
  historyEventsMax?: number;
}

/** A batch that was cut from the buffer and not yet settled. */
export interface CutBatch {
  sequence: number;
  batchId: string;
  revisions: FactRevision[];
  /** Decided when the batch was cut; announced by it. */
  settled: Outcome[];
  /** Times it was started; more than one after a failure. */
  attempts: number;
  startedAt: number;
  /**
   * Its tries are used up and the policy is to go on without it: why its revisions are quarantined.
   */
  givenUp?: string;
}

/** What an operator hands to a lineage: done by a workflow of its own, between two batches. */
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
  findable?: boolean;
}

/** An undo that came to its end, in short. */
export interface UndoEnded {
  id: string;
  target: UndoTarget;
  requestedBy: string;
  /** `failed`: its workflow ended without a result. */
  kind: UndoResult['kind'] | 'failed';
  version: number | null;
  /** Why nothing was done; null where something was. */
  reason: string | null;
  endedAt: number;
}

export type OutcomeCounts = Record<OutcomeStatus, number>;

/** What a run hands to its successor. */
export interface Carried {
  waiting: Waiting[];
  held: CutBatch | null;
  highWater: Record<string, string>;
  nextSequence: number;
  head: HeadReference | null;
  outcomes: OutcomeCounts;
  flushAsked: boolean;
  frozen: Frozen | null;
  undos?: UndoOrder[];
  undone?: UndoEnded[];
}

export interface Frozen {
  since: number;
  reason: string;
}

export interface LineageStatus {
  lineage: string;
  waiting: number;
  waitingBytes: number;
  /** When the one that waits longest came in; null where none waits. */
  waitingSince: number | null;
  running: {
    batchId: string;
    workflowId: string;
    revisions: number;
    startedAt: number;
    attempts: number;
  } | null;
  /** As the last batch left it; null before the first. */
  head: HeadReference | null;
  /** Last offset taken, by `<topic>-<partition>`. */
  highWater: Record<string, string>;
  outcomes: OutcomeCounts;
  batches: number;
  frozen: Frozen | null;
  /** A batch that failed and is kept; null where none is, or where it runs. */
  held: { batchId: string; workflowId: string; revisions: number; attempts: number } | null;
  undos: { running: UndoSummary | null; waiting: UndoSummary[]; ended: UndoEnded[] };
  settings: LineageSettings;
}

export interface UndoSummary {
  id: string;
  target: UndoTarget;
  reason: string;
  requestedBy: string;
  requestedAt: number;
  workflowId: string;
}

export interface EditBatchInput {
  lineage: string;
  batchId: string;
  revisions: FactRevision[];
  settled: Outcome[];
  shardEditsMax: number;
  verdict: VerdictSettings;
  /** Times that the batch and parts of it may be staged and probed; absent: `EDIT_ATTEMPTS_MAX`. */
  editAttemptsMax?: number;
  /** Nothing is tried: what is undecided is quarantined for this reason. */
  givenUp?: string;
  findable?: boolean;
}

export interface EditBatchResult {
  head: HeadReference | null;
  versions: number[];
  outcomes: OutcomeCounts;
}

export function noOutcomes(): OutcomeCounts {
  return {
    COMMITTED: 0,
    SUPERSEDED: 0,
    QUARANTINED: 0,
    RETRACTED: 0,
    DUPLICATE: 0,
    NOTHING_TO_RETRACT: 0,
  };
}

export function partitionKey(position: Pick<KafkaPosition, 'topic' | 'partition'>): string {
  return `${position.topic}-${position.partition}`;
}
