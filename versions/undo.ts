/**
 * Plans an undo: the corrections that leave, those that are restored, and those that stay out
 * because a later change decided their fact. Writes nothing.
 *
 * A removed correction is restored only if its fact is as the undone version left it, or all later
 * changes of the fact were undone as well. So undoing version 5 never also undoes the changes of
 * version 7 to the same fact. A rollback has no such condition: exactly the corrections of that
 * version hold again.
 */
import { normalisedText, saysTheSame } from '../schemas/correction.ts';
import type { Outcome } from '../schemas/outcome.ts';
import type { HeadReference, Removal } from '../schemas/editing.ts';
import { undoRevisionId, type Kept, type UndoRequest, type UndoSteps } from '../schemas/undo.ts';
import type { VersionEntry } from '../schemas/version-entry.ts';
import { canonicalJson } from './log/canonical-json.ts';
import { byPlace, type ActiveCorrection, type History } from './log/history.ts';
import { OBJECT_BYTES_MAX } from './stores/object-store.ts';
import type { FactTombstone } from './log/entry-outcomes.ts';
import { type VersionLog } from './log/version-log.ts';
import { ENTRY_BYTES_MAX, ENTRY_JSON_LIMITS } from './log/entry-reader.ts';

export interface UndoFindings extends UndoSteps {
  /** HEAD when the undo was planned. */
  head: HeadReference;
  kept: Kept[];
  /** The reason that there is nothing to do, or null. */
  nothing: string | null;
}

/** Room for the steps in an entry. */
const STEPS_BYTES_MAX = ENTRY_BYTES_MAX - 2 ** 20;
/** JSON values of a restored correction, texts included. */
const RESTORED_VALUES_MAX = 80;
const REMOVAL_VALUES_MAX = 8;
/** Size of the pairs copied into one blob, with room for its metadata. */
const PAIRS_BYTES_MAX = 0.9 * OBJECT_BYTES_MAX;

/** Plans an undo on HEAD. Throws `VersionLogDamaged`. */
export async function undoOf(
  log: VersionLog,
  { id, target }: Pick<UndoRequest, 'id' | 'target'>,
): Promise<UndoFindings> {
  const history = await log.read();
  const by = undoRevisionId({ id });
  const findings =
    target.kind === 'rollback'
      ? await rollback(log, history, target.version, by)
      : await revert(log, history, await changeOf(log, history, target), by);
  return findings.nothing === null ? await withinBounds(log, history, findings) : findings;
}

/** The changes of one version, or of one revision in it. */
interface Change {
  /** A name for messages. */
  name: string;
  version: number;
  added: readonly string[];
  /** Corrections that left, with the one that took their fact in that version. */
  removed: readonly { correctionId: string; factKey: string; successor: string | null }[];
}

/** The last change of a fact that was not undone. */
interface LaterChange {
  version: number;
  holder: string | null;
  /** A description for messages. */
  what: string;
}

interface Precedents {
  history: History;
  before: History;
  /** Facts that are not as the undone version left them. */
  later: ReadonlyMap<string, LaterChange>;
  retractions: ReadonlyMap<string, FactTombstone>;
}

/** Plans the undo of a change; a pure function, so that a repetition has the same result. */
function revertOf(
  { history, before, later, retractions }: Precedents,
  change: Change,
  by: string,
): UndoFindings {
  const leaves = change.added.flatMap((id) => history.active.get(id) ?? []);
  const gone = new Set(leaves.map(({ correctionId }) => correctionId));
  const staying = new Map<string, ActiveCorrection[]>();
  for (const active of history.active.values()) {
    const prompt = normalisedText(active.prompt);
    if (!gone.has(active.correctionId))
      staying.set(prompt, [...(staying.get(prompt) ?? []), active]);
  }
  const restored: ActiveCorrection[] = [];
  const kept: Kept[] = [];
  const reasonToKeepOut = (factKey: string, back: ActiveCorrection): string | null => {
    const holder = history.active.get(history.activeByFact.get(factKey) ?? '');
    if (holder !== undefined && !gone.has(holder.correctionId))
      return `"${holder.correctionId}", in version ${holder.version}, holds its fact`;
    const overtaken = later.get(factKey);
    if (overtaken !== undefined)
      return `${overtaken.what} in version ${overtaken.version}; undo that version, or roll back`;
    const retraction = retractions.get(factKey);
    if (retraction?.version === null && retraction.issuedAt > back.issuedAt)
      return `"${retraction.id}" retracted its fact while nothing held it`;
    const rival = staying.get(normalisedText(back.prompt))?.find((one) => !saysTheSame(one, back));
    return rival === undefined
      ? null
      : `"${rival.correctionId}", in version ${rival.version}, answers the same prompt differently`;
  };
  for (const { correctionId, factKey } of change.removed) {
    if (history.active.has(correctionId)) continue;
    const back = before.active.get(correctionId)!;
    const reason = reasonToKeepOut(factKey, back);
    if (reason === null) restored.push(back);
    else kept.push({ correctionId, reason });
  }
  return {
    head: history.head,
    removals: removalsOf(leaves, by),
    restored: restoredOf(history, restored),
    kept,
    nothing: leaves.length + restored.length > 0 ? null : nothingLeft(change, kept),
  };
}

