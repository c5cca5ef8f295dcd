/** Moves an alias by a record in the version log; needs neither Kafka nor Temporal. */
import type { AliasRecord } from '../schemas/alias.ts';
import type { VersionLog } from '../versions/log/version-log.ts';
import type { Authorship } from './undo.ts';

export type AliasMoved =
  { kind: 'moved'; record: AliasRecord } | { kind: 'refused'; reason: string };

/**
 * Moves an alias to a version, or to HEAD if `version` is null. Repeating a move with the same id
 * has no effect.
 */
export async function moveAlias(
  log: VersionLog,
  move: Authorship & { alias: string; version: number | null; id: string },
): Promise<AliasMoved> {
  const moved = await log.moveAlias(move);
  return moved.kind === 'overtaken'
    ? { kind: 'refused', reason: 'another moved the alias' }
    : moved;
}
