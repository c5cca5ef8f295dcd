/**
 * One lineage's versions: entries that follow one another by number and by hash, and the blobs they
 * name. Nothing written is changed; the format is in SPECIFICATION.md. HEAD is the highest entry
 * that all lower ones precede, so it is found by asking for the next number, and a reader sees a
 * version wholly or not at all.
 */
import { createHash } from 'node:crypto';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { aliasRecordSchema, type AliasMove, type AliasMoved } from '../../schemas/alias.ts';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import type { BlobReference, HeadReference } from '../../schemas/editing.ts';
import { firstFaults } from '../../schemas/encoding/excerpt.ts';
import { versionEntrySchema, type VersionEntry } from '../../schemas/version-entry.ts';
import { Aliases } from './aliases.ts';
import { canonicalJson } from './canonical-json.ts';
import {
  BlobMissing,
  EntryRefused,
  StagingGone,
  VersionLogDamaged,
  VersionUnknown,
} from './failures.ts';
import {
  emptyHistory,
  extended,
  faultsOfEntry,
  type History,
  type StoredEntry,
} from './history.ts';
import { checkObjectName, type ObjectStore } from '../stores/object-store.ts';
import { Register } from './register.ts';

/** Largest entry, in bytes. */
export const ENTRY_BYTES_MAX = 16 * 2 ** 20;

/** Values in an entry, some seventy a correction at most, and how deeply they may be nested. */
export const ENTRY_JSON_LIMITS = { valuesMax: 1_000_000, depthMax: 32 };

/** Entries fetched at once while a long log is read; a short step asks for fewer. */
const ENTRIES_AHEAD_MAX = 16;

/** Objects of a batch's staging deleted at once. */
const DELETIONS_AT_ONCE_MAX = 16;

/** Histories of earlier versions kept: those that are pinned or compared with. */
const PAST_HISTORIES_MAX = 4;

/** Times a word on an alias may find that another came first. */
const ALIAS_TRIES_MAX = 100;

export type AppendResult =
  { kind: 'appended'; hash: string } | { kind: 'exists'; entry: VersionEntry; hash: string };

export class VersionLog {
  readonly #store: ObjectStore;
  #known: History;
  #reading: Promise<History> | null = null;
  readonly #past = new Map<number, History>();
  readonly #register: Register;
  readonly #aliases: Aliases;

  /**
   * A log without entries needs no creating. Throws `ObjectNameInvalid` for a name no lineage may
   * have.
   */
  constructor(
    store: ObjectStore,
    readonly lineage: string,
  ) {
    checkObjectName(LINEAGE_NAME.test(lineage) ? lineage : '');
    this.#store = store;
    this.#known = emptyHistory(lineage);
    this.#register = new Register(store, lineage);
    this.#aliases = new Aliases(store, lineage);
  }

  /** The history up to HEAD, as it is now in the store. Throws `VersionLogDamaged`. */
  read(): Promise<History> {
    this.#reading ??= this.#readOn().finally(() => (this.#reading = null));
    return this.#reading;
  }