function nothingLeft({ name, removed }: Change, kept: readonly Kept[]): string {
  const rest =
    removed.length === 0
      ? ''
      : `, and what it took out ${kept.length === 0 ? 'holds' : 'cannot come back'}`;
  return `nothing of ${name} is left to undo: what it added does not hold${rest}`;
}

async function revert(
  log: VersionLog,
  history: History,
  change: Change | string,
  by: string,
): Promise<UndoFindings> {
  if (typeof change === 'string') return nothingToDo(history, change);
  const factKeys = change.removed.map(({ factKey }) => factKey);
  const register = await log.register();
  const precedents: Precedents = {
    history,
    before: await log.at(change.version - 1),
    later: await laterChanges(log, history, change),
    retractions: await register.tombstones(factKeys, ({ because }) => because === 'retracted'),
  };
  return revertOf(precedents, change, by);
}

/** Finds later changes of facts. An undo that restores a fact's holder cancels those between. */
async function laterChanges(
  log: VersionLog,
  { head }: History,
  { version, removed }: Change,
): Promise<Map<string, LaterChange>> {
  const changes = new Map(
    removed.map(({ factKey, successor }): [string, LaterChange[]] => [
      factKey,
      [{ version, holder: successor, what: '' }],
    ]),
  );
  if (removed.length > 0) {
    for await (const { entry } of log.walk(version + 1)) {
      if (entry.version > head.version) break;
      for (const [factKey, next] of changedFacts(entry)) {
        const list = changes.get(factKey);
        if (list === undefined) continue;
        const again = list.findLastIndex(({ holder }) => holder === next.holder);
        if (entry.undo === undefined || again === -1) list.push(next);
        else list.length = again + 1;
      }
    }
  }
  const overtaken = [...changes].filter(([, list]) => list.length > 1);
  return new Map(overtaken.map(([factKey, list]) => [factKey, list.at(-1)!]));
}

function changedFacts({ version, added, removed }: VersionEntry): Map<string, LaterChange> {
  const changes = new Map<string, LaterChange>();
  for (const { factKey, correctionId: id, because, by } of removed) {
    const what = `"${id}", which had its fact, was ${because} by "${by}"`;
    changes.set(factKey, { version, holder: null, what });
  }
  for (const { factKey, correctionId: id } of added)
    changes.set(factKey, { version, holder: id, what: `"${id}" took its fact` });
  return changes;
}

/** Returns the change of a version or revision, or the reason that it has none. */
async function changeOf(
  log: VersionLog,
  history: History,
  target: Exclude<UndoRequest['target'], { kind: 'rollback' }>,
): Promise<Change | string> {
  if (target.kind === 'version') {
    if (target.version > history.head.version) return missingVersion(target.version, history);
    const { entry } = await log.entry(target.version);
    return changeIn(entry, `version ${target.version}`, () => true);
  }
  const { id } = target;
  const register = await log.register();
  const first = (await register.outcomesOf([id])).get(id);
  if (first === undefined) return `no correction or retraction "${id}" was decided in this lineage`;
  const name = `"${id}"`;
  const made =
    first.version ??
    (first.status === 'QUARANTINED' ? await register.versionOfBatch(first.batchId) : null);
  const change =
    made === null ? null : changeIn((await log.entry(made)).entry, name, (asker) => asker === id);
  // A correction that contradicted a committed one removed it without being committed itself.
  if (first.status !== 'COMMITTED')
    return change !== null && change.removed.length > 0
      ? change
      : `${name} was never committed: it became ${inWords(first)}`;
  if (history.active.has(id)) return change!;
  const [current] = await register.current([first]);
  const { measured, status, version } = current!;
  const bySuccessor = typeof measured['by'] === 'string' && status === 'SUPERSEDED';
  return (
    `${name} does not hold: it became ${inWords(current!)}; ` +
    `undo ${bySuccessor ? `"${measured['by']}" or ` : ''}version ${version}`
  );
}

