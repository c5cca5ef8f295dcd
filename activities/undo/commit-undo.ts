/**
 * Commits the version of an undo, which removes corrections and restores earlier ones unchanged.
 */
import type { CommitResult } from '../../schemas/editing.ts';
import type { CommitUndoStep } from '../../schemas/steps.ts';
import type { Versions } from '../../versions/versions.ts';
import { addedOf, commitEntry } from '../batch/commit-entry.ts';
import { readSteps } from './undo-steps.ts';

export async function commitUndo(versions: Versions, step: CommitUndoStep): Promise<CommitResult> {
  const log = versions.log(step.lineage);
  return await commitEntry(log, step, async () => {
    const { removals, restored } = await readSteps(log, step.steps);
    const added = restored.map(({ revision, origin }, row) => ({
      ...addedOf(revision, row),
      origin,
    }));
    return { added, removed: removals, retractions: [], undo: step.request };
  });
}
