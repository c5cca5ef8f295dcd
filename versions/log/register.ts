/**
 * The outcome history of every revision of a lineage, each in an object under a hash of its id. A
 * look-up costs one read, and no process holds past decisions in memory. Rules 23 to 26 of
 * SPECIFICATION.md.
 *
 * Put-if-absent decides the first outcome of an id, despite crashes and repeated runs. A committed
 * correction may be removed, and an undo may restore it. Each adds an outcome, and the last one is
 * current. The outcomes of an entry are derived from it by the next process that needs the
 * register.
 */
import { z } from 'zod';
import type { Outcome } from '../../schemas/outcome.ts';
import { type VersionEntry, outcomeSchema } from '../../schemas/version-entry.ts';
import { forEachObject, namesUnder, type ObjectStore } from '../stores/object-store.ts';
import {
  duplicateOf,
  firstOutcomes,
  isLaterOutcome,
  isSameRecord,
  laterOutcomes,
  tombstoneOf,
  type FactTombstone,
} from './entry-outcomes.ts';
import type { StoredEntry } from './history.ts';
import { hashed, twentyDigits } from './object-names.ts';
import { readSealed, sealed } from './sealed.ts';

/** Outcomes read at once while all are listed. */
const LISTED_AT_ONCE_MAX = 16;

type EntryOf = (version: number) => Promise<StoredEntry>;

