/** Helpers of the editing steps: HEAD, the engine's provenance, and the rows of their hooks. */
import type { Engine } from '../../model/engine/engine.ts';
import {
  removalsInForce,
  type HeadReference,
  type Provenance,
  type Removal,
  type StagedUpdate,
} from '../../schemas/editing.ts';
import { EntryRefused } from '../../versions/log/failures.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import { hookIdOf, readPairs, type PairsRow } from '../../versions/log/hook-pairs.ts';
import { requireSameBase } from '../../versions/log/same-base.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { currentHeartbeat } from '../heartbeat.ts';

/** Reads the history up to a HEAD. Throws `EntryRefused` if the log has no such HEAD. */
export async function historyOfHead(log: VersionLog, head: HeadReference): Promise<History> {
  const history = await log.at(head.version);
  const [planned, present] = [head.hash ?? 'none', history.head.hash ?? 'none'];
  if (planned !== present)
    throw new EntryRefused(log.lineage, head.version + 1, [
      `planned on version ${head.version} with hash ${planned}, which has hash ${present}`,
    ]);
  return history;
}

/** Opens the log at a HEAD for an editing step. Throws `BaseChanged`, `EntryRefused`. */
export async function openStep(
  engine: Engine,
  versions: Versions,
  { lineage, head }: { lineage: string; head: HeadReference },
) {
  const log = versions.log(lineage);
  const history = await historyOfHead(log, head);
  const madeWith = await provenanceOf(engine);
  requireSameBase(history, madeWith);
  return { log, history, madeWith, heartbeat: currentHeartbeat() };
}

/** Returns the provenance that an engine writes into its versions. */
export async function provenanceOf(engine: Engine): Promise<Provenance> {
  const { model, keyStatistics, parameters, software } = await engine.describe();
  const { name, sha256, architecture } = model;
  return { base: { name, sha256, architecture }, keyStatistics, parameters, software };
}

/** Makes the engine hold the hook of these rows, and returns its layers. */
export async function holdRows(
  engine: Engine,
  log: VersionLog,
  rows: readonly PairsRow[],
): Promise<StagedUpdate['layers']> {
  const hookId = hookIdOf(rows);
  if (hookId === null) return [];
  return (await engine.holdHook(hookId, (await readPairs(log, rows))!)).layers;
}

/** Returns a version's corrections after the removals, in commit order. */
export function remaining(history: History, removals: readonly Removal[]): ActiveCorrection[] {
  const removed = new Set(removals.map(({ correctionId }) => correctionId));
  return [...history.active.values()].filter(({ correctionId }) => !removed.has(correctionId));
}

export function aboutSubject(
  corrections: readonly ActiveCorrection[],
  subject: string,
): ActiveCorrection[] {
  return corrections.filter((one) => one.subject.trim() === subject.trim());
}

/** Returns a staged batch's rows in the order of the next version: the new ones last. */
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
