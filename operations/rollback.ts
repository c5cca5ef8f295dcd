/**
 * Rolls a lineage back. First the alias `stable` is moved in the version log, so that serving is
 * safe even if everything else is down. Then the lineage is frozen, if requested, and an undo is
 * ordered that releases the alias at its end.
 */
import { rollbackMoveId, type UndoOrder } from '../pipelines/workflows/contract.ts';
import { STABLE_ALIAS } from '../schemas/alias.ts';
import type { UndoRequest } from '../schemas/undo.ts';
import type { VersionLog } from '../versions/log/version-log.ts';
import { moveAlias, type AliasMoved } from './alias.ts';
import { freezeLineage } from './freeze.ts';
import type { OperatedLineage } from './undo.ts';

/** Serves the version from now on. A repetition after its undo has no effect. */
export async function pinStable(
  log: VersionLog,
  { id, reason, requestedBy: by }: UndoRequest,
  version: number,
): Promise<AliasMoved> {
  return await moveAlias(log, {
    alias: STABLE_ALIAS,
    version,
    reason: reason === '' ? `rollback to version ${version}` : reason,
    by,
    id: rollbackMoveId(id),
  });
}

/** Tells whether the alias is still where this rollback moved it. */
export async function isPinned(log: VersionLog, { id }: UndoRequest): Promise<boolean> {
  return (await log.aliases()).current.get(STABLE_ALIAS)?.id === rollbackMoveId(id);
}

export async function freezeForRollback(
  lineage: OperatedLineage,
  { reason, requestedBy: by }: UndoRequest,
  version: number,
): Promise<void> {
  const name = `rollback to version ${version}`;
  await freezeLineage(lineage, { reason: reason === '' ? name : `${name}: ${reason}`, by });
}

/** Returns the undo of a rollback, which releases the alias unless it is to be kept. */
export function rollbackOrder(request: UndoRequest, keepAlias: boolean): UndoOrder {
  return { request, releaseAlias: keepAlias ? null : STABLE_ALIAS };
}