export class Register {
  /** The version through which the register is complete. */
  #complete = 0;
  /** The version through which all outcomes were announced. */
  #announced = 0;

  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
  ) {}

  /** Registers the outcomes of the versions through `head`. Throws `VersionLogDamaged`. */
  async completeTo(head: number, entryOf: EntryOf): Promise<void> {
    for (const version of await this.#unmarked('versions', this.#complete, head)) {
      const { entry, hash } = await entryOf(version);
      await this.#registerEntry(entry, entryOf);
      // The marker comes last, since it confirms everything before it.
      await this.#put(this.#markerName('versions', version), { version, hash });
    }
    this.#complete = Math.max(this.#complete, head);
  }

  /** Returns the first outcomes of those ids that were decided. */
  async outcomesOf(ids: Iterable<string>): Promise<Map<string, Outcome>> {
    const found = new Map<string, Outcome>();
    await forEachObject(new Set(ids), async (id) => {
      const outcome = await this.#outcome(this.#nameOf('revisions', id));
      if (outcome !== null) found.set(id, outcome);
    });
    return found;
  }

  /** Yields the first outcome of every decided id, unordered. */
  async *decided(): AsyncIterable<Outcome> {
    const names: string[] = [];
    const read = async () => {
      const outcomes = await Promise.all(names.splice(0).map((name) => this.#outcome(name)));
      return outcomes.filter((outcome) => outcome !== null);
    };
    for await (const name of this.store.list(`${this.#folder}/revisions/`)) {
      names.push(name);
      if (names.length === LISTED_AT_ONCE_MAX) yield* await read();
    }
    yield* await read();
  }

  /** Returns the current outcomes of all ids that an entry added, retracted or removed. */
  async outcomesOfEntry({ added, retractions, removed }: VersionEntry): Promise<Outcome[]> {
    const ids = new Set([
      ...added.map(({ correctionId }) => correctionId),
      ...retractions.map(({ id }) => id),
      ...removed.map(({ correctionId }) => correctionId),
    ]);
    const first = await this.outcomesOf(ids);
    return await this.current([...ids].flatMap((id) => first.get(id) ?? []));
  }

  /** Returns the current outcomes for these first outcomes, in their order. */
  async current(first: Iterable<Outcome>): Promise<Outcome[]> {
    return await forEachObject(first, (outcome) => this.#currentOf(outcome));
  }

  /** Returns the outcome history of a revision, by version; empty if it was not decided. */
  async outcomeHistory(id: string): Promise<Outcome[]> {
    const first = (await this.outcomesOf([id])).get(id);
    if (first === undefined) return [];
    const later = await forEachObject(await this.#laterNames(id), (name) => this.#outcome(name));
    return [first, ...later.filter((outcome) => outcome !== null)];
  }

  /** Returns the versions through `head` that are not marked announced, ascending. */
  async unannounced(head: number): Promise<number[]> {
    return await this.#unmarked('told', this.#announced, head);
  }

  /** Marks a version, those before it and all their outcomes as announced. */
  async markAnnounced(version: number): Promise<void> {
    await this.#put(this.#markerName('told', version), { version });
    this.#announced = Math.max(this.#announced, version);
  }

  async versionOfBatch(batchId: string): Promise<number | null> {
    const name = this.#nameOf('batches', batchId);
    return (await this.#read(name, z.object({ version: z.number() })))?.version ?? null;
  }

  /**
   * Returns the last tombstone of each fact among those that `counts` accepts. A tombstone older
   * than the active correction of the fact has no effect.
   */
  async tombstones(
    factKeys: Iterable<string>,
    counts: (one: Pick<FactTombstone, 'factKey' | 'because' | 'issuedAt'>) => boolean = () => true,
  ): Promise<Map<string, FactTombstone>> {
    const found = new Map<string, FactTombstone>();
    await forEachObject(new Set(factKeys), async (factKey) => {
      let last: string | null = null;
      // Names are in ascending order of time.
      for await (const name of this.store.list(this.#factFolder(factKey)))
        if (counts({ factKey, ...tombstoneNamed(name) })) last = name;
      const tombstone = last === null ? null : await this.#read(last, tombstoneSchema);
      if (tombstone !== null) found.set(factKey, tombstone);
    });
    return found;
  }

  /**
   * Registers outcomes and returns the current ones. An id that was decided before keeps its
   * outcome history, and another record with the id is a duplicate.
   */
  async settle(outcomes: readonly Outcome[]): Promise<Outcome[]> {
    return await forEachObject(outcomes, (outcome) => this.#settleOne(outcome));
  }

  async #settleOne(outcome: Outcome): Promise<Outcome> {
    if (outcome.status === 'DUPLICATE') return outcome;
    const name = this.#nameOf('revisions', outcome.revisionId);
    const stored = await this.#put(name, outcome);
    const present = stored === 'exists' ? await this.#outcome(name) : null;
    const settled = present === null ? outcome : await this.#settledAgainst(outcome, present);
    await this.#putTombstone(tombstoneOf(settled));
    return settled;
  }

  async #settledAgainst(outcome: Outcome, present: Outcome): Promise<Outcome> {
    if (!isSameRecord(outcome.position, present.position)) return duplicateOf(outcome, present);
    const current = await this.#currentOf(present);
    return current === present && isLaterOutcome(outcome, present) ? outcome : current;
  }

  async #registerEntry(entry: VersionEntry, entryOf: EntryOf): Promise<void> {
    const { version, batchId, added, removed, retractions } = entry;
    await forEachObject(firstOutcomes(entry), (outcome) =>
      this.#put(this.#nameOf('revisions', outcome.revisionId), outcome),
    );
    const later = laterOutcomes(entry);
    const first = await this.outcomesOf(later.map(({ revisionId }) => revisionId));
    await forEachObject(later, async (outcome) => {
      const earlier = first.get(outcome.revisionId);
      if (earlier !== undefined)
        await this.#put(this.#laterName(outcome.revisionId, version), { ...earlier, ...outcome });
    });
    const held = new Set(added.map(({ factKey }) => factKey));
    await forEachObject(
      removed.filter(({ factKey }) => !held.has(factKey)),
      async ({ correctionId, factKey, because, by }) => {
        const issuedAt =
          retractions.find(({ id }) => id === by)?.issuedAt ??
          (await this.#issuedAtOf(correctionId, entryOf));
        if (issuedAt !== null)
          await this.#putTombstone({ factKey, because, id: by, issuedAt, version });
      },
    );
    await this.#put(this.#nameOf('batches', batchId), { version });
  }

  async #currentOf(first: Outcome): Promise<Outcome> {
    // Only a committed correction has later outcomes.
    if (first.status !== 'COMMITTED') return first;
    const last = (await this.#laterNames(first.revisionId)).at(-1);
    return last === undefined ? first : ((await this.#outcome(last)) ?? first);
  }

  /** Returns names in ascending order of version. */
  async #laterNames(id: string): Promise<string[]> {
    return await namesUnder(this.store, `${this.#folder}/fates/${hashed(id)}/`);
  }

  async #issuedAtOf(correctionId: string, entryOf: EntryOf): Promise<number | null> {
    const version = (await this.outcomesOf([correctionId])).get(correctionId)?.version ?? null;
    if (version === null) return null;
    const { added } = (await entryOf(version)).entry;
    return added.find((one) => one.correctionId === correctionId)?.issuedAt ?? null;
  }

  /** Returns the versions after the last marked one, through `head`. */
  async #unmarked(kind: 'versions' | 'told', known: number, head: number): Promise<number[]> {
    let last = head;
    while (last > known && (await this.store.get(this.#markerName(kind, last))) === null) last--;
    return Array.from({ length: head - last }, (_, i) => last + 1 + i);
  }

  async #putTombstone(tombstone: FactTombstone | null): Promise<void> {
    if (tombstone === null) return;
    const { factKey, issuedAt, because } = tombstone;
    const time = String(issuedAt).padStart(16, '0');
    await this.#put(`${this.#factFolder(factKey)}${time}-${because}.json`, tombstone);
  }

  async #put(name: string, content: object): Promise<'stored' | 'exists'> {
    return await this.store.putIfAbsent(name, sealed(content));
  }

  #outcome(name: string): Promise<Outcome | null> {
    return this.#read(name, outcomeSchema);
  }

  async #read<Content>(name: string, schema: z.ZodType<Content>): Promise<Content | null> {
    return await readSealed(this.store, this.lineage, name, (content) => schema.parse(content));
  }

  #laterName(id: string, version: number): string {
    return `${this.#folder}/fates/${hashed(id)}/${twentyDigits(version)}.json`;
  }

  #nameOf(kind: 'revisions' | 'batches', key: string): string {
    return `${this.#folder}/${kind}/${hashed(key)}.json`;
  }

  #markerName(kind: 'versions' | 'told', version: number): string {
    return `${this.#folder}/${kind}/${twentyDigits(version)}.json`;
  }

  #factFolder(factKey: string): string {
    return `${this.#folder}/facts/${hashed(factKey)}/`;
  }

  get #folder(): string {
    return `lineages/${this.lineage}/register`;
  }
}

function tombstoneNamed(name: string): Pick<FactTombstone, 'because' | 'issuedAt'> {
  const [, issuedAt, because] = /\/(\d{16})-([a-z]+)\.json$/.exec(name) ?? [];
  return { issuedAt: Number(issuedAt), because: because as FactTombstone['because'] };
}

const tombstoneSchema = z.object({
  factKey: z.string(),
  because: z.enum(['superseded', 'retracted', 'reverted', 'contradicted']),
  id: z.string(),
  issuedAt: z.number(),
  version: z.number().nullable(),
});
