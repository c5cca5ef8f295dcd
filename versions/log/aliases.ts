/**
 * The aliases of a lineage: movable names for versions. Every move is a sealed record, numbered
 * from 1 without a gap and put if absent. An alias's last record is current. Rules 27 to 29 of
 * SPECIFICATION.md.
 */
import {
  aliasRecordSchema,
  type AliasMove,
  type AliasMoved,
  type AliasRecord,
} from '../../schemas/alias.ts';
import { faultsFound, firstFaults } from '../../schemas/encoding/excerpt.ts';
import { readAhead, type ObjectStore } from '../stores/object-store.ts';
import { aliasRecordName } from './object-names.ts';
import { parsedOf, sealed, unsealed } from './sealed.ts';

/** Tries of one move while other records come first. */
const MOVE_TRIES_MAX = 100;

export class Aliases {
  readonly #records: AliasRecord[] = [];
  readonly #current = new Map<string, AliasRecord>();
  #reading: Promise<void> | null = null;

  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
  ) {}

  /** All records read so far, in order. */
  get records(): readonly AliasRecord[] {
    return this.#records;
  }

  get current(): ReadonlyMap<string, AliasRecord> {
    return this.#current;
  }

  /** Reads the new records. Throws `VersionLogDamaged`, keeping the records read before. */
  async readOn(): Promise<void> {
    this.#reading ??= this.#readOn().finally(() => (this.#reading = null));
    await this.#reading;
  }

  /**
   * Moves an alias to an existing version; repeating a move with the same id has no effect.
   * `newestVersion` returns the newest readable version.
   */
  async move(
    { takesBack, ...move }: AliasMove,
    newestVersion: () => Promise<number>,
  ): Promise<AliasMoved> {
    const checked = aliasRecordSchema.safeParse({ ...move, at: Date.now() });
    if (!checked.success) return refused(firstFaults(faultsFound(checked.error)));
    const record = checked.data;
    const { id, alias, version } = record;
    for (let tries = 0; tries < MOVE_TRIES_MAX; tries++) {
      await this.readOn();
      const earlier = this.#records.find((one) => one.id === id);
      if (earlier !== undefined)
        return earlier.alias === alias && earlier.version === version
          ? { kind: 'moved', record: earlier }
          : refused(`"${id}" already moved alias ${earlier.alias} to ${placeOf(earlier)}`);
      const last = this.#current.get(alias) ?? null;
      if (takesBack !== undefined && last?.id !== takesBack)
        return { kind: 'overtaken', record: last };
      const newest = version === null ? 0 : await newestVersion();
      if (version !== null && version > newest)
        return refused(
          `version ${version} does not exist; the newest that can be read is ${newest}`,
        );
      const name = aliasRecordName(this.lineage, this.#records.length + 1);
      if ((await this.store.putIfAbsent(name, sealed(record))) === 'stored')
        return { kind: 'moved', record };
    }
    return refused(`others moved aliases ${MOVE_TRIES_MAX} times meanwhile; try again`);
  }

  async #readOn(): Promise<void> {
    const nameOf = (sequence: number) => aliasRecordName(this.lineage, sequence);
    for await (const piece of readAhead(this.store, nameOf, this.#records.length + 1))
      for (const bytes of piece) {
        const record = parsedOf(this.lineage, nameOf(this.#records.length + 1), () =>
          aliasRecordSchema.parse(unsealed(bytes)),
        );
        this.#records.push(record);
        this.#current.set(record.alias, record);
      }
  }
}

function refused(reason: string): AliasMoved {
  return { kind: 'refused', reason };
}

function placeOf({ version }: AliasRecord): string {
  return version === null ? 'HEAD' : `version ${version}`;
}
