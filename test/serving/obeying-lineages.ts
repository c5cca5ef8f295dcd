/** Lineages that do what they are told, and note it; `away` is a Temporal that does not answer. */
import { rollbackMoveId } from '../../pipelines/workflows/contract.ts';
import type { UndoRequest } from '../../schemas/undo.ts';
import {
  OperationsUnavailable,
  type Operations,
  type UndoState,
} from '../../serving/api/operations.ts';

export class ObeyingLineages implements Operations {
  readonly told: string[] = [];
  readonly undos: { request: UndoRequest; releaseAlias: string | null }[] = [];
  away = false;
  refuses: string | null = null;
  readonly rollbackMoveId = rollbackMoveId;

  async freeze(lineage: string, reason: string): Promise<void> {
    this.#answer();
    this.told.push(`freeze ${lineage}: ${reason}`);
  }

  async resume(lineage: string): Promise<void> {
    this.#answer();
    this.told.push(`resume ${lineage}`);
  }

  async undo(
    lineage: string,
    request: UndoRequest,
    releaseAlias: string | null,
  ): ReturnType<Operations['undo']> {
    this.#answer();
    if (this.refuses !== null) return { kind: 'refused', reason: this.refuses };
    this.undos.push({ request, releaseAlias });
    return { kind: 'taken', workflowId: `undo/${lineage}/${request.id}`, waiting: 0 };
  }

  async undoState(_: string, id: string): Promise<UndoState> {
    this.#answer();
    return id === 'u1' || this.undos.some(({ request }) => request.id === id)
      ? { state: 'running' }
      : { state: 'unknown' };
  }

  #answer(): void {
    if (this.away) throw new OperationsUnavailable('Temporal does not answer');
  }
}
