/**
 * What a lineage's entries add up to: which corrections hold. A fold over the entries in order, so
 * that a longer log only costs its new entries. It is as large as what holds; what was decided long
 * ago is found in the register.
 */
import type { BlobReference, HeadReference } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';

export interface History {
  readonly lineage: string;
  readonly head: HeadReference;
  /** HEAD's; null for the base model. */
  readonly latest: StoredEntry | null;
  /** The corrections that hold at HEAD by id, in the order in which they were first committed. */
  readonly active: ReadonlyMap<string, ActiveCorrection>;
  /** Id of the active correction of a fact. */
  readonly activeByFact: ReadonlyMap<string, string>;
}

export interface StoredEntry {
  entry: VersionEntry;
  /** sha256 of the stored bytes, hexadecimal. */
  hash: string;
}

export type AddedCorrection = VersionEntry['added'][number];

export type ActiveCorrection = AddedCorrection & {
  /**
   * Since when it holds: what an undo brought back has a version and a row that are not its first
   * ones.
   */
  version: number;
  /** The blob whose row `row` holds its pairs. */
  pairs: BlobReference;
};

/**
 * Where a correction stands among those that hold: by the version that added it first, and by its
 * row there.
 */
export type Place = Pick<ActiveCorrection, 'version' | 'row' | 'origin'>;

/**
 * What an undo brings back stands where it stood. Sums are rounded by the order of their terms, so
 * only then is what it says the same to the last bit.
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
 * The history with further entries behind it; the one given is not changed. The entries must be
 * sound (`faultsOfEntry`), each against the history before it: `check` is called with both and
 * throws where they are not.
 */
export function extended(
  history: History,
  entries: readonly StoredEntry[],
  check?: (before: History, next: StoredEntry) => void,
): History {
  if (entries.length === 0) return history;
  const after = {
    lineage: history.lineage,
    head: history.head,
    latest: history.latest,
    active: new Map(history.active),
    activeByFact: new Map(history.activeByFact),
  };
  for (const stored of entries) {
    check?.(after, stored);
    apply(after, stored);
  }
  return after;
}

/**
 * What an entry says that cannot follow this history, in words; empty when it can. The parent hash
 * is among them.
 */
export function faultsOfEntry(history: History, entry: VersionEntry): string[] {
  const faults: string[] = [];
  if (entry.lineage !== history.lineage) faults.push(`it belongs to lineage "${entry.lineage}"`);
  if (entry.version !== history.head.version + 1)
    faults.push(`it is version ${entry.version} where ${history.head.version + 1} is due`);
  if (entry.parent !== history.head.hash)
    faults.push(
      `its parent is ${entry.parent ?? 'none'}, the entry before it has hash ${history.head.hash ?? 'none'}`,
    );

  const removed = new Set<string>();
  for (const { correctionId, factKey } of entry.removed) {
    if (removed.has(correctionId)) faults.push(`it removes "${correctionId}" twice`);
    const active = history.active.get(correctionId);
    if (active === undefined) faults.push(`it removes "${correctionId}", which does not hold`);
    else if (active.factKey !== factKey)
      faults.push(`it removes "${correctionId}" as another fact than it was committed with`);
    removed.add(correctionId);
  }
  const added = new Set<string>();
  const facts = new Set<string>();
  const rows = new Set<number>();
  for (const { correctionId, factKey, row, origin } of entry.added) {
    if (origin !== undefined && (entry.undo === undefined || origin.version >= entry.version))
      faults.push(`it brings back "${correctionId}", which no undo before it could have`);
    if (origin === undefined && entry.undo !== undefined)
      faults.push(`it undoes, and adds "${correctionId}" as if it were new`);
    if (added.has(correctionId)) faults.push(`it adds "${correctionId}" twice`);
    if (history.active.has(correctionId) && !removed.has(correctionId))
      faults.push(`it adds "${correctionId}", which holds already`);
    const holder = history.activeByFact.get(factKey);
    if (facts.has(factKey) || (holder !== undefined && !removed.has(holder)))
      faults.push(`it adds "${correctionId}" to a fact that has a correction`);
    if (rows.has(row)) faults.push(`row ${row} of its pairs is two corrections'`);
    added.add(correctionId);
    facts.add(factKey);
    rows.add(row);
  }
  if (entry.added.length > 0 && entry.pairs === null)
    faults.push('it adds corrections without pairs');
  if (entry.added.length === 0 && entry.pairs !== null)
    faults.push('it has pairs of no correction');
  if (entry.added.length === 0 && entry.removed.length === 0) faults.push('it changes nothing');
  const corrections = history.active.size - removed.size + added.size;
  if (faults.length === 0 && entry.corrections !== corrections)
    faults.push(`it counts ${entry.corrections} corrections where ${corrections} hold`);
  return faults;
}

interface Draft {
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
