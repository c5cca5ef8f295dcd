import { revisionId, type FactRevision } from '../../schemas/correction.ts';

/**
 * Names a batch by its number in the lineage and a digest of its content (64-bit FNV-1a over ids
 * and positions).
 *
 * The version log makes a repeated commit a no-op by this name. Batches of different content must
 * therefore never share one, even after Temporal's data was lost and the numbers begin again at 0,
 * or after a reset that cuts the buffer elsewhere.
 */
export function batchIdOf(sequence: number, revisions: readonly FactRevision[]): string {
  return `${String(sequence).padStart(6, '0')}-${digestOf(revisions)}`;
}

/** Names a part of a batch that is tried separately. */
export function partIdOf(batchId: string, revisions: readonly FactRevision[]): string {
  return `${batchId.split('.')[0]}.${digestOf(revisions)}`;
}

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

function digestOf(revisions: readonly FactRevision[]): string {
  const names = revisions
    .map((revision) => {
      const { topic, partition, offset } = revision.position;
      return `${revisionId(revision)}\0${topic}\0${partition}\0${offset}`;
    })
    .sort();
  let hash = FNV_OFFSET;
  for (const byte of new TextEncoder().encode(names.join('\n')))
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
  return hash.toString(16).padStart(16, '0');
}
