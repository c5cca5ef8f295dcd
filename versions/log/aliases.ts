/**
 * The aliases of a lineage: names for versions that can be moved. Every move is a sealed object of
 * its own, numbered from 1 without a hole, put if absent; the last word on an alias says where it
 * stands. Rules 27 to 29 of SPECIFICATION.md.
 */
import { aliasRecordSchema, type AliasRecord } from '../../schemas/alias.ts';
import { VersionLogDamaged } from './failures.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { sealed, unsealed } from './sealed.ts';

/** Words asked for at once while a long sequence is read; whoever follows asks for one. */
const WORDS_AHEAD_MAX = 16;

export class Aliases {
  readonly #store: ObjectStore;
  readonly #lineage: string;
  readonly #words: AliasRecord[] = [];
  readonly #standing = new Map<string, AliasRecord>();
  #reading: Promise<void> | null = null;

  constructor(store: ObjectStore, lineage: string) {
    this.#store = store;
    this.#lineage = lineage;
  }

  /** All words so far, in their order. */
  get records(): readonly AliasRecord[] {
    return this.#words;
  }

  /** The last word on each alias. */
  get current(): ReadonlyMap<string, AliasRecord> {
    return this.#standing;
  }

  /**
   * Reads what was said since. Where nothing was, that is one look-up. Throws `VersionLogDamaged`;
   * what was read before stays.
   */
  async readOn(): Promise<void> {
    this.#reading ??= this.#follow().finally(() => (this.#reading = null));
    await this.#reading;
  }

  /** Says a word as the one after those that were read; false where another came first. */
  async say(word: AliasRecord): Promise<boolean> {
    return (
      (await this.#store.putIfAbsent(
        aliasRecordName(this.#lineage, this.#words.length + 1),
        sealed(word),
      )) === 'stored'
    );
  }

  async #follow(): Promise<void> {
    for (let ahead = 1; ; ahead = Math.min(ahead * 2, WORDS_AHEAD_MAX)) {
      const names = Array.from({ length: ahead }, (_, i) =>
        aliasRecordName(this.#lineage, this.#words.length + 1 + i),
      );
      const found = await Promise.all(names.map((name) => this.#store.get(name)));
      for (const [i, bytes] of found.entries()) {
        if (bytes === null) return;
        const word = this.#parsed(names[i]!, bytes);
        this.#words.push(word);
        this.#standing.set(word.alias, word);
      }
    }
  }

  #parsed(name: string, bytes: Uint8Array): AliasRecord {
    try {
      return aliasRecordSchema.parse(unsealed(bytes));
    } catch (fault) {
      throw new VersionLogDamaged(
        this.#lineage,
        name,
        fault instanceof Error ? fault.message : String(fault),
      );
    }
  }
}

export function aliasRecordName(lineage: string, sequence: number): string {
  return `lineages/${lineage}/aliases/${String(sequence).padStart(20, '0')}.json`;
}
