/** Reads the revisions that an entry and its searches name, as input of a rebuild's steps. */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import type { BlobReference, Removal, TargetSearch } from '../../schemas/editing.ts';
import { messageOf } from '../../schemas/failures.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { VersionLogDamaged } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import { blobName, sha256 } from '../../versions/log/object-names.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { placeOf } from '../record-places.ts';

/** Reads the searches of an entry. Throws `VersionLogDamaged`, `BlobMissing`. */
export async function searchesOf(log: VersionLog, { searches }: VersionEntry) {
  return await Promise.all(
    searches.map(async (reference) => {
      const { sha256 } = reference;
      return { sha256, search: await readSearch(log, reference) };
    }),
  );
}

async function readSearch(log: VersionLog, reference: BlobReference): Promise<TargetSearch> {
  const bytes = await log.blobs.get(reference);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as TargetSearch;
  } catch (fault) {
    const name = blobName(log.lineage, reference.sha256);
    throw new VersionLogDamaged(log.lineage, name, messageOf(fault));
  }
}

/** Returns the corrections that the entry added, in its order. */
export function addedRevisions({ added, lineage }: VersionEntry): CorrectionRevision[] {
  return added.map((one) => revisionOf(one, lineage));
}

export function revisionOf(
  { correctionId: id, factKey, position, row: _row, origin: _origin, ...stated }: Added,
  lineage: string,
): CorrectionRevision {
  const correction = { id, lineage, ...stated } as CorrectionRevision['correction'];
  return { kind: 'correction', factKey, position, correction };
}

type Added = VersionEntry['added'][number];

export function retractionsOf(entry: VersionEntry): RetractionRevision[] {
  return entry.retractions.map((retraction) => ({ kind: 'retraction', ...retraction }));
}

/** Returns the entry's removals, in the form that the steps take. */
export function removalsOf(entry: VersionEntry, before: History): Removal[] {
  return entry.removed.flatMap((removed) => {
    const active = before.active.get(removed.correctionId);
    return active === undefined ? [] : [{ ...removed, position: active.position }];
  });
}

/** Returns a hash of a record's statement, ignoring its position and lineage. */
export function contentHash(revision: FactRevision): string {
  if (revision.kind === 'retraction')
    return sha256(canonicalJson({ factKey: revision.factKey, issuedAt: revision.issuedAt }));
  const { lineage: _lineage, ...stated } = revision.correction;
  return sha256(canonicalJson(stated));
}

/** Returns each record once, in order. */
export function distinct<Revision extends FactRevision>(
  revisions: readonly Revision[],
): Revision[] {
  const nameOf = (revision: Revision): string =>
    `${placeOf(revision.position)} ${revisionId(revision)}`;
  return [...new Map(revisions.map((revision) => [nameOf(revision), revision])).values()];
}
