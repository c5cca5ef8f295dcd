/**
 * Builds the hook of a set of corrections. A hook is a pure function of the base model and its
 * pairs, so a name derived from the pairs identifies it permanently: a worker that holds the name
 * need not build it again.
 */
import type { BlobReference } from '../../schemas/editing.ts';
import type { ActiveCorrection } from './history.ts';
import { blobName, sha256 } from './object-names.ts';
import { decodePairs, gatherPairs, type StoredPairs } from './pairs.ts';
import { parsedOf } from './sealed.ts';
import type { VersionLog } from './version-log.ts';

export type PairsRow = Pick<ActiveCorrection, 'correctionId' | 'pairs' | 'row'>;

/** Holds hooks by name. The model's engine implements it. */
interface HookHolder<Report> {
  holds(hookId: string): Promise<boolean>;
  holdHook(hookId: string, pairs: StoredPairs): Promise<Report>;
}

/** Names the hook of these rows; null (the base model) for no rows. Their order matters. */
export function hookIdOf(rows: Iterable<PairsRow>): string | null {
  const lines = Array.from(rows, ({ correctionId, pairs, row }) =>
    JSON.stringify([correctionId, pairs.sha256, row]),
  );
  return lines.length === 0 ? null : `pairs:${sha256(lines.join('\n'))}`;
}

/** Makes the holder hold the hook of these rows, in their order, and returns its name. */
export async function ensureHook(
  holder: HookHolder<unknown>,
  log: VersionLog,
  rows: Iterable<PairsRow>,
): Promise<string | null> {
  const list = [...rows];
  const hookId = hookIdOf(list);
  if (hookId !== null && !(await holder.holds(hookId)))
    await holder.holdHook(hookId, (await readPairs(log, list))!);
  return hookId;
}

/** Reads the pairs of these rows, in their order; null for no rows. Reads each blob once. */
export async function readPairs(
  log: VersionLog,
  rows: readonly PairsRow[],
): Promise<StoredPairs | null> {
  const decoded = new Map<string, StoredPairs>();
  for (const { pairs } of rows)
    if (!decoded.has(pairs.sha256))
      decoded.set(pairs.sha256, await readBlob(log, pairs, decodePairs));
  return gatherPairs(rows.map(({ pairs, row }) => ({ pairs: decoded.get(pairs.sha256)!, row })));
}

/** Reads and decodes a blob. Throws `VersionLogDamaged` where it cannot be decoded. */
export async function readBlob<Content>(
  log: VersionLog,
  reference: BlobReference,
  decode: (bytes: Uint8Array) => Content,
): Promise<Content> {
  const bytes = await log.blobs.get(reference);
  return parsedOf(log.lineage, blobName(log.lineage, reference.sha256), () => decode(bytes));
}
