/** Checks an entry against the blobs that it names and, for an undo, against its originals. */
import type { TargetSearch } from '../../schemas/editing.ts';
import { undoRevisionId } from '../../schemas/undo.ts';
import { versionEntrySchema, type VersionEntry } from '../../schemas/version-entry.ts';
import { canonicalJson } from '../log/canonical-json.ts';
import { blobName, entryName } from '../log/object-names.ts';
import { decodePairs, type StoredPairs } from '../log/pairs.ts';
import { jsonOf } from '../log/sealed.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import type { Findings } from './findings.ts';

type Blob = VersionEntry['probes']['details'];

export class EntryContentCheck {
  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
    private readonly findings: Findings,
  ) {}

  async check(entry: VersionEntry): Promise<void> {
    const name = entryName(this.lineage, entry.version);
    await this.#checkBlobs(name, entry);
    this.findings.add(name, ...undoFaultsOf(entry));
    await this.#checkRestored(name, entry);
  }

  /** Checks that the blobs exist and match the entry. Their hashes are checked with all blobs. */
  async #checkBlobs(name: string, entry: VersionEntry): Promise<void> {
    const { pairs, probes, added, searches } = entry;
    if (pairs !== null)
      await this.#checkBlob(name, 'pairs', pairs, (bytes) => {
        const { count, subjects } = decodePairs(bytes);
        if (added.some(({ row }) => row >= count)) return `its pairs have only ${count} rows`;
        const isOther = added.some(({ row, subject }) => subjects[row] !== subject.trim());
        return isOther ? 'its pairs are about other subjects' : null;
      });
    const searched = new Set<string>();
    for (const search of searches)
      await this.#checkBlob(name, 'search', search, (bytes) => {
        const { edits } = jsonOf(bytes) as TargetSearch;
        for (const { correction } of edits) searched.add(correction.id);
        return null;
      });
    const ids = added.map(({ correctionId }) => correctionId);
    if (searches.length > 0 && ids.some((id) => !searched.has(id)))
      this.findings.add(name, 'its searches do not cover all that it adds');
    await this.#checkBlob(name, 'probe details', probes.details, (bytes) => {
      const probed = (jsonOf(bytes) as { id: string }[]).map(({ id }) => id);
      return probed.sort().join('\n') === ids.sort().join('\n')
        ? null
        : 'its probe details are of other corrections';
    });
  }

  async #checkBlob(
    name: string,
    what: string,
    blob: Blob,
    check: (bytes: Uint8Array) => string | null,
  ): Promise<void> {
    const bytes = await this.#blob(blob);
    if (bytes === null)
      return this.findings.add(name, `its ${what}: blob ${blob.sha256} is not in the store`);
    if (bytes.byteLength !== blob.bytes)
      this.findings.add(
        name,
        `its ${what}: the blob has ${bytes.byteLength} bytes instead of ${blob.bytes}`,
      );
    const fault = this.findings.attempt(name, () => check(bytes), `its ${what} cannot be read: `);
    if (fault !== null) this.findings.add(name, fault);
  }

  /** Checks that restored corrections equal the first ones that were added, in texts and pairs. */
  async #checkRestored(name: string, { added, pairs }: VersionEntry): Promise<void> {
    const origins = new Set(added.flatMap(({ origin }) => origin?.version ?? []));
    if (origins.size === 0) return;
    const copies = await this.#pairs(pairs);
    // Versions are read one by one, since the pairs of many may not fit in memory.
    for (const version of origins) {
      const first = await this.#entry(version);
      const originals = await this.#pairs(first?.pairs ?? null);
      for (const { row, origin, ...correction } of added) {
        if (origin?.version !== version) continue;
        const id = correction.correctionId;
        const found = first?.added.find(({ correctionId }) => correctionId === id);
        const { row: firstRow, origin: earlier, ...original } = found ?? {};
        if (firstRow !== origin.row || earlier !== undefined || !isSame(original, correction))
          this.findings.add(name, `it restores "${id}" differently from version ${version}`);
        else if (
          copies !== null &&
          originals !== null &&
          !isSame(rowOf(originals, origin.row), rowOf(copies, row))
        )
          this.findings.add(name, `the pairs of "${id}" differ from those of version ${version}`);
      }
    }
  }

  /** Returns null where the pairs are missing or malformed, which is reported elsewhere. */
  async #pairs(blob: Blob | null): Promise<StoredPairs | null> {
    const bytes = blob === null ? null : await this.#blob(blob);
    try {
      return bytes === null ? null : decodePairs(bytes);
    } catch {
      return null;
    }
  }

  async #entry(version: number): Promise<VersionEntry | null> {
    const bytes = await this.store.get(entryName(this.lineage, version));
    return bytes === null ? null : (versionEntrySchema.safeParse(jsonOf(bytes)).data ?? null);
  }

  #blob({ sha256 }: Blob): Promise<Uint8Array | null> {
    return this.store.get(blobName(this.lineage, sha256));
  }
}

/** Returns parts that an undo must not contain, or that only an undo may contain. */
function undoFaultsOf({ undo, batchId, removed, retractions, searches }: VersionEntry): string[] {
  if (undo === undefined)
    return removed
      .filter(({ because }) => because === 'reverted')
      .map(({ correctionId }) => `it reverts "${correctionId}", but is not an undo`);
  const { id } = undo;
  const by = undoRevisionId(undo);
  return [
    ...(batchId === `undo-${id}` ? [] : [`it is undo "${id}", but of batch "${batchId}"`]),
    ...(retractions.length + searches.length === 0
      ? []
      : ['it is an undo, but has retractions or searches']),
    ...removed
      .filter((one) => one.because !== 'reverted' || one.by !== by)
      .map(
        (one) => `it is undo "${id}", but "${one.correctionId}" was ${one.because} by "${one.by}"`,
      ),
  ];
}

/** Returns a comparable value of everything in a row. */
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

function isSame(a: unknown, b: unknown): boolean {
  return Buffer.from(canonicalJson(a)).equals(canonicalJson(b));
}
