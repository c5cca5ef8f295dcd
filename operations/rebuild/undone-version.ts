/**
 * Repeats an undo in the rebuilt lineage: removed corrections leave, and restored ones return with
 * the pairs that they have in this lineage, bit for bit. There is no search, so a fork does the
 * same where it has the undone corrections.
 */
import { revisionId, type CorrectionRevision } from '../../schemas/correction.ts';
import type { BlobReference } from '../../schemas/editing.ts';
import type { UndoSteps } from '../../schemas/undo.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { byPlace, type History, type StoredEntry } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { RebuildEngine } from './rebuild-engines.ts';
import { rebuiltBy, type RebuildRun } from './rebuild-run.ts';
import {
  resultOf,
  settingsAlikeFor,
  verdictReasons,
  type Reproduced,
} from './reproduced-version.ts';
import { addedRevisions, removalsOf } from './source-revisions.ts';

/** Leaves out corrections that were never committed here or whose fact has another one since. */
export async function undoAgain(
  { source, rebuilt, revised, request }: RebuildRun,
  { steps }: RebuildEngine,
  { entry, hash }: StoredEntry,
): Promise<Reproduced | { kind: 'nothing' }> {
  const history = await rebuilt.read();
  const removals = removalsOf(entry, history);
  const gone = new Set(removals.map(({ correctionId }) => correctionId));
  const wanted = addedRevisions(entry)
    .map(revised)
    .filter((revision) => isFree(history, gone, revision));
  const first = await firstAdditions(rebuilt, new Set(wanted.map(revisionId)));
  const restored = wanted
    .flatMap((revision): UndoSteps['restored'] => {
      const addition = first.get(revisionId(revision));
      if (addition === undefined) return [];
      const { version, row, pairs } = addition;
      return [{ revision, origin: { version, row }, pairs, row }];
    })
    .sort((a, b) => byPlace(a.origin, b.origin));
  if (removals.length + restored.length === 0) return { kind: 'nothing' };

  const { lineage } = rebuilt;
  const { batchId } = entry;
  const undone: UndoSteps = { removals, restored };
  const blob = await rebuilt.blobs.stage(batchId, canonicalJson(undone));
  const step = { lineage, batchId, head: history.head, steps: blob };
  const staged = await steps.stageUndo(step);
  const settings = settingsAlikeFor(entry, request.settings.verdict);
  const probes = await steps.probeUndo({ ...step, staged, settings });
  if (!probes.verdict.pass) return { kind: 'refused', reasons: verdictReasons(probes.verdict) };
  const made = { staged, probes, request: entry.undo!, workflow: rebuiltBy(source.lineage, hash) };
  return resultOf(await steps.commitUndo({ ...step, ...made }));
}

interface Addition {
  version: number;
  row: number;
  pairs: BlobReference;
}

/** Finds the first addition of each correction. */
async function firstAdditions(
  log: VersionLog,
  ids: ReadonlySet<string>,
): Promise<Map<string, Addition>> {
  const found = new Map<string, Addition>();
  const outcomes = await (await log.register()).outcomesOf(ids);
  for (const [id, { version }] of outcomes) {
    if (version === null) continue;
    const { entry } = await log.entry(version);
    const added = entry.added.find(
      ({ correctionId, origin }) => correctionId === id && origin === undefined,
    );
    if (added !== undefined) found.set(id, { version, row: added.row, pairs: entry.pairs! });
  }
  return found;
}

/** Tells whether no correction of the fact holds after the removals. */
function isFree(
  { active, activeByFact }: History,
  gone: ReadonlySet<string>,
  revision: CorrectionRevision,
): boolean {
  const id = revisionId(revision);
  const holder = activeByFact.get(revision.factKey);
  return (!active.has(id) || gone.has(id)) && (holder === undefined || gone.has(holder));
}
