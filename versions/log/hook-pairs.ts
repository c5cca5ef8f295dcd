/**
 * From corrections to the hook they make together. A hook is a pure function of the base model and
 * of its pairs, so a name taken from the pairs stands for one hook for good: a worker that holds
 * the name need not build it again.
 */
import type { BlobReference } from '../../schemas/editing.ts';
import type { ActiveCorrection } from './history.ts';
import { MalformedSafetensors } from '../../schemas/encoding/safetensors.ts';
import { VersionLogDamaged } from './failures.ts';
import { decodePairs, gatherPairs, PairsMalformed, type StoredPairs } from './pairs.ts';
import { blobName, sha256, type VersionLog } from './version-log.ts';

/** Where one correction's pairs lie. */
export type PairsRow = Pick<ActiveCorrection, 'correctionId' | 'pairs' | 'row'>;

/** What keeps hooks by name; the model's engine does. */
export interface HookHolder<Report> {
  holds(hookId: string): Promise<boolean>;
  holdHook(hookId: string, pairs: StoredPairs): Promise<Report>;
}

/** Null, the base model, for no rows. The order counts: the rows of the hook stand in it. */
export function hookIdOf(rows: Iterable<PairsRow>): string | null {
  const lines: string[] = [];
  for (const { correctionId, pairs, row } of rows)
    lines.push(JSON.stringify([correctionId, pairs.sha256, row]));
  return lines.length === 0 ? null : `pairs:${sha256(lines.join('\n'))}`;
}

/** Sees to it that the holder has the hook of these rows. Row i of the hook is the i-th of them. */
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

/** The pairs of these rows, in their order; null for none. Each blob is read once. */
export async function readPairs(
  log: VersionLog,
  rows: readonly PairsRow[],
): Promise<StoredPairs | null> {
  const blobs = new Map<string, BlobReference>(rows.map(({ pairs }) => [pairs.sha256, pairs]));
  const decoded = new Map<string, StoredPairs>();
  for (const [hash, reference] of blobs)
    decoded.set(hash, await readBlob(log, reference, decodePairs));
  return gatherPairs(rows.map(({ pairs, row }) => ({ pairs: decoded.get(pairs.sha256)!, row })));
}

/**
 * A blob, decoded. Throws `VersionLogDamaged` where its bytes are those committed, but not what
 * they should be.
 */
export async function readBlob<Content>(
  log: VersionLog,
  reference: BlobReference,
  decode: (bytes: Uint8Array) => Content,
): Promise<Content> {
  const bytes = await log.getBlob(reference);
  try {
    return decode(bytes);
  } catch (fault) {
    if (fault instanceof PairsMalformed || fault instanceof MalformedSafetensors)
      throw new VersionLogDamaged(
        log.lineage,
        blobName(log.lineage, reference.sha256),
        fault.message,
      );
    throw fault;
  }
}
