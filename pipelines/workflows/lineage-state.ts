/**
 * All that a lineage workflow knows, and what it decides. No waiting and no calls: the workflow
 * does those. Times are milliseconds since 1970 by the workflow's clock.
 */
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import type { HeadReference, Outcome } from '../../schemas/editing.ts';
import {
  FAILURES_BEFORE,
  type FailureSettings,
  type LineageSettings,
} from '../../schemas/settings.ts';
import type { UndoResult } from '../../schemas/undo.ts';
import type { Alert } from '../../schemas/alert.ts';
import { topicsOf } from '../kafka/topics.ts';
import { batchIdOf } from './batch-id.ts';
import { cutBatch, type Settled, type Waiting } from './buffer.ts';
import {
  BATCH_BYTES_MAX,
  BUFFER_BYTES_CEILING,
  BUFFER_FULL,
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  CHUNK_UNSOUND,
  RECORDS_MISSING,
  TOPIC_RECREATED,
  UNDOS_FULL,
  UNDOS_REMEMBERED_MAX,
  UNDOS_WAITING_MAX,
  UNDO_UNSOUND,
  batchWorkflowId,
  noOutcomes,
  partitionKey,
  undoWorkflowId,
  type Acceptance,
  type Carried,
  type CutBatch,
  type EditBatchResult,
  type Frozen,
  type LineageInput,
  type LineageStatus,
  type OutcomeCounts,
  type RevisionChunk,
  type UndoAccepted,
  type UndoEnded,
  type UndoOrder,
  type UndoSummary,
} from './contract.ts';
import { jsonBytes } from './json-size.ts';
import { undoFaultOf } from './undo-order.ts';

/** Before it is looked again whether what an earlier run left at work has ended. */
export const BUSY_WAIT_MS = 2_000;
/** Alerts that wait to be told; of more the oldest are dropped. */
export const ALERTS_WAITING_MAX = 20;

/** What the lineage does next, and when (milliseconds since 1970). */
export interface NextStep {
  kind: 'undo' | 'batch';
  dueAt: number;
}

export interface UndoRefusal {
  type: typeof UNDOS_FULL | typeof UNDO_UNSOUND;
  message: string;
}

export interface ChunkRefusal {
  type: typeof BUFFER_FULL | typeof CHUNK_UNSOUND | typeof TOPIC_RECREATED | typeof RECORDS_MISSING;
  message: string;
  /** The last offset of the partition that is the lineage's, where that is why. */
  throughOffset?: string;
}

export class LineageState {
  readonly lineage: string;
  #settings: LineageSettings;
  #waiting: Waiting[];
  #waitingBytes: number;
  #held: CutBatch | null;
  #running = false;
  #retryAt = 0;
  #highWater: Map<string, bigint>;
  #nextSequence: number;
  #head: HeadReference | null;
  #outcomes: OutcomeCounts;
  #flushAsked: boolean;
  #frozen: Frozen | null;
  #undos: UndoOrder[];
  #undoRunning: UndoOrder | null = null;
  #undoAt = 0;
  #undone: UndoEnded[];
  #alerts: Alert[] = [];

