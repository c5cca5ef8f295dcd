/**
 * Reads a lineage's log, blobs, register, aliases and archived histories and says everything that
 * is not as SPECIFICATION.md has it. Nothing else is read or believed: hashes are computed anew,
 * the fold is folded anew. A single changed byte shows, for everything is named by its hash, holds
 * its own, or is named by what follows it.
 */
import { createHash } from 'node:crypto';
import { aliasRecordSchema } from '../../schemas/alias.ts';
import type { TargetSearch } from '../../schemas/editing.ts';
import { undoRevisionId } from '../../schemas/undo.ts';
import { versionEntrySchema, type VersionEntry } from '../../schemas/version-entry.ts';
import { aliasRecordName } from '../log/object-names.ts';
import { canonicalJson } from '../log/canonical-json.ts';
import {
  emptyHistory,
  extended,
  faultsOfEntry,
  type History,
  type StoredEntry,
} from '../log/history.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { decodePairs, type StoredPairs } from '../log/pairs.ts';
import { unsealed } from '../log/sealed.ts';
import { hashed } from '../log/object-names.ts';
import { blobName, entryName } from '../log/object-names.ts';

export interface Finding {
  object: string;
  problem: string;
}

export interface Verification {
  lineage: string;
  versions: number;
  /** Corrections that hold at the last sound version. */
  corrections: number;
  objects: number;
  bytes: number;
  findings: Finding[];
  /**
   * The hash of the last entry, which nothing but the register vouches for; `anchored` says whether
   * it does.
   */
  head: { version: number; hash: string | null; anchored: boolean };
}

/** Findings past this are counted, not kept. */
const FINDINGS_MAX = 1_000;
const OBJECTS_AT_ONCE_MAX = 16;

export async function verifyLineage(
  store: ObjectStore,
  lineage: string,
  progress: (objects: number) => void = () => {},
): Promise<Verification> {
  return await new Verifier(store, lineage, progress).verify();
}

class Verifier {
  readonly #store: ObjectStore;
  readonly #lineage: string;
  readonly #progress: (objects: number) => void;
  readonly #findings: Finding[] = [];
  #unkept = 0;
  #objects = 0;
  #bytes = 0;

  constructor(store: ObjectStore, lineage: string, progress: (objects: number) => void) {
    this.#store = store;
    this.#lineage = lineage;
    this.#progress = progress;
  }

