/** The rows of pairs that the hooks of one step are made of. */
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

/** Reads the history up to a HEAD. Throws `EntryRefused` where the log has no such HEAD. */
export async function historyOfHead(log: VersionLog, head: HeadReference): Promise<History> {
  const history = await log.at(head.version);
  const [planned, present] = [head.hash ?? 'none', history.head.hash ?? 'none'];
  if (planned !== present)
    throw new EntryRefused(log.lineage, head.version + 1, [
      `planned on version ${head.version} with hash ${planned}, which has hash ${present}`,
    ]);
  return history;
}

/** The corrections of a version that the removals leave, in the order of their commits. */
export function remaining(history: History, removals: readonly Removal[]): ActiveCorrection[] {
  const removed = new Set(removals.map(({ correctionId }) => correctionId));
  return [...history.active.values()].filter(({ correctionId }) => !removed.has(correctionId));
}

/** The corrections about a subject, in their order. */
export function aboutSubject(
  corrections: readonly ActiveCorrection[],
  subject: string,
): ActiveCorrection[] {
  return corrections.filter((one) => one.subject.trim() === subject.trim());
}

/** The rows of a staged batch, in the order of the version that it becomes: the new ones last. */
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
