/**
 * What became of every revision of a lineage, each in an object of its own under a hash of its
 * name: one look-up costs one read, and nobody holds in memory what was decided long ago. Rules 23
 * to 26 of SPECIFICATION.md.
 *
 * The first outcome of an id is put-if-absent's, whoever is killed and whatever runs twice. A
 * committed correction may leave, and an undo may bring it back and take it out again: each is a
 * fate of its own, and the last one stands. What an entry decided is written from the entry, by
 * whoever needs the register next.
 */
import { z } from 'zod';
import type { KafkaPosition } from '../../schemas/correction.ts';
import type { Outcome, Removal } from '../../schemas/editing.ts';
import { outcomeSchema } from '../../schemas/outcome.ts';
import { undoRevisionId } from '../../schemas/undo.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import { VersionLogDamaged } from './failures.ts';
import type { StoredEntry } from './history.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { hashed, sealed, unsealed } from './sealed.ts';

/** Objects read or written at once. */
const OBJECTS_AT_ONCE_MAX = 16;

/**
 * The last word on a fact, where no correction that holds has it: what an older revision that comes
 * late is measured against.
 */
export interface FactTombstone {
  factKey: string;
  because: Removal['because'];
  /** Of the revision that had the last word. */
  id: string;
  issuedAt: number;
  /** Null where no version was made. */
  version: number | null;
}

export class Register {
  readonly #store: ObjectStore;
  readonly #lineage: string;
  /** The version up to which everything is registered. */
  #complete = 0;
  /** The version up to which everything was told. */
  #told = 0;

  constructor(store: ObjectStore, lineage: string) {
    this.#store = store;
    this.#lineage = lineage;
  }