  async verify(): Promise<Verification> {
    const root = `lineages/${this.#lineage}/`;
    const named = new Map<string, string[]>([
      ['log', []],
      ['blobs', []],
      ['register', []],
      ['aliases', []],
      ['histories', []],
      ['staging', []],
    ]);
    for await (const name of this.#store.list(root)) {
      const group = named.get(name.slice(root.length).split('/')[0]!);
      if (group === undefined) this.#found(name, 'is no object of a version log');
      else group.push(name);
    }
    const hashes: string[] = [];
    const history = await this.#log(named.get('log')!, hashes);
    for (const kind of ['blobs', 'staging'])
      await each(named.get(kind)!, (name) => this.#contentAddressed(name));
    const anchored = await this.#register(named.get('register')!, hashes);
    await this.#aliases(named.get('aliases')!, hashes.length);
    await each(named.get('histories')!, async (name) => {
      const { workflowId, runId } = ((await this.#sealed(name)) ?? {}) as {
        workflowId?: string;
        runId?: string;
      };
      if (
        workflowId !== undefined &&
        !name.endsWith(`/histories/${hashed(workflowId)}/${runId}.json`)
      )
        this.#found(name, `is of run ${runId} of ${workflowId}`);
    });
    if (this.#unkept > 0)
      this.#findings.push({ object: root, problem: `and ${this.#unkept} more` });
    return {
      lineage: this.#lineage,
      versions: history.head.version,
      corrections: history.active.size,
      objects: this.#objects,
      bytes: this.#bytes,
      findings: this.#findings,
      head: { ...history.head, anchored },
    };
  }

  async #log(names: readonly string[], hashes: string[]): Promise<History> {
    let history = emptyHistory(this.#lineage);
    const batches = new Map<string, number>();
    // Piece by piece: what an entry follows is a matter of one after the other, what is read for it
    // is not.
    for (let first = 0, whole = true; whole && first < names.length; first += OBJECTS_AT_ONCE_MAX) {
      const piece = names.slice(first, first + OBJECTS_AT_ONCE_MAX);
      const fetched = await Promise.all(piece.map((name) => this.#get(name)));
      const sound: { name: string; entry: VersionEntry }[] = [];
      for (const [i, name] of piece.entries()) {
        const next = this.#entryAfter(history, name, fetched[i]!, batches, hashes);
        whole = next !== null;
        if (next === null) break;
        history = extended(history, [next]);
        sound.push({ name, entry: next.entry });
      }
      await each(sound, async ({ name, entry }) => {
        await this.#blobsOf(name, entry);
        for (const fault of undoFaultsOf(entry)) this.#found(name, fault);
        await this.#restored(name, entry);
      });
    }
    return history;
  }

  /**
   * The entry, where it is sound and follows; its hash is noted wherever it stands in its place.
   */
  #entryAfter(
    history: History,
    name: string,
    bytes: Uint8Array | null,
    batches: Map<string, number>,
    hashes: string[],
  ): StoredEntry | null {
    const due = history.head.version + 1;
    if (name !== entryName(this.#lineage, due)) {
      this.#found(name, `stands where version ${due} is due; nothing from here on can be used`);
      return null;
    }
    if (bytes === null) {
      this.#found(name, 'it is gone');
      return null;
    }
    const hash = sha256(bytes);
    hashes.push(hash);
    const entry = this.#entry(name, bytes);
    if (entry === null) return null;
    const faults = faultsOfEntry(history, entry);
    const earlier = batches.get(entry.batchId);
    if (earlier !== undefined)
      faults.push(`batch "${entry.batchId}" already made version ${earlier}`);
    batches.set(entry.batchId, entry.version);
    for (const fault of faults) this.#found(name, fault);
    return faults.length > 0 ? null : { entry, hash };
  }

  #entry(name: string, bytes: Uint8Array): VersionEntry | null {
    try {
      const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
      if (!Buffer.from(canonicalJson(json)).equals(bytes))
        throw new TypeError('it is not canonical JSON');
      const checked = versionEntrySchema.safeParse(json);
      if (checked.success) return checked.data;
      this.#found(
        name,
        checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
      );
    } catch (fault) {
      this.#found(name, reasonOf(fault));
    }
    return null;
  }

  /**
   * That the blobs of an entry are there and say what the entry has them say; their hashes are
   * checked with all blobs.
   */
  async #blobsOf(name: string, entry: VersionEntry): Promise<void> {
    const { pairs, probes, added, searches = [] } = entry;
    const read = async (
      what: string,
      blob: { sha256: string; bytes: number },
      check: (bytes: Uint8Array) => string | null,
    ) => {
      const bytes = await this.#store.get(blobName(this.#lineage, blob.sha256));
      if (bytes === null)
        return this.#found(name, `its ${what}, blob ${blob.sha256}, are not in the store`);
      if (bytes.byteLength !== blob.bytes)
        this.#found(name, `its ${what} have ${bytes.byteLength} bytes where ${blob.bytes} are due`);
      try {
        const fault = check(bytes);
        if (fault !== null) this.#found(name, fault);
      } catch (fault) {
        this.#found(name, `its ${what} cannot be read: ${reasonOf(fault)}`);
      }
    };
    if (pairs !== null) {
      await read('pairs', pairs, (bytes) => {
        const { count, subjects } = decodePairs(bytes);
        if (added.some(({ row }) => row >= count))
          return `its pairs have ${count} rows, of which it names others`;
        return added.some(({ row, subject }) => subjects[row] !== subject.trim())
          ? 'its pairs are about other subjects'
          : null;
      });
    }
    const searched = new Set<string>();
    for (const search of searches) {
      await read('search', search, (bytes) => {
        const { edits } = JSON.parse(
          new TextDecoder('utf-8', { fatal: true }).decode(bytes),
        ) as TargetSearch;
        for (const { correction } of edits) searched.add(correction.id);
        return null;
      });
    }
    if (searches.length > 0 && added.some(({ correctionId }) => !searched.has(correctionId)))
      this.#found(name, 'its searches were not for all that it adds');
    await read('probe details', probes.details, (bytes) => {
      const ids = (
        JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as { id: string }[]
      ).map(({ id }) => id);
      return [...ids].sort().join('\n') ===
        added
          .map(({ correctionId }) => correctionId)
          .sort()
          .join('\n')
        ? null
        : 'its probe details are of other corrections';
    });
  }

  /**
   * That what an undo brought back is what was added first, in its texts and to the last bit of its
   * pairs.
   */
  async #restored(name: string, { added, pairs }: VersionEntry): Promise<void> {
    const origins = new Set(added.flatMap(({ origin }) => origin?.version ?? []));
    const copies = origins.size > 0 ? await this.#pairsAt(pairs) : null;
    // One after the other: the pairs of many versions are more than a machine need hold.
    for (const version of origins) {
      const bytes = await this.#store.get(entryName(this.#lineage, version));
      const first = bytes === null ? null : this.#parsed(bytes);
      const firstPairs = await this.#pairsAt(first?.pairs ?? null);
      for (const { row, origin, ...correction } of added) {
        if (origin?.version !== version) continue;
        const {
          row: firstRow,
          origin: earlier,
          ...original
        } = first?.added.find(({ correctionId }) => correctionId === correction.correctionId) ?? {};
        if (firstRow !== origin.row || earlier !== undefined || !same(original, correction))
          this.#found(
            name,
            `it brings back "${correction.correctionId}" otherwise than version ${version} added it`,
          );
        else if (
          copies !== null &&
          firstPairs !== null &&
          !same(rowOf(firstPairs, origin.row), rowOf(copies, row))
        )
          this.#found(
            name,
            `the pairs of "${correction.correctionId}" are not those that version ${version} gave it`,
          );
      }
    }
  }

  /** Null where they are not there or cannot be read, which is found where they belong. */
  async #pairsAt(blob: { sha256: string } | null): Promise<StoredPairs | null> {
    const bytes =
      blob === null ? null : await this.#store.get(blobName(this.#lineage, blob.sha256));
    try {
      return bytes === null ? null : decodePairs(bytes);
    } catch {
      return null;
    }
  }

  #parsed(bytes: Uint8Array): VersionEntry | null {
    const checked = versionEntrySchema.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
    return checked.success ? checked.data : null;
  }

  /** Every word in its place and about a version that there is. */
  async #aliases(names: readonly string[], versions: number): Promise<void> {
    const ids = new Set<string>();
    for (const [i, name] of names.entries()) {
      if (name !== aliasRecordName(this.#lineage, i + 1))
        return this.#found(
          name,
          `stands where word ${i + 1} on the aliases is due; nothing from here on can be used`,
        );
      const content = await this.#sealed(name);
      if (content === null) continue;
      const checked = aliasRecordSchema.safeParse(content);
      if (!checked.success) {
        this.#found(
          name,
          checked.error.issues
            .map((issue) => `${issue.path.join('.')}: ${issue.message}`)
            .join('; '),
        );
        continue;
      }
      const { id, alias, version } = checked.data;
      if (version !== null && version > versions)
        this.#found(name, `it has "${alias}" name version ${version}, and the log has ${versions}`);
      if (ids.has(id)) this.#found(name, `"${id}" was said before`);
      ids.add(id);
    }
  }

  /** What the object holds; null where it is not what it was sealed as. */
  async #sealed(name: string): Promise<unknown> {
    const bytes = await this.#get(name);
    try {
      return bytes === null ? null : unsealed(bytes);
    } catch (fault) {
      this.#found(name, reasonOf(fault));
      return null;
    }
  }

  async #contentAddressed(name: string): Promise<void> {
    const bytes = await this.#get(name);
    const hash = bytes === null ? null : sha256(bytes);
    if (hash !== null && hash !== name.split('/').at(-1))
      this.#found(name, `its content hashes to ${hash}`);
  }

  /** Whether the register vouches for the last entry. */
  async #register(names: readonly string[], hashes: readonly string[]): Promise<boolean> {
    let anchored = hashes.length === 0;
    await each(names, async (name) => {
      const content = await this.#sealed(name);
      if (content === null) return;
      const [kind, ...rest] = name.slice(`lineages/${this.#lineage}/register/`.length).split('/');
      if (kind === 'revisions' || kind === 'fates') {
        const { revisionId, version } = content as { revisionId: string; version: number | null };
        const hash = hashed(revisionId);
        if (
          rest.join('/') !== `${hash}.json` &&
          (kind !== 'fates' ||
            rest.join('/') !== `${hash}/${String(version).padStart(20, '0')}.json`)
        )
          this.#found(name, `is about "${revisionId}" in version ${version ?? 'none'}`);
      }
      if (kind !== 'versions') return;
      const { version, hash } = content as { version: number; hash: string };
      if (hashes[version - 1] !== hash)
        this.#found(
          name,
          `version ${version} was registered with hash ${hash}, its entry hashes to ${hashes[version - 1] ?? 'nothing'}`,
        );
      else if (version === hashes.length) anchored = true;
    });
    return anchored;
  }

  async #get(name: string): Promise<Uint8Array | null> {
    const bytes = await this.#store.get(name);
    this.#objects += 1;
    this.#bytes += bytes?.byteLength ?? 0;
    if (this.#objects % 100 === 0) this.#progress(this.#objects);
    return bytes;
  }

  #found(object: string, problem: string): void {
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push({ object, problem });
    else this.#unkept += 1;
  }
}

