/** The undos of a lineage: waiting ones, the running one, and the last results. */
import type { UndoResult } from '../../schemas/undo.ts';
import {
  UNDOS_FULL,
  UNDOS_REMEMBERED_MAX,
  UNDOS_WAITING_MAX,
  UNDO_UNSOUND,
  undoWorkflowId,
  type LineageStatus,
  type UndoAccepted,
  type UndoEnded,
  type UndoOrder,
  type UndoSummary,
} from './contract.ts';
import { undoFaultOf } from './message-faults.ts';

const REASON_CHARACTERS_MAX = 1_000;

export class UndoQueue {
  #running: UndoOrder | null = null;
  #dueAt = 0;

  constructor(
    private readonly lineage: string,
    private waiting: UndoOrder[],
    private ended: UndoEnded[],
  ) {}

  get isRunning(): boolean {
    return this.#running !== null;
  }

  /** When the oldest undo may start; null if none waits. */
  get dueAt(): number | null {
    return this.waiting.length === 0 ? null : this.#dueAt;
  }

  get carried(): { undos: UndoOrder[]; undone: UndoEnded[] } {
    return { undos: this.waiting, undone: this.ended };
  }

  /** Returns the reason to refuse an undo, or null; a known one is accepted without effect. */
  refusalOf(order: UndoOrder) {
    const fault = undoFaultOf(order);
    if (fault !== null) return { type: UNDO_UNSOUND, message: fault };
    if (this.#isKnown(order.request.id) || this.waiting.length < UNDOS_WAITING_MAX) return null;
    return { type: UNDOS_FULL, message: `${this.waiting.length} undos wait already` };
  }

  accept(order: UndoOrder): UndoAccepted {
    const { id } = order.request;
    const workflowId = undoWorkflowId(this.lineage, id);
    if (this.#isKnown(id)) {
      const before = this.waiting.findIndex(({ request }) => request.id === id);
      return { workflowId, waiting: Math.max(0, before), known: true };
    }
    this.waiting.push(order);
    return { workflowId, waiting: this.waiting.length - 1, known: false };
  }

  /**
   * Takes an undo whose sender does not wait for an answer. A refused one is remembered as failed,
   * so that its status gives the reason.
   */
  acceptUnanswered(order: UndoOrder, now: number): void {
    const refusal = this.refusalOf(order);
    if (refusal === null) this.accept(order);
    else if (refusal.type === UNDOS_FULL)
      this.#remember(order, { kind: 'failed', version: null, reason: refusal.message }, now);
  }

  /** Takes the oldest undo. Call it when one is due. */
  start(): UndoOrder {
    return (this.#running = this.waiting.shift()!);
  }

  settled(result: UndoResult, now: number): void {
    const { kind } = result;
    if (kind === 'undone') return this.#end({ kind, version: result.version, reason: null }, now);
    const reason = kind === 'nothing' ? result.reason : result.reasons.join('; ');
    this.#end({ kind, version: null, reason: reason.slice(0, REASON_CHARACTERS_MAX) }, now);
  }

  /** Handles an undo's workflow that ended without a result; the same id may be sent again. */
  failed(reason: string, now: number): void {
    this.#end({ kind: 'failed', version: null, reason }, now);
  }

  /** Waits for an earlier run's workflow of the undo. */
  busy(dueAt: number): void {
    this.waiting.unshift(this.#running!);
    this.#running = null;
    this.#dueAt = dueAt;
  }

  status(): LineageStatus['undos'] {
    const summaryOf = ({ request }: UndoOrder): UndoSummary => ({
      ...request,
      workflowId: undoWorkflowId(this.lineage, request.id),
    });
    return {
      running: this.#running === null ? null : summaryOf(this.#running),
      waiting: this.waiting.map(summaryOf),
      ended: this.ended,
    };
  }

  #isKnown(id: string): boolean {
    const underWay = this.#running === null ? this.waiting : [this.#running, ...this.waiting];
    return (
      underWay.some(({ request }) => request.id === id) ||
      this.ended.some((ended) => ended.id === id && ended.kind !== 'failed')
    );
  }

  #end(how: Pick<UndoEnded, 'kind' | 'version' | 'reason'>, now: number): void {
    const order = this.#running!;
    this.#running = null;
    this.#remember(order, how, now);
  }

  #remember(
    { request: { id, target, requestedBy } }: UndoOrder,
    how: Pick<UndoEnded, 'kind' | 'version' | 'reason'>,
    endedAt: number,
  ): void {
    const others = this.ended.filter((ended) => ended.id !== id);
    this.ended = [...others, { id, target, requestedBy, ...how, endedAt }].slice(
      -UNDOS_REMEMBERED_MAX,
    );
  }
}
