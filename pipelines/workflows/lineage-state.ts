/**
 * The state of a lineage workflow and its decisions, without waits or calls, which the workflow
 * makes. Times are milliseconds since 1970 by the workflow's clock.
 */
import type { Alert } from '../../schemas/alert.ts';
import type { FactRevision } from '../../schemas/correction.ts';
import type { HeadReference } from '../../schemas/editing.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { UndoResult } from '../../schemas/undo.ts';
import { cutNumbered, type Waiting } from '../batch/buffer.ts';
import { noOutcomes, type OutcomeCounts } from '../batch/outcomes.ts';
import {
  BATCH_BYTES_MAX,
  BUFFER_BYTES_CEILING,
  BUFFER_FULL,
  CHUNK_UNSOUND,
  RECORDS_MISSING,
  TOPIC_RECREATED,
  batchWorkflowId,
  jsonBytes,
  partitionKey,
  type Acceptance,
  type Carried,
  type CutBatch,
  type EditBatchResult,
  type Frozen,
  type HeldBatch,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
} from './contract.ts';
import { chunkFaultOf } from './message-faults.ts';
import { UndoQueue } from './undo-queue.ts';

/** Interval of checks whether an earlier run's batch or undo has ended. */
export const BUSY_WAIT_MS = 2_000;
/** Most alerts that wait to be sent; the oldest are dropped first. */
const ALERTS_WAITING_MAX = 20;

export interface NextStep {
  kind: 'undo' | 'batch';
  dueAt: number;
}

interface ChunkRefusal {
  type: typeof BUFFER_FULL | typeof CHUNK_UNSOUND | typeof TOPIC_RECREATED | typeof RECORDS_MISSING;
  message: string;
  /** The last offset of the partition that the lineage has, if that is the reason. */
  throughOffset?: string;
}

export class LineageState {
  readonly lineage: string;
  readonly undos: UndoQueue;
  #settings: LineageSettings;
  #waiting: Waiting[];
  #waitingBytes: number;
  #held: CutBatch | null;
  #running = false;
  #retryAt = 0;
  readonly #highWater: Map<string, bigint>;
  #nextSequence: number;
  #head: HeadReference | null;
  readonly #outcomes: OutcomeCounts;
  #flushAsked: boolean;
  #frozen: Frozen | null;
  #alerts: Alert[] = [];