  /**
   * Registers what the versions up to `head` decided, those that are not yet. `entryOf` reads an
   * entry. Throws `VersionLogDamaged`.
   */
  async completeTo(
    head: number,
    entryOf: (version: number) => Promise<StoredEntry>,
  ): Promise<void> {
    let from = head;
    while (from > this.#complete && (await this.#store.get(this.#nameOfVersion(from))) === null)
      from--;
    for (let version = from + 1; version <= head; version++) {
      const { entry, hash } = await entryOf(version);
      await this.#registerEntry(entry, entryOf);
      // Last, so that it stands for all of them.
      await this.#put(this.#nameOfVersion(version), { version, hash });
    }
    this.#complete = Math.max(this.#complete, head);
  }

  /** The outcomes of those of the ids that were decided. */
  async outcomesOf(ids: Iterable<string>): Promise<Map<string, Outcome>> {
    const found = new Map<string, Outcome>();
    await eachOf(new Set(ids), async (id) => {
      const outcome = await this.#read(this.#nameOf('revisions', id), outcomeSchema);
      if (outcome !== null) found.set(id, outcome);
    });
    return found;
  }

  /** The first outcomes of all ids that were ever decided, in no order that means anything. */
  async *decided(): AsyncIterable<Outcome> {
    const names: string[] = [];
    const read = () => Promise.all(names.splice(0).map((name) => this.#read(name, outcomeSchema)));
    for await (const name of this.#store.list(`${this.#folder}/revisions/`)) {
      names.push(name);
      if (names.length === OBJECTS_AT_ONCE_MAX)
        for (const outcome of await read()) if (outcome !== null) yield outcome;
    }
    for (const outcome of await read()) if (outcome !== null) yield outcome;
  }

  /**
   * What an entry decided, as it now stands: its corrections and retractions, and the corrections
   * that left with it.
   */
  async outcomesOfEntry({ added, retractions, removed }: VersionEntry): Promise<Outcome[]> {
    const ids = [
      ...added.map(({ correctionId }) => correctionId),
      ...retractions.map(({ id }) => id),
      ...removed.map(({ correctionId }) => correctionId),
    ];
    const first = await this.outcomesOf(ids);
    const standing = new Map(
      (await this.current(first.values())).map((outcome) => [outcome.revisionId, outcome]),
    );
    return [...new Set(ids)].flatMap((id) => standing.get(id) ?? []);
  }

  /**
   * First outcomes as they now stand, in their order: of a correction that was committed and left,
   * how it left, and of one that is back, since when.
   */
  async current(first: Iterable<Outcome>): Promise<Outcome[]> {
    const outcomes = [...first];
    const found = new Map<Outcome, Outcome>();
    await eachOf(outcomes, async (outcome) =>
      found.set(outcome, (await this.#fateOf(outcome)) ?? outcome),
    );
    return outcomes.map((outcome) => found.get(outcome)!);
  }

  /**
   * All that became of a revision, in the order of the versions; empty where it was not decided.
   */
  async outcomeHistory(id: string): Promise<Outcome[]> {
    const first = (await this.outcomesOf([id])).get(id);
    if (first === undefined) return [];
    const course = [first];
    for (const name of await this.#fateNames(id))
      course.push((await this.#read(name, outcomeSchema))!);
    return course;
  }

  /** Versions up to `head` of which nobody said yet that they were told, ascending. */
  async unannounced(head: number): Promise<number[]> {
    let told = head;
    while (told > this.#told && (await this.#store.get(this.#nameOfVersion(told, 'told'))) === null)
      told--;
    return Array.from({ length: head - told }, (_, i) => told + 1 + i);
  }

  /** A version and all that it decided was told, and so was every version before it. */
  async markAnnounced(version: number): Promise<void> {
    await this.#put(this.#nameOfVersion(version, 'told'), { version });
    this.#told = Math.max(this.#told, version);
  }

  /** The version that a batch made, or null. */
  async versionOfBatch(batchId: string): Promise<number | null> {
    return (
      (await this.#read(this.#nameOf('batches', batchId), z.object({ version: z.number() })))
        ?.version ?? null
    );
  }

  /**
   * The last words on these facts, of those that `counts`. One that is older than the correction
   * that holds the fact says nothing any more.
   */
  async tombstones(
    factKeys: Iterable<string>,
    counts: (word: Pick<FactTombstone, 'factKey' | 'because' | 'issuedAt'>) => boolean = () => true,
  ): Promise<Map<string, FactTombstone>> {
    const found = new Map<string, FactTombstone>();
    await eachOf(new Set(factKeys), async (factKey) => {
      let last: string | null = null;
      // Names ascend with the time.
      for await (const name of this.#store.list(this.#folderOfFact(factKey)))
        if (counts({ factKey, ...wordOf(name) })) last = name;
      const note = last === null ? null : await this.#read(last, tombstoneSchema);
      if (note !== null) found.set(factKey, note);
    });
    return found;
  }

  /**
   * Registers outcomes and returns them as they now stand: an id that was decided before keeps what
   * it became, and another record of it is its duplicate. Of a committed correction that left or is
   * back, it is that, whoever asks.
   */
  async settle(outcomes: readonly Outcome[]): Promise<Outcome[]> {
    const standing = new Map<Outcome, Outcome>();
    await eachOf(outcomes, async (outcome) =>
      standing.set(outcome, await this.#settleOne(outcome)),
    );
    return outcomes.map((outcome) => standing.get(outcome)!);
  }

  async #settleOne(outcome: Outcome): Promise<Outcome> {
    if (outcome.status === 'DUPLICATE') return outcome;
    const name = this.#nameOf('revisions', outcome.revisionId);
    const present =
      (await this.#put(name, outcome)) === 'exists' ? await this.#read(name, outcomeSchema) : null;
    const stands =
      present === null
        ? outcome
        : isSameRecord(outcome.position, present.position)
          ? ((await this.#fateOf(present)) ?? (isLaterFate(outcome, present) ? outcome : present))
          : duplicateOf(outcome, present);
    const note = noteOf(stands);
    if (note !== null) await this.#note(note);
    return stands;
  }

  async #registerEntry(
    entry: VersionEntry,
    entryOf: (version: number) => Promise<StoredEntry>,
  ): Promise<void> {
    const { version, lineage, batchId } = entry;
    const decidedAt = Date.parse(entry.createdAt);
    const decided = { lineage, version, reason: null, measured: {}, batchId, decidedAt };
    const outcomes: Outcome[] = [
      ...entry.added.map(({ correctionId, factKey, position }): Outcome => ({
        ...decided,
        revisionId: correctionId,
        factKey,
        status: 'COMMITTED',
        position,
      })),
      ...entry.retractions.map(({ id, factKey, position }): Outcome => ({
        ...decided,
        revisionId: id,
        factKey,
        status: 'RETRACTED',
        position,
      })),
    ];
    await eachOf(outcomes, (outcome) =>
      this.#put(this.#nameOf('revisions', outcome.revisionId), outcome),
    );
    await this.#registerFates(entry);
    const held = new Set(entry.added.map(({ factKey }) => factKey));
    await eachOf(
      entry.removed.filter(({ factKey }) => !held.has(factKey)),
      async ({ correctionId, factKey, because, by }) => {
        const issuedAt =
          entry.retractions.find(({ id }) => id === by)?.issuedAt ??
          (await this.#issuedAtOf(correctionId, entryOf));
        if (issuedAt !== null) await this.#note({ factKey, because, id: by, issuedAt, version });
      },
    );
    await this.#put(this.#nameOf('batches', batchId), { version });
  }

  /**
   * How corrections left the hook, and that they are back. It is told instead of the first outcome
   * from then on, or a repeated word would undo it.
   */
  async #registerFates({
    added,
    removed,
    undo,
    version,
    batchId,
    createdAt,
  }: VersionEntry): Promise<void> {
    const back = added.filter(({ origin }) => origin !== undefined);
    const first = await this.outcomesOf(
      [...removed, ...back].map(({ correctionId }) => correctionId),
    );
    const decided = { version, batchId, decidedAt: Date.parse(createdAt) };
    const fates = [
      ...removed.map(({ correctionId, because, by }) => ({
        correctionId,
        status: LEFT_BECAUSE[because],
        reason: `${because} by ${by}`,
        measured: { code: because === 'contradicted' ? 'contradiction' : because, by },
      })),
      ...back.map(({ correctionId }) => ({
        correctionId,
        status: 'COMMITTED' as const,
        reason: `restored by ${undoRevisionId(undo!)}`,
        measured: { code: 'restored', by: undoRevisionId(undo!) },
      })),
    ];
    await eachOf(fates, async ({ correctionId, ...fate }) => {
      const outcome = first.get(correctionId);
      if (outcome !== undefined)
        await this.#put(this.#nameOfFate(correctionId, version), {
          ...outcome,
          ...decided,
          ...fate,
        });
    });
  }

  /** The last one; null for what was never committed, and for what holds since it first was. */
  async #fateOf({ revisionId, status }: Outcome): Promise<Outcome | null> {
    const last = status === 'COMMITTED' ? (await this.#fateNames(revisionId)).at(-1) : undefined;
    return last === undefined ? null : await this.#read(last, outcomeSchema);
  }

  /**
   * Ascending by version. Before there were undos a correction had one fate, in an object without a
   * number: its earliest.
   */
  async #fateNames(id: string): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.#store.list(`${this.#folder}/fates/${hashed(id)}`))
      names.push(name);
    return names;
  }

  async #issuedAtOf(
    correctionId: string,
    entryOf: (version: number) => Promise<StoredEntry>,
  ): Promise<number | null> {
    const committed = (await this.outcomesOf([correctionId])).get(correctionId)?.version ?? null;
    if (committed === null) return null;
    return (
      (await entryOf(committed)).entry.added.find((added) => added.correctionId === correctionId)
        ?.issuedAt ?? null
    );
  }

  async #note(note: FactTombstone): Promise<void> {
    await this.#put(
      `${this.#folderOfFact(note.factKey)}${String(note.issuedAt).padStart(16, '0')}-${note.because}.json`,
      note,
    );
  }

  async #put(name: string, content: object): Promise<'stored' | 'exists'> {
    return await this.#store.putIfAbsent(name, sealed(content));
  }

  async #read<Content>(name: string, schema: z.ZodType<Content>): Promise<Content | null> {
    const bytes = await this.#store.get(name);
    if (bytes === null) return null;
    try {
      return schema.parse(unsealed(bytes));
    } catch (fault) {
      throw new VersionLogDamaged(
        this.#lineage,
        name,
        fault instanceof Error ? fault.message : String(fault),
      );
    }
  }

  #nameOfFate(id: string, version: number): string {
    return `${this.#folder}/fates/${hashed(id)}/${String(version).padStart(20, '0')}.json`;
  }

  #nameOf(kind: 'revisions' | 'batches', key: string): string {
    return `${this.#folder}/${kind}/${hashed(key)}.json`;
  }

  #nameOfVersion(version: number, what: 'versions' | 'told' = 'versions'): string {
    return `${this.#folder}/${what}/${String(version).padStart(20, '0')}.json`;
  }

  #folderOfFact(factKey: string): string {
    return `${this.#folder}/facts/${hashed(factKey)}/`;
  }