/** What an entry says of an undo that no undo says, or says of none. */
function undoFaultsOf({
  undo,
  batchId,
  removed,
  retractions,
  searches = [],
}: VersionEntry): string[] {
  if (undo === undefined)
    return removed
      .filter(({ because }) => because === 'reverted')
      .map(({ correctionId }) => `it reverts "${correctionId}", and is no undo`);
  const by = undoRevisionId(undo);
  return [
    ...(batchId === `undo-${undo.id}`
      ? []
      : [`it is undo "${undo.id}", and of batch "${batchId}"`]),
    ...(retractions.length + searches.length === 0
      ? []
      : ['it is an undo, and carries out retractions or has searched']),
    ...removed
      .filter((one) => one.because !== 'reverted' || one.by !== by)
      .map(
        ({ correctionId, because, by: other }) =>
          `it is undo "${undo.id}", and "${correctionId}" was ${because} by "${other}"`,
      ),
  ];
}

/** All that a row says, as one would write it down. */
function rowOf(pairs: StoredPairs, row: number): unknown {
  const numbers = (values: Float32Array, width: number) =>
    Buffer.from(values.slice(row * width, (row + 1) * width).buffer).toString('hex');
  return {
    layers: pairs.layers,
    subject: pairs.subjects[row],
    spellings: pairs.spellings[row],
    keys: pairs.keys.map((values) => numbers(values, pairs.keyWidth)),
    changes: pairs.changes.map((values) => numbers(values, pairs.valueWidth)),
  };
}

function same(a: unknown, b: unknown): boolean {
  return Buffer.from(canonicalJson(a)).equals(canonicalJson(b));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function reasonOf(fault: unknown): string {
  return fault instanceof Error ? fault.message : String(fault);
}

async function each<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(OBJECTS_AT_ONCE_MAX, items.length) }, async () => {
      while (next < items.length) await work(items[next++]!);
    }),
  );
}
