/**
 * One lineage's versions: entries that follow one another by number and by hash, and the blobs they name. Nothing
 * written is changed; the format is in SPECIFICATION.md. HEAD is the highest entry that all lower ones precede, so it
 * is found by asking for the next number, and a reader sees a version wholly or not at all.
 */
import { createHash } from 'node:crypto';
import { LINEAGE_NAME } from '../schemas/correction.ts';
import type { BlobReference } from '../schemas/editing.ts';
import { versionEntrySchema, type VersionEntry } from '../schemas/version-entry.ts';
import { canonicalJson } from './canonical-json.ts';
import { BlobMissing, EntryRefused, VersionLogDamaged, VersionUnknown } from './failures.ts';
import { emptyHistory, extended, faultsOfEntry, historyAt, type History, type StoredEntry } from './history.ts';
import { checkObjectName, type ObjectStore } from './object-store.ts';

/** Largest entry, in bytes. */
export const ENTRY_BYTES_MAX = 16 * 2 ** 20;

/** Entries fetched at once while a long log is read; a short step asks for fewer. */
const ENTRIES_AHEAD_MAX = 16;

/** Histories of earlier versions kept: those that are pinned or compared with. */
const PAST_HISTORIES_MAX = 4;

export type AppendResult = { kind: 'appended'; hash: string } | { kind: 'exists'; entry: VersionEntry; hash: string };

export class VersionLog {
  readonly #store: ObjectStore;
  #known: History;
  #reading: Promise<History> | null = null;
  readonly #past = new Map<number, History>();

  /** A log without entries needs no creating. Throws `ObjectNameInvalid` for a name no lineage may have. */
  constructor(
    store: ObjectStore,
    readonly lineage: string,
  ) {
    checkObjectName(LINEAGE_NAME.test(lineage) ? lineage : '');
    this.#store = store;
    this.#known = emptyHistory(lineage);
  }

  /** The history up to HEAD, as it is now in the store. Throws `VersionLogDamaged`. */
  read(): Promise<History> {
    this.#reading ??= this.#readOn().finally(() => (this.#reading = null));
    return this.#reading;
  }

  /** The history as of a version; reads on when the version is not known yet. Throws `VersionUnknown`. */
  async at(version: number): Promise<History> {
    let history = this.#known;
    if (version > history.head.version) history = await this.read();
    if (!Number.isInteger(version) || version < 0 || version > history.head.version) throw new VersionUnknown(this.lineage, version, history.head.version);
    if (version === history.head.version) return history;
    const past = this.#past.get(version) ?? historyAt(history, version);
    this.#past.delete(version);
    this.#past.set(version, past);
    if (this.#past.size > PAST_HISTORIES_MAX) this.#past.delete(this.#past.keys().next().value!);
    return past;
  }

  /**
   * Writes the entry of version HEAD + 1, unless another has come first ('exists', with what is there). Throws
   * `EntryRefused` where the entry cannot follow HEAD, before anything is written.
   */
  async append(entry: VersionEntry): Promise<AppendResult> {
    const history = await this.at(entry.version - 1).catch(async (fault: unknown) => {
      if (fault instanceof VersionUnknown) throw new EntryRefused(this.lineage, entry.version, [`HEAD is ${fault.head}`]);
      throw fault;
    });
    const checked = versionEntrySchema.safeParse(entry);
    const faults = checked.success ? faultsOfEntry(history, entry) : checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    if (faults.length > 0) throw new EntryRefused(this.lineage, entry.version, faults);
    const bytes = canonicalJson(checked.data);
    if (bytes.byteLength > ENTRY_BYTES_MAX) throw new EntryRefused(this.lineage, entry.version, [`it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`]);
    const result = await this.#store.putIfAbsent(entryName(this.lineage, entry.version), bytes);
    if (result === 'stored') return { kind: 'appended', hash: sha256(bytes) };
    const present = await this.at(entry.version);
    return { kind: 'exists', ...present.entries[entry.version - 1]! };
  }

  /** Writes a blob under the hash of its bytes; doing it twice is doing it once. */
  async putBlob(bytes: Uint8Array): Promise<BlobReference> {
    const reference = { sha256: sha256(bytes), bytes: bytes.byteLength };
    await this.#store.putIfAbsent(blobName(this.lineage, reference.sha256), bytes);
    return reference;
  }

  /** A blob's bytes, checked against the hash. Throws `BlobMissing` or `VersionLogDamaged`. */
  async getBlob(reference: BlobReference): Promise<Uint8Array> {
    const name = blobName(this.lineage, reference.sha256);
    const bytes = await this.#store.get(name);
    if (bytes === null) throw new BlobMissing(this.lineage, reference.sha256);
    if (bytes.byteLength !== reference.bytes) throw new VersionLogDamaged(this.lineage, name, `it has ${bytes.byteLength} bytes where ${reference.bytes} are due`);
    const found = sha256(bytes);
    if (found !== reference.sha256) throw new VersionLogDamaged(this.lineage, name, `its content hashes to ${found}`);
    return bytes;
  }

  /** Deletes a blob that no entry names; true where it did. Only for what the caller staged itself. */
  async deleteUnreferenced(reference: BlobReference): Promise<boolean> {
    const { entries } = await this.read();
    const named = entries.some(({ entry }) => entry.pairs?.sha256 === reference.sha256 || entry.probes.details.sha256 === reference.sha256);
    if (!named) await this.#store.delete(blobName(this.lineage, reference.sha256));
    return !named;
  }

  async #readOn(): Promise<History> {
    for (let ahead = 1; ; ahead = Math.min(ahead * 2, ENTRIES_AHEAD_MAX)) {
      const first = this.#known.head.version + 1;
      const fetched = await Promise.all(Array.from({ length: ahead }, (_, i) => this.#store.get(entryName(this.lineage, first + i))));
      const end = fetched.indexOf(null);
      const found = (end === -1 ? fetched : fetched.slice(0, end)).map((bytes, i) => this.#parsed(first + i, bytes!));
      this.#known = extended(this.#known, found, (before, next) => this.#check(before, next));
      if (end !== -1) return this.#known;
    }
  }

  #parsed(version: number, bytes: Uint8Array): StoredEntry {
    const damaged = (what: string) => new VersionLogDamaged(this.lineage, entryName(this.lineage, version), what);
    if (bytes.byteLength > ENTRY_BYTES_MAX) throw damaged(`it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`);
    let json: unknown;
    try {
      json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (fault) {
      throw damaged(`it is no JSON (${fault instanceof Error ? fault.message : String(fault)})`);
    }
    const checked = versionEntrySchema.safeParse(json);
    if (!checked.success) throw damaged(checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '));
    return { entry: checked.data, hash: sha256(bytes) };
  }

  #check(before: History, { entry }: StoredEntry): void {
    const faults = faultsOfEntry(before, entry);
    if (faults.length > 0) throw new VersionLogDamaged(this.lineage, entryName(this.lineage, before.head.version + 1), faults.join('; '));
  }
}

export function entryName(lineage: string, version: number): string {
  return `lineages/${lineage}/log/${String(version).padStart(20, '0')}.json`;
}

export function blobName(lineage: string, hash: string): string {
  return `lineages/${lineage}/blobs/${hash.slice(0, 2)}/${hash}`;
}

/** Hexadecimal. */
export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