  get #folder(): string {
    return `lineages/${this.#lineage}/register`;
  }
}

const LEFT_BECAUSE = {
  superseded: 'SUPERSEDED',
  retracted: 'RETRACTED',
  reverted: 'RETRACTED',
  contradicted: 'QUARANTINED',
} as const;

/** What the name of a note says. */
function wordOf(name: string): Pick<FactTombstone, 'because' | 'issuedAt'> {
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

/** A correction that was committed and has left the hook since, or leaves it now. */
function isLaterFate(outcome: Outcome, present: Outcome): boolean {
  return (
    present.status === 'COMMITTED' &&
    outcome.status !== 'COMMITTED' &&
    isSameRecord(outcome.position, present.position) &&
    (outcome.version ?? 0) > (present.version ?? 0)
  );
}

/**
 * What is said of a fact that no version says: that it was retracted though nothing held it, or
 * that two corrections of one time contradict each other.
 */
function noteOf({ status, measured, factKey, revisionId: id }: Outcome): FactTombstone | null {
  const { issuedAt, code } = measured;
  if (typeof issuedAt !== 'number') return null;
  if (status === 'NOTHING_TO_RETRACT')
    return { factKey, because: 'retracted', id, issuedAt, version: null };
  return status === 'QUARANTINED' && code === 'contradiction'
    ? { factKey, because: 'contradicted', id, issuedAt, version: null }
    : null;
}

export function duplicateOf(outcome: Outcome, present: Outcome): Outcome {
  return {
    ...outcome,
    status: 'DUPLICATE',
    version: present.version,
    reason: duplicateReason(present),
    measured: { code: 'duplicate' },
  };
}

export function duplicateReason({ revisionId, status, version, position }: Outcome): string {
  const became = status.toLowerCase().replaceAll('_', ' ');
  return `"${revisionId}" came before, at partition ${position.partition}, offset ${position.offset}, and became ${became}${version === null ? '' : ` in version ${version}`}`;
}

export function isSameRecord(a: KafkaPosition, b: KafkaPosition): boolean {
  return a.topic === b.topic && a.partition === b.partition && a.offset === b.offset;
}

async function eachOf<Item>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<unknown>,
): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(OBJECTS_AT_ONCE_MAX, queue.length) }, worker));
}
