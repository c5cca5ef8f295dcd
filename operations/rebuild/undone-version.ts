/**
 * An undo done again in the rebuilt lineage: what left leaves, and what came back comes back with
 * the pairs that it has there, bit for bit. Nothing is searched for, so that a fork does the same
 * as far as it has what was undone.
 */
import { revisionId, type CorrectionRevision } from '../../schemas/correction.ts';
import type { BlobReference } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { UndoSteps } from '../../schemas/undo.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { byPlace, type History, type StoredEntry } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { rebuiltBy, resultOf, settledFor, type Reproduced } from './reproduced-version.ts';
import { addedRevisions, removalsOf } from './source-words.ts';
import type { Workplace } from './workplace.ts';

export type Undone = Reproduced | { kind: 'nothing' };

export interface UndoneAgain {
  result: Undone;
  /**
   * Ids that came back in the source and were never committed here, or whose fact another
   * correction holds here.
   */
  without: string[];
}

export async function undoAgain(
  place: Workplace,
  { entry, hash }: StoredEntry,
  {
    source,
    rebuilt,
    verdict,
    reword,
  }: {
    source: VersionLog;
    rebuilt: VersionLog;
    verdict: VerdictSettings;
    reword: (revision: CorrectionRevision) => CorrectionRevision;
  },
): Promise<UndoneAgain> {
  const history = await rebuilt.read();
  const removals = removalsOf(entry, history);
  const gone = new Set(removals.map(({ correctionId }) => correctionId));
  const wanted = addedRevisions(entry).map(reword);
  const first = await firstAdditions(rebuilt, new Set(wanted.map(revisionId)));
  const restored = wanted
    .flatMap((revision): UndoSteps['restored'] => {
      const from = first.get(revisionId(revision));
      return from === undefined || !isFree(history, gone, revision)
        ? []
        : [
            {
              revision,
              origin: { version: from.version, row: from.row },
              pairs: from.pairs,
              row: from.row,
            },
          ];
    })
    .sort((a, b) => byPlace(a.origin, b.origin));
  const back = new Set(restored.map(({ revision }) => revisionId(revision)));
  const without = wanted.map(revisionId).filter((id) => !back.has(id));
  if (removals.length + restored.length === 0) return { result: { kind: 'nothing' }, without };

  const { lineage } = rebuilt;
  const { batchId } = entry;
  const step = {
    lineage,
    batchId,
    head: history.head,
    steps: await rebuilt.blobs.stage(
      batchId,
      canonicalJson({ removals, restored } satisfies UndoSteps),
    ),
  };
  const staged = await place.steps.stageUndo(step);
  const probes = await place.steps.probeUndo({
    ...step,
    staged,
    settings: settledFor(entry, verdict),
  });
  if (!probes.verdict.pass)
    return {
      result: {
        kind: 'refused',
        reasons: [
          ...probes.verdict.reasons,
          ...probes.verdict.failing.map(({ id, reason }) => `"${id}": ${reason}`),
        ],
      },
      without,
    };
  return {
    result: resultOf(
      await place.steps.commitUndo({
        ...step,
        staged,
        probes,
        request: entry.undo!,
        workflow: rebuiltBy(source.lineage, hash),
      }),
    ),
    without,
  };
}

interface Addition {
  version: number;
  row: number;
  pairs: BlobReference;
}

/** Where each of the corrections was added first. */
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

function isFree(
  history: History,
  gone: ReadonlySet<string>,
  revision: CorrectionRevision,
): boolean {
  const holder = history.activeByFact.get(revision.factKey);
  return (
    !(history.active.has(revisionId(revision)) && !gone.has(revisionId(revision))) &&
    (holder === undefined || gone.has(holder))
  );
}
