/** The blobs of a lineage: bytes under their own hash, kept for good or staged for one batch. */
import type { BlobReference } from '../../schemas/editing.ts';
import { forEachObject, namesUnder, type ObjectStore } from '../stores/object-store.ts';
import { BlobMissing, StagingGone, VersionLogDamaged } from './failures.ts';
import { blobName, sha256 } from './object-names.ts';

export class Blobs {
  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
  ) {}

  /** Writes a blob permanently; a repetition has no effect. */
  async put(bytes: Uint8Array): Promise<BlobReference> {
    const reference = { sha256: sha256(bytes), bytes: bytes.byteLength };
    await this.store.putIfAbsent(this.#nameOf(reference), bytes);
    return reference;
  }

  /** Writes a blob for a running batch; its parts (`<batch>.<part>`) share its staging. */
  async stage(batchId: string, bytes: Uint8Array): Promise<BlobReference> {
    const staged = batchId.split('.')[0]!;
    const reference = { sha256: sha256(bytes), bytes: bytes.byteLength, staged };
    await this.store.putIfAbsent(this.#nameOf(reference), bytes);
    return reference;
  }

  /** Copies a staged blob, so that a version may name it. Throws `StagingGone`. */
  async keep(reference: BlobReference): Promise<BlobReference> {
    return await this.put(await this.get(reference));
  }

  async discardStaged(batchId: string): Promise<void> {
    const folder = this.#stagingFolder(batchId.split('.')[0]!);
    const names = await namesUnder(this.store, folder);
    await forEachObject(names, (name) => this.store.delete(name));
  }

  /** Reads and checks a blob. Throws `BlobMissing`, `StagingGone` or `VersionLogDamaged`. */
  async get(reference: BlobReference): Promise<Uint8Array> {
    const name = this.#nameOf(reference);
    const bytes = await this.store.get(name);
    if (bytes === null)
      throw reference.staged === undefined
        ? new BlobMissing(this.lineage, reference.sha256)
        : new StagingGone(this.lineage, reference.staged);
    const [{ byteLength }, hash] = [bytes, sha256(bytes)];
    const fault =
      byteLength !== reference.bytes
        ? `it has ${byteLength} bytes instead of ${reference.bytes}`
        : `its content hashes to ${hash}`;
    if (byteLength !== reference.bytes || hash !== reference.sha256)
      throw new VersionLogDamaged(this.lineage, name, fault);
    return bytes;
  }

  #nameOf({ sha256, staged }: Pick<BlobReference, 'sha256' | 'staged'>): string {
    return staged === undefined
      ? blobName(this.lineage, sha256)
      : `${this.#stagingFolder(staged)}${sha256}`;
  }

  #stagingFolder(batchId: string): string {
    return `lineages/${this.lineage}/staging/${batchId}/`;
  }
}
