/** The planned steps of an undo, for its later activities. */
import type { BlobReference, StagedUpdate } from '../../schemas/editing.ts';
import type { UndoSteps } from '../../schemas/undo.ts';
import { byPlace, type History } from '../../versions/log/history.ts';
import type { PairsRow } from '../../versions/log/hook-pairs.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { remaining } from '../batch/step-rows.ts';

/** Throws `StagingGone`. */
export async function readSteps(log: VersionLog, steps: BlobReference): Promise<UndoSteps> {
  return JSON.parse(new TextDecoder().decode(await log.blobs.get(steps))) as UndoSteps;
}

/** Returns the next version's rows in order, with restored ones at their original place. */
export function rowsAfter(
  history: History,
  { removals, restored }: UndoSteps,
  pairs: StagedUpdate['pairs'],
): PairsRow[] {
  const version = history.head.version + 1;
  const back =
    pairs === null
      ? []
      : restored.map(({ revision, origin }, row) => ({
          correctionId: revision.correction.id,
          pairs,
          row,
          version,
          origin,
        }));
  return [...remaining(history, removals), ...back].sort(byPlace);
}
