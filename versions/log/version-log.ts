/**
 * One lineage's versions: entries linked by number and by hash, and the blobs they name. Objects
 * are never changed; SPECIFICATION.md describes the format. HEAD is the highest entry that all
 * lower ones precede. It is found by requesting the next number, and a version becomes visible as a
 * whole.
 */
import { LRUCache } from 'lru-cache';
import type { AliasMove, AliasMoved } from '../../schemas/alias.ts';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { faultsFound } from '../../schemas/encoding/excerpt.ts';
import { versionEntrySchema, type VersionEntry } from '../../schemas/version-entry.ts';
import { checkObjectName, type ObjectStore } from '../stores/object-store.ts';
import { Aliases } from './aliases.ts';
import { Blobs } from './blobs.ts';
import { canonicalJson } from './canonical-json.ts';
import { ENTRY_BYTES_MAX, EntryReader } from './entry-reader.ts';
import { EntryRefused, VersionLogDamaged, VersionUnknown } from './failures.ts';
import { emptyHistory, faultsOfEntry, type History, type StoredEntry } from './history.ts';
import { entryName, sha256 } from './object-names.ts';
import { Register } from './register.ts';

/** Kept histories of earlier versions: those that are pinned or compared. */
const PAST_HISTORIES_MAX = 4;

type AppendResult =
  { kind: 'appended'; hash: string } | { kind: 'exists'; entry: VersionEntry; hash: string };

export class VersionLog {
  readonly blobs: Blobs;
  readonly #reader: EntryReader;
  readonly #register: Register;
  readonly #aliases: Aliases;
  readonly #past = new LRUCache<number, History>({ max: PAST_HISTORIES_MAX });
  #known: History;
  #reading: Promise<History> | null = null;

  /** Throws `ObjectNameInvalid` for an invalid lineage name. An empty log needs no creation. */
  constructor(
    private readonly store: ObjectStore,
    readonly lineage: string,
  ) {
    checkObjectName(LINEAGE_NAME.test(lineage) ? lineage : '');
    this.#known = emptyHistory(lineage);
    this.#reader = new EntryReader(store, lineage);
    this.blobs = new Blobs(store, lineage);
    this.#register = new Register(store, lineage);
    this.#aliases = new Aliases(store, lineage);
  }

  /** Reads the history up to HEAD. Throws `VersionLogDamaged`. */
  read(): Promise<History> {
    this.#reading ??= this.#readOn().finally(() => (this.#reading = null));
    return this.#reading;
  }

