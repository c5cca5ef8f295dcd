/** Moves an alias of a lineage. */
import type { AliasMove, AliasMoved } from '../schemas/alias.ts';
import type { Versions } from '../versions/versions.ts';

export async function moveAlias(
  versions: Versions,
  { lineage, ...move }: { lineage: string } & AliasMove,
): Promise<AliasMoved> {
  return await versions.log(lineage).moveAlias(move);
}
