import { removalsInForce, type CommitResult } from '../../schemas/editing.ts';
import type { CommitStep } from '../../schemas/steps.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { EntryRefused } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import type { Versions } from '../../versions/versions.ts';
import { addedOf, commitEntry, type EntryChange } from './commit-entry.ts';

export async function commitVersion(versions: Versions, step: CommitStep): Promise<CommitResult> {
  return await commitEntry(versions.log(step.lineage), step, async (history) =>
    changeOf(history, step),
  );
}

function changeOf(
  history: History,
  { lineage, edits, removals, withdrawals, staged }: CommitStep,
): EntryChange {
  const byId = new Map(edits.map((revision) => [revision.correction.id, revision]));
  const added = staged.rows.map((id, row): VersionEntry['added'][number] => {
    const revision = byId.get(id);
    if (revision === undefined)
      throw new EntryRefused(lineage, history.head.version + 1, [
        `row ${row} is of "${id}", which is not in the batch`,
      ]);
    return addedOf(revision, row);
  });
  const retractions = withdrawals
    .filter((revision) => revision.kind === 'retraction')
    .map(({ kind: _, ...retraction }) => retraction);
  return { added, removed: removalsInForce(removals, staged.rows), retractions };
}