function changeIn(entry: VersionEntry, name: string, isMeant: (id: string) => boolean): Change {
  const { version, added, removed } = entry;
  const successors = new Map(added.map(({ factKey, correctionId }) => [factKey, correctionId]));
  return {
    name,
    version,
    added: added.map(({ correctionId }) => correctionId).filter(isMeant),
    removed: removed
      .filter(({ by }) => isMeant(by))
      .map((one) => ({ ...one, successor: successors.get(one.factKey) ?? null })),
  };
}

async function rollback(
  log: VersionLog,
  history: History,
  version: number,
  by: string,
): Promise<UndoFindings> {
  if (version > history.head.version) return nothingToDo(history, missingVersion(version, history));
  const then = await log.at(version);
  const missingIn = (a: History, b: History) =>
    [...b.active.values()].filter(({ correctionId }) => !a.active.has(correctionId));
  const [leaves, back] = [missingIn(then, history), missingIn(history, then)];
  if (leaves.length + back.length === 0)
    return nothingToDo(
      history,
      version === history.head.version
        ? `HEAD is version ${version}`
        : `the corrections of version ${version} are those that hold`,
    );
  return {
    head: history.head,
    removals: removalsOf(leaves, by),
    restored: restoredOf(history, back),
    kept: [],
    nothing: null,
  };
}

function removalsOf(leaves: readonly ActiveCorrection[], by: string): Removal[] {
  return leaves.map(({ correctionId, factKey, position }) => ({
    correctionId,
    factKey,
    because: 'reverted',
    by,
    position,
  }));
}

function restoredOf(
  { lineage }: History,
  back: readonly ActiveCorrection[],
): UndoSteps['restored'] {
  return [...back].sort(byPlace).map((active) => {
    const { correctionId: id, factKey, position, version, row, pairs, origin, ...more } = active;
    const { replayOf, ...texts } = more;
    const correction = { id, lineage, ...texts, ...(replayOf === undefined ? {} : { replayOf }) };
    return {
      revision: { kind: 'correction', factKey, position, correction },
      origin: origin ?? { version, row },
      pairs,
      row,
    };
  });
}

async function withinBounds(
  log: VersionLog,
  history: History,
  findings: UndoFindings,
): Promise<UndoFindings> {
  const { removals, restored } = findings;
  const values = restored.length * RESTORED_VALUES_MAX + removals.length * REMOVAL_VALUES_MAX;
  const fits =
    values <= ENTRY_JSON_LIMITS.valuesMax &&
    canonicalJson({ removals, restored }).byteLength <= STEPS_BYTES_MAX &&
    (await pairsBytes(log, restored)) <= PAIRS_BYTES_MAX;
  if (fits) return findings;
  return nothingToDo(
    history,
    `it would take out ${removals.length} and restore ${restored.length} corrections, ` +
      'more than one version has room for; roll back to a version in between first',
  );
}

/** Estimates the size of the pairs: all rows of a lineage have one width. */
async function pairsBytes(log: VersionLog, restored: UndoSteps['restored']): Promise<number> {
  const [first] = restored;
  if (first === undefined) return 0;
  const { pairs, added } = (await log.entry(first.origin.version)).entry;
  return (restored.length * (pairs?.bytes ?? 0)) / Math.max(1, added.length);
}

function nothingToDo({ head }: History, nothing: string): UndoFindings {
  return { head, removals: [], restored: [], kept: [], nothing };
}

function missingVersion(version: number, { head }: History): string {
  return `version ${version} does not exist; HEAD is ${head.version}`;
}

function inWords({ status, reason, version }: Outcome): string {
  const place = version === null ? '' : ` in version ${version}`;
  const why = reason === null ? '' : ` (${reason})`;
  return `${status.toLowerCase().replaceAll('_', ' ')}${place}${why}`;
}
