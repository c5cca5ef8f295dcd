/**
 * What a lineage's entries add up to: which corrections hold, which ids were ever committed, which batches are done.
 * A fold over the entries in order, so that a longer log only costs its new entries.
 */
import type { BlobReference, HeadReference } from '../schemas/editing.ts';
import type { VersionEntry } from '../schemas/version-entry.ts';

export interface History {
  readonly lineage: string;
  readonly head: HeadReference;
  /** `entries[v - 1]` is version v. */
  readonly entries: readonly StoredEntry[];
  /** The corrections that hold at HEAD by id, in the order in which they were committed. */
  readonly active: ReadonlyMap<string, ActiveCorrection>;
  /** Id of the active correction of a fact. */
  readonly activeByFact: ReadonlyMap<string, string>;
  /** Every correction and retraction ever committed, and the version that first did. */
  readonly committed: ReadonlyMap<string, number>;
  /** The latest committed revision of each fact by `issuedAt`: what an older one that comes late is measured against. */
  readonly latestByFact: ReadonlyMap<string, CommittedRevision>;
  /** The version a batch made. */
  readonly batches: ReadonlyMap<string, number>;
}

export interface StoredEntry {
  entry: VersionEntry;
  /** sha256 of the stored bytes, hexadecimal. */
  hash: string;
}

export type AddedCorrection = VersionEntry['added'][number];

export type ActiveCorrection = AddedCorrection & {
  version: number;
  /** The blob whose row `row` holds its pairs. */
  pairs: BlobReference;
};

export interface CommittedRevision {
  kind: 'correction' | 'retraction';
  id: string;
  issuedAt: number;
  version: number;
}

export function emptyHistory(lineage: string): History {
  return {
    lineage,
    head: { version: 0, hash: null },
    entries: [],
    active: new Map(),
    activeByFact: new Map(),
    committed: new Map(),
    latestByFact: new Map(),
    batches: new Map(),
  };
}

/**
 * The history with further entries behind it; the one given is not changed. The entries must be sound
 * (`faultsOfEntry`), each against the history before it: `check` is called with both and throws where they are not.
 */
export function extended(history: History, entries: readonly StoredEntry[], check?: (before: History, next: StoredEntry) => void): History {
  if (entries.length === 0) return history;
  const after = {
    lineage: history.lineage,
    head: history.head,
    entries: [...history.entries],
    active: new Map(history.active),
    activeByFact: new Map(history.activeByFact),
    committed: new Map(history.committed),
    latestByFact: new Map(history.latestByFact),
    batches: new Map(history.batches),
  };
  for (const stored of entries) {
    check?.(after, stored);
    apply(after, stored);
  }
  return after;
}

/** The history as it was when `version` was HEAD; 0 is the base model. */
export function historyAt(history: History, version: number): History {
  if (version === history.head.version) return history;
  return extended(emptyHistory(history.lineage), history.entries.slice(0, version));
}

/** What an entry says that cannot follow this history, in words; empty when it can. The parent hash is among them. */
export function faultsOfEntry(history: History, entry: VersionEntry): string[] {
  const faults: string[] = [];
  if (entry.lineage !== history.lineage) faults.push(`it belongs to lineage "${entry.lineage}"`);
  if (entry.version !== history.head.version + 1) faults.push(`it is version ${entry.version} where ${history.head.version + 1} is due`);
  if (entry.parent !== history.head.hash) faults.push(`its parent is ${entry.parent ?? 'none'}, the entry before it has hash ${history.head.hash ?? 'none'}`);
  const earlier = history.batches.get(entry.batchId);
  if (earlier !== undefined) faults.push(`batch "${entry.batchId}" already made version ${earlier}`);

  const removed = new Set<string>();
  for (const { correctionId, factKey } of entry.removed) {
    if (removed.has(correctionId)) faults.push(`it removes "${correctionId}" twice`);
    const active = history.active.get(correctionId);
    if (active === undefined) faults.push(`it removes "${correctionId}", which does not hold`);
    else if (active.factKey !== factKey) faults.push(`it removes "${correctionId}" as another fact than it was committed with`);
    removed.add(correctionId);
  }
  const added = new Set<string>();
  const facts = new Set<string>();
  const rows = new Set<number>();
  for (const { correctionId, factKey, row } of entry.added) {
    if (added.has(correctionId)) faults.push(`it adds "${correctionId}" twice`);
    if (history.active.has(correctionId) && !removed.has(correctionId)) faults.push(`it adds "${correctionId}", which holds already`);
    const holder = history.activeByFact.get(factKey);
    if (facts.has(factKey) || (holder !== undefined && !removed.has(holder))) faults.push(`it adds "${correctionId}" to a fact that has a correction`);
    if (rows.has(row)) faults.push(`row ${row} of its pairs is two corrections'`);
    added.add(correctionId);
    facts.add(factKey);
    rows.add(row);
  }
  if (entry.added.length > 0 && entry.pairs === null) faults.push('it adds corrections without pairs');
  if (entry.added.length === 0 && entry.pairs !== null) faults.push('it has pairs of no correction');
  if (entry.added.length === 0 && entry.removed.length === 0) faults.push('it changes nothing');
  const corrections = history.active.size - removed.size + added.size;
  if (faults.length === 0 && entry.corrections !== corrections) faults.push(`it counts ${entry.corrections} corrections where ${corrections} hold`);
  return faults;
}

interface Draft {
  head: HeadReference;
  entries: StoredEntry[];
  active: Map<string, ActiveCorrection>;
  activeByFact: Map<string, string>;
  committed: Map<string, number>;
  latestByFact: Map<string, CommittedRevision>;
  batches: Map<string, number>;
}

function apply(draft: Draft, stored: StoredEntry): void {
  const { entry, hash } = stored;
  const { version } = entry;
  const note = (factKey: string, revision: CommittedRevision) => {
    if (!draft.committed.has(revision.id)) draft.committed.set(revision.id, version);
    const latest = draft.latestByFact.get(factKey);
    if (latest === undefined || revision.issuedAt >= latest.issuedAt) draft.latestByFact.set(factKey, revision);
  };
  for (const { correctionId, factKey } of entry.removed) {
    draft.active.delete(correctionId);
    draft.activeByFact.delete(factKey);
  }
  for (const correction of entry.added) {
    const { correctionId: id, factKey, issuedAt } = correction;
    draft.active.set(id, { ...correction, version, pairs: entry.pairs! });
    draft.activeByFact.set(factKey, id);
    note(factKey, { kind: 'correction', id, issuedAt, version });
  }
  for (const { id, factKey, issuedAt } of entry.retractions) note(factKey, { kind: 'retraction', id, issuedAt, version });
  draft.batches.set(entry.batchId, version);
  draft.entries.push(stored);
  draft.head = { version, hash };
}
