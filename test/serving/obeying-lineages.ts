/** Lineage workflows that do as they are ordered, and note it; `away`: Temporal does not answer. */
import type { LineageWorkflows, UndoOrder } from '../../operations/undo.ts';
import type { LineageSettings } from '../../schemas/settings.ts';

export class ObeyingLineages implements LineageWorkflows {
  readonly orders: string[] = [];
  readonly undos: UndoOrder[] = [];
  away = false;
  refuses: string | null = null;

  /** `running` is the id of an undo that runs already. */
  constructor(private readonly running?: string) {}

  async freeze(lineage: string, reason: string): Promise<void> {
    this.#answer();
    this.orders.push(`freeze ${lineage}: ${reason}`);
  }

  async resume(lineage: string): Promise<void> {
    this.#answer();
    this.orders.push(`resume ${lineage}`);
  }

  async undo(
    lineage: string,
    _: LineageSettings,
    order: UndoOrder,
  ): ReturnType<LineageWorkflows['undo']> {
    this.#answer();
    if (this.refuses !== null) return { kind: 'refused', type: 'UndosFull', message: this.refuses };
    this.undos.push(order);
    const workflowId = `undo/${lineage}/${order.request.id}`;
    return { kind: 'taken', workflowId, waiting: 0, known: false };
  }

  async undoProgress(_: string, id: string): ReturnType<LineageWorkflows['undoProgress']> {
    this.#answer();
    return id === this.running || this.undos.some(({ request }) => request.id === id)
      ? { kind: 'running' }
      : { kind: 'unknown' };
  }

  async status(): Promise<null> {
    this.#answer();
    return null;
  }

  #answer(): void {
    if (this.away) throw new Error('Temporal does not answer');
  }
}