  /**
   * The history up to the last version before the first damaged one, and the damage, for who only
   * reads answers: those before it stay good.
   */
  async readSound(): Promise<{ history: History; damage: VersionLogDamaged | null }> {
    try {
      return { history: await this.read(), damage: null };
    } catch (fault) {
      if (fault instanceof VersionLogDamaged) return { history: this.#known, damage: fault };
      throw fault;
    }
  }

  /**
   * The history that reaches a version, however the versions behind it are; HEAD's where there is
   * no such version.
   */
  async #reaching(version: number): Promise<History> {
    if (version <= this.#known.head.version) return this.#known;
    const { history, damage } = await this.readSound();
    if (damage !== null && history.head.version < version) throw damage;
    return history;
  }

  /**
   * The history as of a version; reads on when the version is not known yet, and all of it once
   * more for a version that lies behind and is none of the last few asked for. Throws
   * `VersionUnknown`.
   */
  async at(version: number): Promise<History> {
    const history = await this.#reaching(version);
    if (!Number.isInteger(version) || version < 0 || version > history.head.version)
      throw new VersionUnknown(this.lineage, version, history.head.version);
    if (version === history.head.version) return history;
    const past = this.#past.get(version) ?? (await this.#refold(version));
    this.#past.delete(version);
    this.#past.set(version, past);
    if (this.#past.size > PAST_HISTORIES_MAX) this.#past.delete(this.#past.keys().next().value!);
    return past;
  }

  /**
   * One entry. Its hash is the parent that the entry after it names, or HEAD's. Throws
   * `VersionUnknown` and `VersionLogDamaged`.
   */
  async entry(version: number): Promise<StoredEntry> {
    const history = await this.#reaching(version);
    if (!Number.isInteger(version) || version < 1 || version > history.head.version)
      throw new VersionUnknown(this.lineage, version, history.head.version);
    if (version === history.head.version) return history.latest!;
    const [stored, next] = await Promise.all([
      this.#stored(version),
      version + 1 === history.head.version ? history.latest! : this.#stored(version + 1),
    ]);
    if (next.entry.parent !== stored.hash)
      throw new VersionLogDamaged(
        this.lineage,
        entryName(this.lineage, version),
        `it hashes to ${stored.hash}, version ${version + 1} names ${next.entry.parent ?? 'none'}`,
      );
    return stored;
  }

  /** The entries of versions `first` to `last`, those there are, in order. */
  async entries(first: number, last: number): Promise<StoredEntry[]> {
    const { head } = await this.#reaching(last);
    const entries: StoredEntry[] = [];
    for (
      let version = Math.max(1, first);
      version <= Math.min(last, head.version);
      version += ENTRIES_AHEAD_MAX
    ) {
      const piece = Array.from(
        { length: Math.min(ENTRIES_AHEAD_MAX, Math.min(last, head.version) - version + 1) },
        (_, i) => this.entry(version + i),
      );
      entries.push(...(await Promise.all(piece)));
    }
    return entries;
  }

  /**
   * The entries from version `first` to HEAD, in order. Whoever begins with it reads each once, and
   * knows HEAD afterwards.
   */
  async *walk(first = 1): AsyncIterable<StoredEntry> {
    const known = this.#known;
    for (
      let version = Math.max(1, first);
      version <= known.head.version;
      version += ENTRIES_AHEAD_MAX
    )
      yield* await this.#piece(version, known.head);
    for await (const { history, entries } of this.#foldedFrom(known, Number.MAX_SAFE_INTEGER)) {
      if (history.head.version > this.#known.head.version) this.#known = history;
      yield* entries.filter(({ entry }) => entry.version >= first);
    }
  }

  /**
   * The register as it is in the store, for who only reads: of the last versions it may not tell
   * yet.
   */
  get registered(): Register {
    return this.#register;
  }

  /** What became of every revision, up to HEAD as it is now in the store. */
  async register(): Promise<Register> {
    const { head } = await this.read();
    await this.#register.completeTo(head.version, (version) => this.entry(version));
    return this.#register;
  }

  /** The aliases as they now stand in the store. */
  async aliases(): Promise<Aliases> {
    await this.#aliases.readOn();
    return this.#aliases;
  }

  /** The aliases as far as they can be read, and the damage behind that. */
  async readAliases(): Promise<{ aliases: Aliases; damage: VersionLogDamaged | null }> {
    try {
      return { aliases: await this.aliases(), damage: null };
    } catch (fault) {
      if (fault instanceof VersionLogDamaged) return { aliases: this.#aliases, damage: fault };
      throw fault;
    }
  }

  /**
   * Moves an alias to a version that there is. The same id twice is one move, whoever is killed in
   * between.
   */
  async moveAlias({ takesBack, ...move }: AliasMove): Promise<AliasMoved> {
    const checked = aliasRecordSchema.safeParse({ ...move, at: Date.now() });
    if (!checked.success)
      return {
        kind: 'refused',
        reason: firstFaults(
          checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`),
        ),
      };
    const word = checked.data;
    for (let tries = 0; tries < ALIAS_TRIES_MAX; tries++) {
      const { records: words, current: standing } = await this.aliases();
      const said = words.find(({ id }) => id === word.id);
      if (said !== undefined)
        return said.alias === word.alias && said.version === word.version
          ? { kind: 'moved', record: said }
          : {
              kind: 'refused',
              reason: `"${word.id}" moved alias ${said.alias} to ${said.version === null ? 'HEAD' : `version ${said.version}`} already`,
            };
      const last = standing.get(word.alias) ?? null;
      if (takesBack !== undefined && last?.id !== takesBack)
        return { kind: 'overtaken', record: last };
      const head = word.version === null ? 0 : (await this.readSound()).history.head.version;
      if (word.version !== null && word.version > head)
        return {
          kind: 'refused',
          reason: `version ${word.version} does not exist; the newest that can be read is ${head}`,
        };
      if (await this.#aliases.say(word)) return { kind: 'moved', record: word };
    }
    return {
      kind: 'refused',
      reason: `others moved aliases ${ALIAS_TRIES_MAX} times meanwhile; try again`,
    };
  }

  /**
   * Writes the entry of version HEAD + 1, unless another has come first ('exists', with what is
   * there). Throws `EntryRefused` where the entry cannot follow HEAD, before anything is written.
   */
  async append(entry: VersionEntry): Promise<AppendResult> {
    const history = await this.at(entry.version - 1).catch(async (fault: unknown) => {
      if (fault instanceof VersionUnknown)
        throw new EntryRefused(this.lineage, entry.version, [`HEAD is ${fault.head}`]);
      throw fault;
    });
    const checked = versionEntrySchema.safeParse(entry);
    const faults = checked.success
      ? faultsOfEntry(history, entry)
      : checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    const made =
      faults.length > 0 ? null : await (await this.register()).versionOfBatch(entry.batchId);
    if (made !== null && made < entry.version)
      faults.push(`batch "${entry.batchId}" already made version ${made}`);
    if (faults.length > 0) throw new EntryRefused(this.lineage, entry.version, faults);
    const bytes = canonicalJson(checked.data);
    if (bytes.byteLength > ENTRY_BYTES_MAX)
      throw new EntryRefused(this.lineage, entry.version, [
        `it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`,
      ]);
    // Written, it would be one that nobody reads.
    this.#parsed(entry.version, bytes);
    const result = await this.#store.putIfAbsent(entryName(this.lineage, entry.version), bytes);
    if (result === 'stored') return { kind: 'appended', hash: sha256(bytes) };
    return { kind: 'exists', ...(await this.entry(entry.version)) };
  }

  /** Writes a blob under the hash of its bytes, for good; doing it twice is doing it once. */
  async putBlob(bytes: Uint8Array): Promise<BlobReference> {
    const reference = { sha256: sha256(bytes), bytes: bytes.byteLength };
    await this.#store.putIfAbsent(blobName(this.lineage, reference.sha256), bytes);
    return reference;
  }

  /**
   * Writes a blob that a batch needs on its way; parts of a batch (`<batch>.<part>`) stage together
   * with it.
   */
  async stageBlob(batchId: string, bytes: Uint8Array): Promise<BlobReference> {
    const reference = {
      sha256: sha256(bytes),
      bytes: bytes.byteLength,
      staged: batchId.split('.')[0]!,
    };
    await this.#store.putIfAbsent(nameOf(this.lineage, reference), bytes);
    return reference;
  }

  /**
   * The blob, kept for good, so that a version may name it. What is kept is never deleted, whoever
   * discards what was staged. Throws `StagingGone`.
   */
  async keepBlob(reference: BlobReference): Promise<BlobReference> {
    return await this.putBlob(await this.getBlob(reference));
  }

  /** Deletes what a batch staged. */
  async discardStaged(batchId: string): Promise<void> {
    const names: string[] = [];
    for await (const name of this.#store.list(stagingFolder(this.lineage, batchId.split('.')[0]!)))
      names.push(name);
    for (let first = 0; first < names.length; first += DELETIONS_AT_ONCE_MAX)
      await Promise.all(
        names.slice(first, first + DELETIONS_AT_ONCE_MAX).map((name) => this.#store.delete(name)),
      );
  }

  /**
   * A blob's bytes, checked against the hash. Throws `BlobMissing`, `StagingGone` or
   * `VersionLogDamaged`.
   */
  async getBlob(reference: BlobReference): Promise<Uint8Array> {
    const name = nameOf(this.lineage, reference);
    const bytes = await this.#store.get(name);
    if (bytes === null)
      throw reference.staged === undefined
        ? new BlobMissing(this.lineage, reference.sha256)
        : new StagingGone(this.lineage, reference.staged);
    if (bytes.byteLength !== reference.bytes)
      throw new VersionLogDamaged(
        this.lineage,
        name,
        `it has ${bytes.byteLength} bytes where ${reference.bytes} are due`,
      );
    const found = sha256(bytes);
    if (found !== reference.sha256)
      throw new VersionLogDamaged(this.lineage, name, `its content hashes to ${found}`);
    return bytes;
  }

  async #readOn(): Promise<History> {
    for await (const { history } of this.#foldedFrom(this.#known, Number.MAX_SAFE_INTEGER))
      if (history.head.version > this.#known.head.version) this.#known = history;
    return this.#known;
  }

  async #refold(version: number): Promise<History> {
    let history = emptyHistory(this.lineage);
    for await (const next of this.#foldedFrom(history, version)) history = next.history;
    return history;
  }

  /** The history extended by what follows it in the store, piece by piece, up to version `last`. */
  async *#foldedFrom(
    history: History,
    last: number,
  ): AsyncIterable<{ history: History; entries: StoredEntry[] }> {
    let ahead = 1;
    while (history.head.version < last) {
      const first = history.head.version + 1;
      const fetched = await Promise.all(
        Array.from({ length: Math.min(ahead, last - history.head.version) }, (_, i) =>
          this.#store.get(entryName(this.lineage, first + i)),
        ),
      );
      const end = fetched.indexOf(null);
      let next: History;
      let found: StoredEntry[];
      try {
        found = (end === -1 ? fetched : fetched.slice(0, end)).map((bytes, i) =>
          this.#parsed(first + i, bytes!),
        );
        next = extended(history, found, (before, stored) => this.#check(before, stored));
      } catch (fault) {
        if (ahead === 1) throw fault;
        // Those before the damaged one stay good, so they are taken one by one.
        ahead = 1;
        continue;
      }
      history = next;
      yield { history, entries: found };
      if (end !== -1) return;
      ahead = Math.min(ahead * 2, ENTRIES_AHEAD_MAX);
    }
  }

  /**
   * Entries from a version on, at most so many as are read ahead, each checked against the one
   * behind it or against HEAD.
   */
  async #piece(first: number, head: HeadReference): Promise<StoredEntry[]> {
    const last = Math.min(first + ENTRIES_AHEAD_MAX - 1, head.version);
    const found = await Promise.all(
      Array.from({ length: Math.min(last + 1, head.version) - first + 1 }, (_, i) =>
        this.#stored(first + i),
      ),
    );
    found.forEach(({ entry, hash }, i) => {
      const due = found[i + 1]?.entry.parent ?? (entry.version === head.version ? head.hash : hash);
      if (due !== hash)
        throw new VersionLogDamaged(
          this.lineage,
          entryName(this.lineage, entry.version),
          `it hashes to ${hash}, what follows names ${due ?? 'none'}`,
        );
    });
    return found.slice(0, last - first + 1);
  }

  async #stored(version: number): Promise<StoredEntry> {
    const name = entryName(this.lineage, version);
    const bytes = await this.#store.get(name);
    if (bytes === null) throw new VersionLogDamaged(this.lineage, name, 'it is gone');
    return this.#parsed(version, bytes);
  }

  #parsed(version: number, bytes: Uint8Array): StoredEntry {
    const damaged = (what: string) =>
      new VersionLogDamaged(this.lineage, entryName(this.lineage, version), what);
    if (bytes.byteLength > ENTRY_BYTES_MAX)
      throw damaged(`it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`);
    let json: unknown;
    try {
      json = boundedJson(bytes, ENTRY_JSON_LIMITS);
    } catch (fault) {
      if (fault instanceof UnsoundJson) throw damaged(fault.reason);
      throw fault;
    }
    const checked = versionEntrySchema.safeParse(json);
    if (!checked.success)
      throw damaged(
        firstFaults(
          checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`),
        ),
      );
    return { entry: checked.data, hash: sha256(bytes) };
  }

  #check(before: History, { entry }: StoredEntry): void {
    const faults = faultsOfEntry(before, entry);
    if (faults.length > 0)
      throw new VersionLogDamaged(
        this.lineage,
        entryName(this.lineage, before.head.version + 1),
        firstFaults(faults),
      );
  }
}

export function entryName(lineage: string, version: number): string {
  return `lineages/${lineage}/log/${String(version).padStart(20, '0')}.json`;
}

function nameOf(lineage: string, { sha256, staged }: BlobReference): string {
  return staged === undefined
    ? blobName(lineage, sha256)
    : `${stagingFolder(lineage, staged)}${sha256}`;
}

function stagingFolder(lineage: string, batchId: string): string {
  return `lineages/${lineage}/staging/${batchId}/`;
}

export function blobName(lineage: string, hash: string): string {
  return `lineages/${lineage}/blobs/${hash.slice(0, 2)}/${hash}`;
}

/** Hexadecimal. */
export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