  /** Reads the history up to the last version before any damage, and returns both. */
  async readSound(): Promise<{ history: History; damage: VersionLogDamaged | null }> {
    const damage = await damageOf(this.read());
    return { history: this.#known, damage };
  }

  /**
   * Returns the history at a version, rereading the log unless the version was requested lately.
   * Throws `VersionUnknown` and `VersionLogDamaged`.
   */
  async at(version: number): Promise<History> {
    const history = await this.#reaching(version);
    this.#requireVersion(version, 0, history);
    if (version === history.head.version) return history;
    let past = this.#past.get(version);
    if (past === undefined) {
      past = emptyHistory(this.lineage);
      for await (const next of this.#reader.fold(past, version)) past = next.history;
      this.#past.set(version, past);
    }
    return past;
  }

  /** Reads one entry, checked by its hash. Throws `VersionUnknown` and `VersionLogDamaged`. */
  async entry(version: number): Promise<StoredEntry> {
    const { head, latest } = this.#requireVersion(version, 1, await this.#reaching(version));
    if (version === head.version) return latest!;
    for await (const stored of this.#reader.range(version, version, head)) return stored;
    throw new VersionUnknown(this.lineage, version, head.version);
  }

  async entries(first: number, last: number): Promise<StoredEntry[]> {
    const { head } = await this.#reaching(last);
    const entries: StoredEntry[] = [];
    for await (const stored of this.#reader.range(first, Math.min(last, head.version), head))
      entries.push(stored);
    return entries;
  }

  /** Yields the entries from version `first` to HEAD, each once; HEAD is known afterwards. */
  async *walk(first = 1): AsyncIterable<StoredEntry> {
    const known = this.#known;
    yield* this.#reader.range(first, known.head.version, known.head);
    for await (const { history, entries } of this.#reader.fold(known)) {
      this.#advance(history);
      yield* entries.filter(({ entry }) => entry.version >= first);
    }
  }

  /** The register as stored, for readers; it may lack the last versions. */
  get registered(): Register {
    return this.#register;
  }

  async register(): Promise<Register> {
    const { head } = await this.read();
    await this.#register.completeTo(head.version, (version) => this.entry(version));
    return this.#register;
  }

  /** Reads the aliases. Throws `VersionLogDamaged`. */
  async aliases(): Promise<Aliases> {
    await this.#aliases.readOn();
    return this.#aliases;
  }

  /** Reads the aliases up to any damage, and returns both. */
  async readAliases(): Promise<{ aliases: Aliases; damage: VersionLogDamaged | null }> {
    const damage = await damageOf(this.#aliases.readOn());
    return { aliases: this.#aliases, damage };
  }

  /** Moves an alias to an existing version; repeating a move with the same id has no effect. */
  async moveAlias(move: AliasMove): Promise<AliasMoved> {
    return await this.#aliases.move(move, async () => {
      const { history } = await this.readSound();
      return history.head.version;
    });
  }

  /**
   * Writes the entry of version HEAD + 1. If another came first, returns 'exists' with that entry.
   * Throws `EntryRefused`, before anything is written, where the entry cannot follow HEAD.
   */
  async append(entry: VersionEntry): Promise<AppendResult> {
    const { version, batchId } = entry;
    const refuse = (faults: string[]): never => {
      throw new EntryRefused(this.lineage, version, faults);
    };
    const history = await this.at(version - 1).catch((fault: unknown) => {
      if (fault instanceof VersionUnknown) return refuse([`HEAD is ${fault.head}`]);
      throw fault;
    });
    const checked = versionEntrySchema.safeParse(entry);
    if (!checked.success) return refuse(faultsFound(checked.error));
    const faults = faultsOfEntry(history, entry);
    if (faults.length > 0) return refuse(faults);
    const made = await (await this.register()).versionOfBatch(batchId);
    if (made !== null && made < version)
      return refuse([`batch "${batchId}" already made version ${made}`]);
    const bytes = canonicalJson(checked.data);
    if (bytes.byteLength > ENTRY_BYTES_MAX)
      return refuse([`it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`]);
    // Readers would reject an entry beyond the limits.
    this.#reader.parse(version, bytes);
    const result = await this.store.putIfAbsent(entryName(this.lineage, version), bytes);
    if (result === 'stored') return { kind: 'appended', hash: sha256(bytes) };
    return { kind: 'exists', ...(await this.entry(version)) };
  }

  async #readOn(): Promise<History> {
    for await (const { history } of this.#reader.fold(this.#known)) this.#advance(history);
    return this.#known;
  }

  #advance(history: History): void {
    if (history.head.version > this.#known.head.version) this.#known = history;
  }

  /** Returns a history that reaches the version, or that of HEAD; ignores later damage. */
  async #reaching(version: number): Promise<History> {
    if (version <= this.#known.head.version) return this.#known;
    const { history, damage } = await this.readSound();
    if (damage !== null && history.head.version < version) throw damage;
    return history;
  }

  #requireVersion(version: number, least: number, history: History): History {
    if (!Number.isInteger(version) || version < least || version > history.head.version)
      throw new VersionUnknown(this.lineage, version, history.head.version);
    return history;
  }
}

async function damageOf(reading: Promise<unknown>): Promise<VersionLogDamaged | null> {
  try {
    await reading;
    return null;
  } catch (fault) {
    if (fault instanceof VersionLogDamaged) return fault;
    throw fault;
  }
}
