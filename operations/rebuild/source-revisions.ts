/**
 * The revisions that an entry and its searches name, as they are in the log: whom a rebuild hands
 * to the steps.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
  type KafkaPosition,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import type { BlobReference, Removal, TargetSearch } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { VersionLogDamaged } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import { type VersionLog } from '../../versions/log/version-log.ts';
import { blobName, sha256 } from '../../versions/log/object-names.ts';

export interface NamedSearch {
  /** Names the search, whoever asks for it. */
  sha256: string;
  search: TargetSearch;
}

/**
 * The searches that the entry names; null for one of before they were kept. Throws
 * `VersionLogDamaged`, `BlobMissing`.
 */
export async function searchesOf(
  log: VersionLog,
  entry: VersionEntry,
): Promise<NamedSearch[] | null> {
  if (entry.searches === undefined) return null;
  return await Promise.all(
    entry.searches.map(async (reference) => ({
      sha256: reference.sha256,
      search: await searchAt(log, reference),
    })),
  );
}

async function searchAt(log: VersionLog, reference: BlobReference): Promise<TargetSearch> {
  const bytes = await log.blobs.get(reference);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as TargetSearch;
  } catch (fault) {
    throw new VersionLogDamaged(
      log.lineage,
      blobName(log.lineage, reference.sha256),
      fault instanceof Error ? fault.message : String(fault),
    );
  }
}

/** What the entry added, in its order. */
export function addedRevisions(entry: VersionEntry): CorrectionRevision[] {
  return entry.added.map((added) => revisionOf(added, entry.lineage));
}

export function revisionOf(
  added: VersionEntry['added'][number],
  lineage: string,
): CorrectionRevision {
  const {
    correctionId: id,
    factKey,
    position,
    subject,
    relation,
    prompt,
    target,
    previousAnswer,
    paraphrases,
    neighbourhood,
    source,
    issuedAt,
    replayOf,
  } = added;
  return {
    kind: 'correction',
    factKey,
    position,
    correction: {
      id,
      lineage,
      subject,
      relation,
      prompt,
      target,
      previousAnswer,
      paraphrases,
      neighbourhood,
      source,
      issuedAt,
      ...(replayOf === undefined ? {} : { replayOf }),
    },
  };
}

export function retractionsOf(entry: VersionEntry): RetractionRevision[] {
  return entry.retractions.map((retraction) => ({ kind: 'retraction', ...retraction }));
}

/** What the entry removed, as the steps take it; what does not hold is left out. */
export function removalsOf(entry: VersionEntry, before: History): Removal[] {
  return entry.removed.flatMap(({ correctionId, factKey, because, by }) => {
    const active = before.active.get(correctionId);
    return active === undefined
      ? []
      : [{ correctionId, factKey, because, by, position: active.position }];
  });
}

/**
 * What a record says, without where it stands and which lineage it was sent to; equal for two that
 * say the same.
 */
export function wordsOf(revision: FactRevision): string {
  if (revision.kind === 'retraction')
    return sha256(canonicalJson({ factKey: revision.factKey, issuedAt: revision.issuedAt }));
  const { lineage: _lineage, ...words } = revision.correction;
  return sha256(canonicalJson(words));
}

export function placeOf({ topic, partition, offset }: KafkaPosition): string {
  return `${topic}-${partition}@${offset}`;
}

/** Each record once, in order. */
export function distinct<Revision extends FactRevision>(
  revisions: readonly Revision[],
): Revision[] {
  return [
    ...new Map(
      revisions.map((revision) => [
        `${placeOf(revision.position)} ${revisionId(revision)}`,
        revision,
      ]),
    ).values(),
  ];
}
