import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { StoredEntry } from '../log/history.ts';
import type { VersionLog } from '../log/version-log.ts';

export interface VersionMark {
  version: number;
  hash: string;
  createdAt: string;
  batchId: string;
  workflow: VersionEntry['workflow'];
  /** The operator's undo that made the version. */
  undo: { id: string; reason: string; requestedBy: string } | null;
}

export function markOf({ entry, hash }: StoredEntry): VersionMark {
  const { version, createdAt, batchId, workflow, undo } = entry;
  const mark = { version, hash, createdAt, batchId, workflow, undo: null };
  if (undo === undefined) return mark;
  const { id, reason, requestedBy } = undo;
  return { ...mark, undo: { id, reason, requestedBy } };
}

/** Reads a version's probe details. Throws `BlobMissing` and `VersionLogDamaged`. */
export async function probesOf(
  log: VersionLog,
  details: VersionEntry['probes']['details'],
): Promise<CorrectionProbe[]> {
  return JSON.parse(new TextDecoder().decode(await log.blobs.get(details))) as CorrectionProbe[];
}