  constructor(input: Pick<LineageInput, 'lineage' | 'settings' | 'carried'>) {
    const { carried } = input;
    this.lineage = input.lineage;
    this.#settings = input.settings;
    this.#waiting = carried?.waiting ?? [];
    this.#waitingBytes = this.#waiting.reduce((sum, item) => sum + item.bytes, 0);
    this.#held = carried?.held ?? null;
    this.#highWater = new Map(
      Object.entries(carried?.highWater ?? {}).map(([partition, offset]) => [
        partition,
        BigInt(offset),
      ]),
    );
    this.#nextSequence = carried?.nextSequence ?? 0;
    this.#head = carried?.head ?? null;
    this.#outcomes = carried?.outcomes ?? noOutcomes();
    this.#flushAsked = carried?.flushAsked ?? false;
    this.#frozen = carried?.frozen ?? null;
    this.#undos = carried?.undos ?? [];
    this.#undone = carried?.undone ?? [];
  }

  /**
   * Why a chunk is not taken now by this run, or null. An empty buffer takes any sound chunk, so
   * that nothing is refused for ever.
   *
   * What a run took is given to it again when the workflow is reset, and a refusal then would leave
   * a history that cannot be replayed. So for want of room it refuses only who knows this run: that
   * is nobody before a reset.
   */
  refusalOf(chunk: RevisionChunk, run: string): ChunkRefusal | null {
    const chunkBytes = jsonBytes(chunk);
    const fault = this.#faultOf(chunk, chunkBytes);
    if (fault !== null) return { type: CHUNK_UNSOUND, message: fault };
    const highWater = this.#highWater.get(partitionKey(chunk));
    if (highWater !== undefined && highWater >= BigInt(chunk.endOffset)) {
      // Taken for redelivered, its records would be dropped without a word.
      return {
        type: TOPIC_RECREATED,
        message: `offset ${highWater} was taken before, and the partition ends at ${chunk.endOffset}: was the topic made anew? Then forgetPositions lets its records in`,
      };
    }
    const through = highWater ?? -1n;
    if (chunk.readFrom !== undefined && through + 1n < BigInt(chunk.readFrom)) {
      // Taken, it would hide that they were lost, to a reset or with an earlier workflow.
      return {
        type: RECORDS_MISSING,
        message: `what was taken ends at offset ${through}, and the chunk follows offset ${BigInt(chunk.readFrom) - 1n}`,
        throughOffset: String(through),
      };
    }
    const fresh = this.#freshOf(chunk);
    if (fresh.length === 0 || this.#waiting.length === 0 || chunk.run !== run) return null;
    const { bufferEditsMax } = this.#settings.batch;
    if (this.#waiting.length + fresh.length > bufferEditsMax) {
      return {
        type: BUFFER_FULL,
        message: `${this.#waiting.length} revisions wait and ${fresh.length} more would pass ${bufferEditsMax}`,
      };
    }
    const bytes =
      this.#waitingBytes +
      (fresh.length === chunk.revisions.length ? chunkBytes : jsonBytes(fresh));
    if (bytes > this.#bufferBytesMax)
      return {
        type: BUFFER_FULL,
        message: `${bytes} bytes would wait, at most ${this.#bufferBytesMax} may`,
      };
    return null;
  }

  /** Takes what of the chunk was not taken before. */
  accept(chunk: RevisionChunk, now: number): Acceptance {
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

  /** The next batch starts without waiting for size or age. */
  flush(): void {
    this.#flushAsked = this.#waiting.length > 0;
  }

  /** No batch starts until `resume`; what runs is finished and the buffer fills. */
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

  /**
   * After the topic was made anew its offsets begin again. What was taken from the old one stays.
   */
  forgetPositions(): void {
    this.#highWater.clear();
  }

  /**
   * Why an undo is not taken, or null. One that the lineage has, or had lately, is taken again and
   * not done again.
   */
  undoRefusalOf(order: UndoOrder): UndoRefusal | null {
    const fault = undoFaultOf(order);
    if (fault !== null) return { type: UNDO_UNSOUND, message: fault };
    if (this.#isKnown(order.request.id) || this.#undos.length < UNDOS_WAITING_MAX) return null;
    return { type: UNDOS_FULL, message: `${this.#undos.length} undos wait already` };
  }

  acceptUndo(order: UndoOrder): UndoAccepted {
    const { id } = order.request;
    const workflowId = undoWorkflowId(this.lineage, id);
    if (this.#isKnown(id))
      return {
        workflowId,
        waiting: Math.max(
          0,
          this.#undos.findIndex(({ request }) => request.id === id),
        ),
        known: true,
      };
    this.#undos.push(order);
    return { workflowId, waiting: this.#undos.length - 1, known: false };
  }

  /**
   * An undo that nobody waits to hear about: one that is refused is remembered as failed, so that
   * its status says why.
   */
  leaveUndo(order: UndoOrder, now: number): void {
    const refusal = this.undoRefusalOf(order);
    if (refusal === null) this.acceptUndo(order);
    else if (refusal.type === UNDOS_FULL)
      this.#remember({
        id: order.request.id,
        target: order.request.target,
        requestedBy: order.request.requestedBy,
        kind: 'failed',
        version: null,
        reason: refusal.message,
        endedAt: now,
      });
  }

  /**
   * What is to be done next; null: nothing before something comes in or an operator speaks. While
   * nothing happens it stays the same, whatever time it is. Undos go first, and also while the
   * lineage is frozen: that stops batches, not operators.
   */
  nextStep(): NextStep | null {
    if (this.#running || this.#undoRunning !== null) return null;
    if (this.#undos.length > 0) return { kind: 'undo', dueAt: this.#undoAt };
    const dueAt = this.#batchDueAt();
    return dueAt === null ? null : { kind: 'batch', dueAt };
  }

  /** Takes the undo that waits longest. Call when it is due. */
  startUndo(): UndoOrder {
    return (this.#undoRunning = this.#undos.shift()!);
  }

  undoSettled(result: UndoResult, now: number): void {
    if (result.kind === 'undone') this.#head = { version: result.version, hash: result.hash };
    this.#undoEnded(
      {
        kind: result.kind,
        version: result.kind === 'undone' ? result.version : null,
        reason: whyNot(result),
      },
      now,
    );
  }

  /** The undo's workflow ended without a result: who asked for it may ask again. */
  undoFailed(reason: string, now: number): void {
    this.#undoEnded({ kind: 'failed', version: null, reason }, now);
  }

  /** The undo's workflow of an earlier run is still at work: wait for it. */
  undoBusy(now: number): void {
    this.#undos.unshift(this.#undoRunning!);
    this.#undoRunning = null;
    this.#undoAt = now + BUSY_WAIT_MS;
  }

  /** Cuts the next batch, or takes the held one again. Call when it is due. */
  startBatch(now: number): CutBatch {
    const batch = this.#held ?? this.#cut(now);
    batch.attempts++;
    this.#held = batch;
    this.#running = true;
    return batch;
  }

  batchSettled(result: EditBatchResult, now: number): void {
    const batch = this.#held!;
    this.#held = null;
    this.#running = false;
    if (result.head !== null) this.#head = result.head;
    for (const [status, count] of Object.entries(result.outcomes))
      this.#outcomes[status as keyof OutcomeCounts] += count;
    const { quarantinedMax } = this.failures;
    const { QUARANTINED: quarantined } = result.outcomes;
    if (batch.givenUp !== undefined)
      this.#alert(
        'quarantined',
        `batch ${batch.batchId} was given up and ${quarantined} of its revisions quarantined: ${batch.givenUp}`,
        batch,
        now,
      );
    if (quarantinedMax > 0 && quarantined > quarantinedMax)
      this.#freezeOver(
        batch,
        `${quarantined} revisions of batch ${batch.batchId} were quarantined, and the lineage freezes past ${quarantinedMax}`,
        now,
      );
  }

  /**
   * The batch's workflow ended without settling it: it is kept whole and tried again. When its
   * tries are used up the lineage is frozen, or its revisions are quarantined, which is one try
   * more; when that fails as well it is frozen.
   */
  batchFailed(reason: string, now: number): void {
    this.#running = false;
    const batch = this.#held!;
    const { batchAttemptsMax, retryWaitMs, whenUsedUp } = this.failures;
    this.#retryAt = now + retryWaitMs * batch.attempts;
    if (batch.attempts < batchAttemptsMax)
      return this.#alert(
        'batch-failed',
        `batch ${batch.batchId} failed, try ${batch.attempts} of ${batchAttemptsMax}: ${reason}`,
        batch,
        now,
      );
    if (whenUsedUp === 'quarantine' && batch.givenUp === undefined) {
      batch.givenUp = `its batch failed ${batch.attempts} times: ${reason}`;
      return this.#alert(
        'batch-failed',
        `batch ${batch.batchId} failed ${batch.attempts} times and is given up: ${reason}`,
        batch,
        now,
      );
    }
    this.#freezeOver(
      batch,
      `batch ${batch.batchId} failed ${batch.attempts} times: ${reason}`,
      now,
    );
  }

  /**
   * The batch's workflow of an earlier run is still at work: wait for it without counting an
   * attempt.
   */
  batchBusy(now: number): void {
    this.#running = false;
    this.#held!.attempts--;
    this.#retryAt = now + BUSY_WAIT_MS;
  }

  /** The alert that waits longest, which is taken off; null where none waits. */
  takeAlert(): Alert | null {
    return this.#alerts.shift() ?? null;
  }

  get alertsWait(): boolean {
    return this.#alerts.length > 0;
  }

  get failures(): FailureSettings {
    return this.#settings.failures ?? FAILURES_BEFORE;
  }

  get settings(): LineageSettings {
    return this.#settings;
  }

  /** Whether a batch or an undo is under way. */
  get isAtWork(): boolean {
    return this.#running || this.#undoRunning !== null;
  }

  get headVersion(): number | null {
    return this.#head?.version ?? null;
  }

  status(): LineageStatus {
    const batch = this.#running ? this.#held : null;
    return {
      lineage: this.lineage,
      waiting: this.#waiting.length + (this.#running ? 0 : (this.#held?.revisions.length ?? 0)),
      waitingBytes: this.#waitingBytes,
      waitingSince: this.#waiting[0]?.arrivedAt ?? null,
      running:
        batch === null
          ? null
          : {
              batchId: batch.batchId,
              workflowId: batchWorkflowId(this.lineage, batch.sequence),
              revisions: batch.revisions.length,
              startedAt: batch.startedAt,
              attempts: batch.attempts,
            },
      head: this.#head,
      highWater: Object.fromEntries(
        [...this.#highWater].map(([partition, offset]) => [partition, String(offset)]),
      ),
      outcomes: { ...this.#outcomes },
      batches: this.#nextSequence,
      frozen: this.#frozen,
      held:
        this.#running || this.#held === null
          ? null
          : {
              batchId: this.#held.batchId,
              workflowId: batchWorkflowId(this.lineage, this.#held.sequence),
              revisions: this.#held.revisions.length,
              attempts: this.#held.attempts,
            },
      undos: {
        running: this.#undoRunning === null ? null : this.#summaryOf(this.#undoRunning),
        waiting: this.#undos.map((order) => this.#summaryOf(order)),
        ended: this.#undone,
      },
      settings: this.#settings,
    };
  }

  carried(): { settings: LineageSettings; carried: Carried } {
    return {
      settings: this.#settings,
      carried: {
        waiting: this.#waiting,
        held: this.#held,
        highWater: this.status().highWater,
        nextSequence: this.#nextSequence,
        head: this.#head,
        outcomes: this.#outcomes,
        flushAsked: this.#flushAsked,
        frozen: this.#frozen,
        ...(this.#undos.length === 0 ? {} : { undos: this.#undos }),
        ...(this.#undone.length === 0 ? {} : { undone: this.#undone }),
      },
    };
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

  #isKnown(id: string): boolean {
    // One that failed may be asked for again under its id.
    return (
      [...this.#undos, ...(this.#undoRunning === null ? [] : [this.#undoRunning])].some(
        ({ request }) => request.id === id,
      ) || this.#undone.some((ended) => ended.id === id && ended.kind !== 'failed')
    );
  }

  #undoEnded(how: Pick<UndoEnded, 'kind' | 'version' | 'reason'>, now: number): void {
    const { id, target, requestedBy } = this.#undoRunning!.request;
    this.#undoRunning = null;
    this.#remember({ id, target, requestedBy, ...how, endedAt: now });
  }

  #remember(ended: UndoEnded): void {
    this.#undone = [...this.#undone.filter(({ id }) => id !== ended.id), ended].slice(
      -UNDOS_REMEMBERED_MAX,
    );
  }

  #summaryOf({ request }: UndoOrder): UndoSummary {
    return { ...request, workflowId: undoWorkflowId(this.lineage, request.id) };
  }

  #freezeOver(batch: CutBatch, reason: string, now: number): void {
    this.freeze(reason, now);
    this.#alert('frozen', reason, batch, now);
  }

  #alert(kind: Alert['kind'], reason: string, batch: CutBatch, now: number): void {
    if (!this.failures.alert) return;
    const id = `${this.lineage}/${batch.batchId}/${batch.attempts}/${kind}`;
    this.#alerts.push({
      id,
      kind,
      lineage: this.lineage,
      reason,
      batchId: batch.batchId,
      workflowId: batchWorkflowId(this.lineage, batch.sequence),
      at: now,
    });
    this.#alerts = this.#alerts.slice(-ALERTS_WAITING_MAX);
  }

  #cut(now: number): CutBatch {
    const cut = cutBatch(this.#waiting, {
      editsMax: this.#settings.batch.batchEditsMax,
      bytesMax: BATCH_BYTES_MAX,
    });
    this.#waiting = cut.rest;
    this.#waitingBytes = cut.rest.reduce((sum, item) => sum + item.bytes, 0);
    this.#flushAsked &&= this.#waiting.length > 0;
    const sequence = this.#nextSequence++;
    const batchId = batchIdOf(sequence, [
      ...cut.revisions,
      ...cut.settled.map((item) => item.revision),
    ]);
    const settled = cut.settled.map((item) => outcomeOf(item, this.lineage, batchId, now));
    return { sequence, batchId, revisions: cut.revisions, settled, attempts: 0, startedAt: now };
  }

  #freshOf(chunk: RevisionChunk): FactRevision[] {
    const highWater = this.#highWater.get(partitionKey(chunk));
    return highWater === undefined
      ? chunk.revisions
      : chunk.revisions.filter((revision) => BigInt(revision.position.offset) > highWater);
  }

  #faultOf(chunk: RevisionChunk, bytes: number): string | null {
    const topic = topicsOf(this.lineage).corrections;
    if (chunk.topic !== topic) return `records of ${chunk.topic} do not belong to this lineage`;
    if (chunk.revisions.length > CHUNK_REVISIONS_MAX)
      return `${chunk.revisions.length} revisions in one chunk, at most ${CHUNK_REVISIONS_MAX} are allowed`;
    if (bytes > CHUNK_BYTES_MAX && chunk.revisions.length > 1)
      return `${bytes} bytes in one chunk, at most ${CHUNK_BYTES_MAX} are allowed`;
    let previous = BigInt(chunk.firstOffset) - 1n;
    for (const { position } of chunk.revisions) {
      const offset = BigInt(position.offset);
      if (position.topic !== chunk.topic || position.partition !== chunk.partition)
        return `offset ${position.offset} is of another partition`;
      if (offset <= previous || offset > BigInt(chunk.throughOffset))
        return `offset ${position.offset} is out of order`;
      previous = offset;
    }
    return null;
  }

  get #bufferBytesMax(): number {
    return Math.min(this.#settings.batch.bufferBytesMax, BUFFER_BYTES_CEILING);
  }
}

const REASON_CHARACTERS_MAX = 1_000;

function whyNot(result: UndoResult): string | null {
  if (result.kind === 'undone') return null;
  return (result.kind === 'nothing' ? result.reason : result.reasons.join('; ')).slice(
    0,
    REASON_CHARACTERS_MAX,
  );
}

function outcomeOf(settled: Settled, lineage: string, batchId: string, now: number): Outcome {
  const { revision } = settled;
  const base = {
    lineage,
    revisionId: revisionId(revision),
    factKey: revision.factKey,
    version: null,
    position: revision.position,
    batchId,
    decidedAt: now,
  };
  switch (settled.kind) {
    case 'duplicate': {
      const { partition, offset } = settled.of.position;
      return {
        ...base,
        status: 'DUPLICATE',
        reason: `the record at partition ${partition}, offset ${offset} has the same id`,
        measured: { code: 'duplicate' },
      };
    }
    case 'superseded':
      return {
        ...base,
        status: 'SUPERSEDED',
        reason: `superseded by ${revisionId(settled.by)} before it was edited`,
        measured: { code: 'superseded', by: revisionId(settled.by) },
      };
  }
}
