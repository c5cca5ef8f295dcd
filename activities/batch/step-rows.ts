/** The hooks of one step, named by the pairs they are made of. */
import {
  removalsInForce,
  type HeadReference,
  type Removal,
  type StagedUpdate,
} from '../../schemas/editing.ts';
import { EntryRefused } from '../../versions/log/failures.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { PairsRow } from '../../versions/log/hook-pairs.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

/**
 * The history up to the HEAD that the batch was planned on. Throws `EntryRefused` where that HEAD
 * is none of the log's.
 */
export async function historyOfHead(log: VersionLog, head: HeadReference): Promise<History> {
  const history = await log.at(head.version);
  if (history.head.hash !== head.hash) {
    throw new EntryRefused(log.lineage, head.version + 1, [
      `planned on version ${head.version} with hash ${head.hash ?? 'none'}, which has hash ${history.head.hash ?? 'none'}`,
    ]);
  }
  return history;
}

/**
 * The corrections of a version that stay when the removals are carried out, in the order of their
 * commits.
 */
export function remaining(history: History, removals: readonly Removal[]): ActiveCorrection[] {
  const removed = new Set(removals.map(({ correctionId }) => correctionId));
  return [...history.active.values()].filter(({ correctionId }) => !removed.has(correctionId));
}

/** Those of the corrections that are about a subject, in their order. */
export function aboutSubject(
  corrections: readonly ActiveCorrection[],
  subject: string,
): ActiveCorrection[] {
  return corrections.filter((one) => one.subject.trim() === subject.trim());
}

/**
 * The rows of what is staged: what remains, then the new. Once committed they are the version's
 * rows, in the same order.
 */
export function stagedRows(
  history: History,
  removals: readonly Removal[],
  staged: Pick<StagedUpdate, 'pairs' | 'rows'>,
): PairsRow[] {
  const { pairs } = staged;
  const added =
    pairs === null ? [] : staged.rows.map((correctionId, row) => ({ correctionId, pairs, row }));
  return [...remaining(history, removalsInForce(removals, staged.rows)), ...added];
}
