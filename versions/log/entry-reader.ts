/** Reads and checks the entries of one lineage (rules 12 to 15 of SPECIFICATION.md). */
import { boundedJson } from '../../schemas/encoding/bounded-json.ts';
import type { HeadReference } from '../../schemas/editing.ts';
import { faultsFound, firstFaults } from '../../schemas/encoding/excerpt.ts';
import { versionEntrySchema } from '../../schemas/version-entry.ts';
import { readAhead, type ObjectStore } from '../stores/object-store.ts';
import { VersionLogDamaged } from './failures.ts';
import { extended, faultsOfEntry, type History, type StoredEntry } from './history.ts';
import { entryName, sha256 } from './object-names.ts';
import { parsedOf } from './sealed.ts';

/** Largest entry, in bytes. */
export const ENTRY_BYTES_MAX = 16 * 2 ** 20;

/** JSON values in an entry, at most some seventy per correction, and their nesting depth. */
export const ENTRY_JSON_LIMITS = { valuesMax: 1_000_000, depthMax: 32 };

/** Entries fetched at once. */
const PIECE_ENTRIES_MAX = 16;

interface FoldedPiece {
  history: History;
  /** The entries that extended the history to this one. */
  entries: StoredEntry[];
}

export class EntryReader {
  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
  ) {}

  /** Extends the history piece by piece with the stored entries through version `last`. */
  async *fold(history: History, last = Infinity): AsyncGenerator<FoldedPiece> {
    const nameOf = (version: number) => entryName(this.lineage, version);
    for await (const piece of readAhead(this.store, nameOf, history.head.version + 1, last)) {
      let next: FoldedPiece;
      try {
        next = this.#extend(history, piece);
      } catch (fault) {
        // Entries before the damaged one are still good, so they are taken one by one.
        for (const bytes of piece) {
          const single = this.#extend(history, [bytes]);
          history = single.history;
          yield single;
        }
        throw fault;
      }
      history = next.history;
      yield next;
    }
  }

  /** Yields entries up to HEAD, each checked against the parent hash that its successor names. */
  async *range(first: number, last: number, head: HeadReference): AsyncGenerator<StoredEntry> {
    for (let from = Math.max(1, first); from <= last; from += PIECE_ENTRIES_MAX) {
      const through = Math.min(from + PIECE_ENTRIES_MAX - 1, last);
      const length = Math.min(through + 1, head.version) - from + 1;
      const found = await Promise.all(Array.from({ length }, (_, i) => this.#stored(from + i)));
      for (const [i, { entry, hash }] of found.entries()) {
        if (entry.version > through) break;
        const named = entry.version === head.version ? head.hash : found[i + 1]!.entry.parent;
        if (named !== hash)
          throw this.#damaged(
            entry.version,
            `it hashes to ${hash}, its successor names ${named ?? 'no parent'}`,
          );
      }
      yield* found.slice(0, through - from + 1);
    }
  }

  /** Throws `VersionLogDamaged` where the bytes are not an entry within the limits. */
  parse(version: number, bytes: Uint8Array): StoredEntry {
    if (bytes.byteLength > ENTRY_BYTES_MAX)
      throw this.#damaged(
        version,
        `it has ${bytes.byteLength} bytes, at most ${ENTRY_BYTES_MAX} are allowed`,
      );
    const json = parsedOf(this.lineage, entryName(this.lineage, version), () =>
      boundedJson(bytes, ENTRY_JSON_LIMITS),
    );
    const checked = versionEntrySchema.safeParse(json);
    if (!checked.success) throw this.#damaged(version, firstFaults(faultsFound(checked.error)));
    return { entry: checked.data, hash: sha256(bytes) };
  }

  #extend(history: History, piece: readonly Uint8Array[]): FoldedPiece {
    const entries = piece.map((bytes, i) => this.parse(history.head.version + 1 + i, bytes));
    const check = (before: History, { entry }: StoredEntry): void => {
      const faults = faultsOfEntry(before, entry);
      if (faults.length > 0) throw this.#damaged(before.head.version + 1, firstFaults(faults));
    };
    return { history: extended(history, entries, check), entries };
  }

  async #stored(version: number): Promise<StoredEntry> {
    const bytes = await this.store.get(entryName(this.lineage, version));
    if (bytes === null) throw this.#damaged(version, 'it is missing');
    return this.parse(version, bytes);
  }

  #damaged(version: number, what: string): VersionLogDamaged {
    return new VersionLogDamaged(this.lineage, entryName(this.lineage, version), what);
  }
}
