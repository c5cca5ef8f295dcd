/**
 * The corrections that hold in a lineage: a fold over its entries in order, so that a longer log
 * costs only its new entries. Its size is that of the active corrections; earlier decisions are in
 * the register.
 */
import type { BlobReference, HeadReference } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';

export interface History {
  readonly lineage: string;
  readonly head: HeadReference;
  /** The entry of HEAD; null for the base model. */
  readonly latest: StoredEntry | null;
  /** The corrections that hold at HEAD by id, in order of their first commit. */
  readonly active: ReadonlyMap<string, ActiveCorrection>;
  /** Id of the active correction of a fact. */
  readonly activeByFact: ReadonlyMap<string, string>;
}

export interface StoredEntry {
  entry: VersionEntry;
  /** SHA-256 of the stored bytes, hexadecimal. */
  hash: string;
}

export type AddedCorrection = VersionEntry['added'][number];

export type ActiveCorrection = AddedCorrection & {
  /** The version that added it last: an undo may have restored it. */
  version: number;
  /** The blob whose row `row` holds its pairs. */
  pairs: BlobReference;
};

/** The version that first added a correction, or its `origin`, and its row there. */
export type Place = Pick<ActiveCorrection, 'version' | 'row' | 'origin'>;

/**
 * Orders corrections by their first addition. A correction that an undo restores returns to its
 * place: rounding depends on the order of the terms of a sum, so only then are the answers the same
 * to the last bit.
 */
export function byPlace(a: Place, b: Place): number {
  const [one, other] = [a.origin ?? a, b.origin ?? b];
  return one.version - other.version || one.row - other.row;
}

export function emptyHistory(lineage: string): History {
  return {
    lineage,
    head: { version: 0, hash: null },
    latest: null,
    active: new Map(),
    activeByFact: new Map(),
  };
}

/**
 * Returns the history with further entries appended. The entries must follow (`faultsOfEntry`):
 * `check` is called with each and the history before it, and throws where it does not follow.
 */
export function extended(
  history: History,
  entries: readonly StoredEntry[],
  check?: (before: History, next: StoredEntry) => void,
): History {
  const after: Draft = {
    ...history,
    active: new Map(history.active),
    activeByFact: new Map(history.activeByFact),
  };
  for (const stored of entries) {
    check?.(after, stored);
    apply(after, stored);
  }
  return after;
}

/** Returns the reasons that an entry cannot follow this history; empty when it can. */
export function faultsOfEntry(history: History, entry: VersionEntry): string[] {
  const { version, hash } = history.head;
  const removed = new Set(entry.removed.map(({ correctionId }) => correctionId));
  const added = new Set(entry.added.map(({ correctionId }) => correctionId));
  const corrections = history.active.size - removed.size + added.size;
  const faults = [
    entry.lineage !== history.lineage && `it belongs to lineage "${entry.lineage}"`,
    entry.version !== version + 1 && `it is version ${entry.version} instead of ${version + 1}`,
    entry.parent !== hash &&
      `its parent is ${entry.parent ?? 'none'}, the entry before it has hash ${hash ?? 'none'}`,
    ...faultsOfRemovals(history, entry),
    ...faultsOfAdditions(history, entry, removed),
    added.size > 0 && entry.pairs === null && 'it adds corrections without pairs',
    added.size === 0 && entry.pairs !== null && 'it has pairs without corrections',
    added.size === 0 && removed.size === 0 && 'it changes nothing',
  ].filter((fault) => fault !== false);
  if (faults.length === 0 && entry.corrections !== corrections)
    faults.push(`it counts ${entry.corrections} corrections, but ${corrections} hold`);
  return faults;
}

function faultsOfRemovals({ active }: History, entry: VersionEntry): string[] {
  const seen = new Set<string>();
  return entry.removed.flatMap(({ correctionId: id, factKey }) => {
    const holding = active.get(id);
    const faults = [
      seen.has(id) && `it removes "${id}" twice`,
      holding === undefined && `it removes "${id}", which does not hold`,
      holding !== undefined &&
        holding.factKey !== factKey &&
        `it removes "${id}" under another fact than it was committed with`,
    ];
    seen.add(id);
    return faults.filter((fault) => fault !== false);
  });
}

function faultsOfAdditions(
  { active, activeByFact }: History,
  { added, undo, version }: VersionEntry,
  removed: ReadonlySet<string>,
): string[] {
  const seen = { ids: new Set<string>(), facts: new Set<string>(), rows: new Set<number>() };
  return added.flatMap(({ correctionId: id, factKey, row, origin }) => {
    const holder = activeByFact.get(factKey);
    const faults = [
      origin !== undefined &&
        (undo === undefined || origin.version >= version) &&
        `it restores "${id}", which no undo before it could have`,
      origin === undefined && undo !== undefined && `it is an undo, and adds "${id}" as new`,
      seen.ids.has(id) && `it adds "${id}" twice`,
      active.has(id) && !removed.has(id) && `it adds "${id}", which holds already`,
      (seen.facts.has(factKey) || (holder !== undefined && !removed.has(holder))) &&
        `it adds "${id}" to a fact that has a correction`,
      seen.rows.has(row) && `two corrections share row ${row} of its pairs`,
    ];
    seen.ids.add(id);
    seen.facts.add(factKey);
    seen.rows.add(row);
    return faults.filter((fault) => fault !== false);
  });
}

interface Draft extends History {
  head: HeadReference;
  latest: StoredEntry | null;
  active: Map<string, ActiveCorrection>;
  activeByFact: Map<string, string>;
}

function apply(draft: Draft, stored: StoredEntry): void {
  const { entry, hash } = stored;
  const { version } = entry;
  for (const { correctionId, factKey } of entry.removed) {
    draft.active.delete(correctionId);
    draft.activeByFact.delete(factKey);
  }
  for (const correction of entry.added) {
    const { correctionId: id, factKey } = correction;
    draft.active.set(id, { ...correction, version, pairs: entry.pairs! });
    draft.activeByFact.set(factKey, id);
  }
  if (entry.added.some(({ origin }) => origin !== undefined))
    draft.active = new Map([...draft.active].sort(([, a], [, b]) => byPlace(a, b)));
  draft.latest = stored;
  draft.head = { version, hash };
}