  constructor({ lineage, settings, carried }: LineageInput) {
    this.lineage = lineage;
    this.undos = new UndoQueue(lineage, carried?.undos ?? [], carried?.undone ?? []);
    this.#settings = settings;
    this.#waiting = carried?.waiting ?? [];
    this.#waitingBytes = bytesOf(this.#waiting);
    this.#held = carried?.held ?? null;
    this.#highWater = new Map(
      Object.entries(carried?.highWater ?? {}).map(([key, offset]) => [key, BigInt(offset)]),
    );
    this.#nextSequence = carried?.nextSequence ?? 0;
    this.#head = carried?.head ?? null;
    this.#outcomes = carried?.outcomes ?? noOutcomes();
    this.#flushAsked = carried?.flushAsked ?? false;
    this.#frozen = carried?.frozen ?? null;
  }

  /**
   * Returns the reason that this run refuses a chunk now, or null. An empty buffer takes any sound
   * chunk, so no chunk is refused for ever.
   *
   * After a reset the run receives again the chunks that it took before, and a refusal then would
   * leave a history that cannot be replayed. So a full buffer refuses only a sender that knows this
   * run, which no sender does before the reset.
   */
  refusalOf(chunk: RevisionChunk, run: string): ChunkRefusal | null {
    const chunkBytes = jsonBytes(chunk);
    const fault = chunkFaultOf(this.lineage, chunk, chunkBytes);
    if (fault !== null) return { type: CHUNK_UNSOUND, message: fault };
    const through = this.#highWater.get(partitionKey(chunk)) ?? -1n;
    if (through >= BigInt(chunk.endOffset)) {
      // Accepting it as a redelivery would silently drop its records.
      return {
        type: TOPIC_RECREATED,
        message:
          `offset ${through} was taken before, and the partition ends at ${chunk.endOffset}: ` +
          'was the topic created again? Then forgetPositions lets its records in',
      };
    }
    if (through + 1n < BigInt(chunk.readFrom)) {
      // Accepting it would hide the loss of records, by a reset or with an earlier workflow.
      const before = BigInt(chunk.readFrom) - 1n;
      return {
        type: RECORDS_MISSING,
        message: `the last offset taken is ${through}, and the chunk follows offset ${before}`,
        throughOffset: String(through),
      };
    }
    const fresh = this.#freshOf(chunk);
    if (fresh.length === 0 || this.#waiting.length === 0 || chunk.run !== run) return null;
    const bytes = fresh.length === chunk.revisions.length ? chunkBytes : jsonBytes(fresh);
    const message = this.#fullness(fresh.length, bytes);
    return message === null ? null : { type: BUFFER_FULL, message };
  }

  /** Takes those revisions of the chunk that were not taken before. */
  accept(chunk: RevisionChunk, now: number): Omit<Acceptance, 'run'> {
    const fresh = this.#freshOf(chunk);
    for (const revision of fresh) {
      const bytes = jsonBytes(revision);
      this.#waiting.push({ revision, bytes, arrivedAt: now });
      this.#waitingBytes += bytes;
    }
    const partition = partitionKey(chunk);
    const through = BigInt(chunk.throughOffset);
    const before = this.#highWater.get(partition);
    if (before === undefined || before < through) this.#highWater.set(partition, through);
    return {
      throughOffset: chunk.throughOffset,
      accepted: fresh.length,
      redelivered: chunk.revisions.length - fresh.length,
      waiting: this.#waiting.length,
    };
  }

  configure(settings: LineageSettings): void {
    this.#settings = settings;
  }

  flush(): void {
    this.#flushAsked = this.#waiting.length > 0;
  }

  /** Starts no batch until `resume`; the running one is finished and the buffer fills. */
  freeze(reason: string, now: number): void {
    this.#frozen ??= { since: now, reason };
  }

  resume(): void {
    this.#frozen = null;
    this.#retryAt = 0;
    if (this.#held !== null && !this.#running) {
      this.#held.attempts = 0;
      delete this.#held.givenUp;
    }
  }

  /** Needed for a topic that was created again. Revisions taken from the old one stay. */
  forgetPositions(): void {
    this.#highWater.clear();
  }

  /**
   * Returns the next step, even if it is not due yet; null if only a message can bring one. Undos
   * go first, and also while the lineage is frozen: a freeze stops batches, not operators.
   */
  nextStep(): NextStep | null {
    if (this.isAtWork) return null;
    const undoDueAt = this.undos.dueAt;
    if (undoDueAt !== null) return { kind: 'undo', dueAt: undoDueAt };
    const dueAt = this.#batchDueAt();
    return dueAt === null ? null : { kind: 'batch', dueAt };
  }

  undoSettled(result: UndoResult, now: number): void {
    if (result.kind === 'undone') this.#head = { version: result.version, hash: result.hash };
    this.undos.settled(result, now);
  }

  /** Cuts the next batch, or takes the held one again. Call it when a batch is due. */
  startBatch(now: number): CutBatch {
    const batch = this.#held ?? this.#cut(now);
    batch.attempts++;
    this.#held = batch;
    this.#running = true;
    return batch;
  }

  batchSettled({ head, outcomes }: EditBatchResult, now: number): void {
    const batch = this.#held!;
    const { batchId, givenUp } = batch;
    this.#held = null;
    this.#running = false;
    this.#head = head ?? this.#head;
    for (const [status, count] of Object.entries(outcomes))
      this.#outcomes[status as keyof OutcomeCounts] += count;
    const { quarantinedMax } = this.#settings.failures;
    const { QUARANTINED: quarantined } = outcomes;
    if (givenUp !== undefined) {
      const what = `batch ${batchId} was given up and ${quarantined} of its revisions quarantined`;
      this.#alert('quarantined', `${what}: ${givenUp}`, batch, now);
    }
    if (quarantinedMax > 0 && quarantined > quarantinedMax) {
      const what = `${quarantined} revisions of batch ${batchId} were quarantined`;
      this.#freezeOver(batch, `${what}, and the lineage freezes past ${quarantinedMax}`, now);
    }
  }

  /**
   * Handles the end of a batch's workflow that did not settle it. The batch is kept whole and tried
   * again. When its tries are used up, the lineage is frozen, or its revisions are quarantined in
   * one more try. If that fails as well, the lineage is frozen.
   */
  batchFailed(reason: string, now: number): void {
    this.#running = false;
    const batch = this.#held!;
    const { batchId, attempts } = batch;
    const { batchAttemptsMax, retryWaitMs, whenUsedUp } = this.#settings.failures;
    this.#retryAt = now + retryWaitMs * attempts;
    if (attempts < batchAttemptsMax) {
      const what = `batch ${batchId} failed, try ${attempts} of ${batchAttemptsMax}: ${reason}`;
      this.#alert('batch-failed', what, batch, now);
    } else if (whenUsedUp === 'quarantine' && batch.givenUp === undefined) {
      batch.givenUp = `its batch failed ${attempts} times: ${reason}`;
      const what = `batch ${batchId} failed ${attempts} times and is given up: ${reason}`;
      this.#alert('batch-failed', what, batch, now);
    } else this.#freezeOver(batch, `batch ${batchId} failed ${attempts} times: ${reason}`, now);
  }

  /** Waits for an earlier run's workflow of the batch, and counts no attempt. */
  batchBusy(now: number): void {
    this.#running = false;
    this.#held!.attempts--;
    this.#retryAt = now + BUSY_WAIT_MS;
  }

  takeAlert(): Alert | null {
    return this.#alerts.shift() ?? null;
  }

  get alertsWait(): boolean {
    return this.#alerts.length > 0;
  }

  get settings(): LineageSettings {
    return this.#settings;
  }

  get isAtWork(): boolean {
    return this.#running || this.undos.isRunning;
  }

  get headVersion(): number | null {
    return this.#head?.version ?? null;
  }

  status(): LineageStatus {
    const held = this.#running ? null : this.#heldBatch();
    const running = this.#running ? this.#heldBatch() : null;
    return {
      lineage: this.lineage,
      waiting: this.#waiting.length + (held?.revisions ?? 0),
      waitingBytes: this.#waitingBytes,
      waitingSince: this.#waiting[0]?.arrivedAt ?? null,
      running: running && { ...running, startedAt: this.#held!.startedAt },
      head: this.#head,
      highWater: this.#highWaterByPartition(),
      outcomes: { ...this.#outcomes },
      batches: this.#nextSequence,
      frozen: this.#frozen,
      held,
      undos: this.undos.status(),
      settings: this.#settings,
    };
  }

  carried(): { settings: LineageSettings; carried: Carried } {
    return {
      settings: this.#settings,
      carried: {
        waiting: this.#waiting,
        held: this.#held,
        highWater: this.#highWaterByPartition(),
        nextSequence: this.#nextSequence,
        head: this.#head,
        outcomes: this.#outcomes,
        flushAsked: this.#flushAsked,
        frozen: this.#frozen,
        ...this.undos.carried,
      },
    };
  }

  #heldBatch(): HeldBatch | null {
    if (this.#held === null) return null;
    const { batchId, sequence, revisions, attempts } = this.#held;
    const workflowId = batchWorkflowId(this.lineage, sequence);
    return { batchId, workflowId, revisions: revisions.length, attempts };
  }

  #batchDueAt(): number | null {
    if (this.#frozen !== null) return null;
    if (this.#held !== null) return this.#retryAt;
    const oldest = this.#waiting[0];
    if (oldest === undefined) return null;
    const { batchEditsMax, batchWaitMs } = this.#settings.batch;
    if (this.#flushAsked || this.#waiting.length >= batchEditsMax) return 0;
    return oldest.arrivedAt + batchWaitMs;
  }

  #freezeOver(batch: CutBatch, reason: string, now: number): void {
    this.freeze(reason, now);
    this.#alert('frozen', reason, batch, now);
  }

  #alert(kind: Alert['kind'], reason: string, batch: CutBatch, at: number): void {
    if (!this.#settings.failures.alert) return;
    const { lineage } = this;
    const { batchId, attempts } = batch;
    const workflowId = batchWorkflowId(lineage, batch.sequence);
    const id = `${lineage}/${batchId}/${attempts}/${kind}`;
    const alert = { id, kind, lineage, reason, batchId, workflowId, at };
    this.#alerts = [...this.#alerts, alert].slice(-ALERTS_WAITING_MAX);
  }

  #cut(now: number): CutBatch {
    const { lineage } = this;
    const sequence = this.#nextSequence++;
    const limits = { editsMax: this.#settings.batch.batchEditsMax, bytesMax: BATCH_BYTES_MAX };
    const { rest, ...cut } = cutNumbered(this.#waiting, limits, { lineage, sequence, now });
    this.#waiting = rest;
    this.#waitingBytes = bytesOf(rest);
    this.#flushAsked &&= rest.length > 0;
    return { sequence, ...cut, attempts: 0, startedAt: now };
  }

  #highWaterByPartition(): Record<string, string> {
    return Object.fromEntries([...this.#highWater].map(([key, offset]) => [key, String(offset)]));
  }

  #freshOf(chunk: RevisionChunk): FactRevision[] {
    const through = this.#highWater.get(partitionKey(chunk)) ?? -1n;
    return chunk.revisions.filter(({ position }) => BigInt(position.offset) > through);
  }

  #fullness(revisions: number, revisionsBytes: number): string | null {
    const { bufferEditsMax, bufferBytesMax } = this.#settings.batch;
    const waiting = this.#waiting.length;
    if (waiting + revisions > bufferEditsMax)
      return `${waiting} revisions wait and ${revisions} more would pass ${bufferEditsMax}`;
    const bytes = this.#waitingBytes + revisionsBytes;
    const bytesMax = Math.min(bufferBytesMax, BUFFER_BYTES_CEILING);
    return bytes > bytesMax ? `${bytes} bytes would wait, at most ${bytesMax} may` : null;
  }
}

function bytesOf(waiting: readonly Waiting[]): number {
  return waiting.reduce((sum, { bytes }) => sum + bytes, 0);
}
