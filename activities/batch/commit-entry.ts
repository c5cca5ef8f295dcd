/**
 * Commits atomically: puts entry HEAD + 1 if absent. A second run finds its batch id in the log and
 * returns the same result. It never overwrites; a HEAD that has moved is a result too.
 */
import type { CorrectionRevision } from '../../schemas/correction.ts';
import type { CommitResult, HeadReference, Verdict } from '../../schemas/editing.ts';
import type { Commitment } from '../../schemas/steps.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { EntryRefused } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

type Making = Commitment & { batchId: string; head: HeadReference };

export type EntryChange = Pick<VersionEntry, 'added' | 'removed' | 'retractions' | 'undo'>;

/** Throws `EntryRefused` if the probes failed, and `StagingGone`. */
export async function commitEntry(
  log: VersionLog,
  making: Making,
  changeOf: (history: History) => Promise<EntryChange>,
): Promise<CommitResult> {
  const history = await log.read();
  const made = await alreadyMade(log, making.batchId);
  if (made !== null) return made;
  const { head, staged, probes } = making;
  if (history.head.version !== head.version || history.head.hash !== head.hash)
    return { kind: 'head-moved', head: history.head };
  if (!probes.verdict.pass)
    throw new EntryRefused(log.lineage, history.head.version + 1, failedProbes(probes.verdict));
  // A version with missing blobs could never be served.
  const [change, pairs, details, ...searches] = await Promise.all([
    changeOf(history),
    staged.pairs === null ? null : log.blobs.keep(staged.pairs),
    log.blobs.keep(probes.details),
    ...(staged.searches ?? []).map((search) => log.blobs.keep(search)),
  ]);
  const entry = entryOf(history, change, {
    ...making,
    staged: { ...staged, pairs, searches },
    probes: { ...probes, details },
  });
  const result = await log.append(entry);
  if (result.kind === 'appended')
    return { kind: 'committed', version: entry.version, hash: result.hash, already: false };
  return (
    (await alreadyMade(log, making.batchId)) ?? {
      kind: 'head-moved',
      head: (await log.read()).head,
    }
  );
}

async function alreadyMade(log: VersionLog, batchId: string): Promise<CommitResult | null> {
  const version = await (await log.register()).versionOfBatch(batchId);
  return version === null
    ? null
    : { kind: 'committed', version, hash: (await log.entry(version)).hash, already: true };
}

function failedProbes({ reasons, failing }: Verdict): string[] {
  return [...reasons, ...failing.map(({ id, reason }) => `"${id}": ${reason}`)].map(
    (reason) => `its probes failed: ${reason}`,
  );
}

function entryOf(
  history: History,
  { added, removed, retractions, undo }: EntryChange,
  { batchId, staged, probes, workflow }: Making,
): VersionEntry {
  const { madeWith } = staged;
  return {
    format: 1,
    lineage: history.lineage,
    version: history.head.version + 1,
    parent: history.head.hash,
    createdAt: new Date().toISOString(),
    batchId,
    added,
    removed,
    retractions,
    pairs: staged.pairs,
    searches: staged.searches ?? [],
    ...(undo === undefined ? {} : { undo }),
    corrections: history.active.size + added.length - removed.length,
    layers: staged.layers,
    probes: { before: probes.before, after: probes.after, details: probes.details },
    ...madeWith,
    parameters: { ...madeWith.parameters },
    workflow,
  };
}

/** Converts a correction to its form in an entry; its pairs are in row `row` of the entry's. */
export function addedOf(
  { factKey, position, correction }: CorrectionRevision,
  row: number,
): VersionEntry['added'][number] {
  const { id: correctionId, lineage: _, ...stated } = correction;
  return { correctionId, factKey, row, ...stated, position };
}
