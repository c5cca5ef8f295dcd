/**
 * Reads a lineage's log, blobs, register, aliases and archived histories and reports every
 * violation of SPECIFICATION.md. All hashes and the fold are computed anew. A single changed byte
 * shows, since every object is named by its hash, sealed with it, or named by its successor.
 */
import { aliasRecordSchema } from '../../schemas/alias.ts';
import { faultsFound } from '../../schemas/encoding/excerpt.ts';
import { versionEntrySchema } from '../../schemas/version-entry.ts';
import {
  emptyHistory,
  extended,
  faultsOfEntry,
  type History,
  type StoredEntry,
} from '../log/history.ts';
import { aliasRecordName, entryName, hashed, sha256, twentyDigits } from '../log/object-names.ts';
import { canonicalJsonOf, unsealed } from '../log/sealed.ts';
import { forEachObject, type ObjectStore } from '../stores/object-store.ts';
import { Findings, type Finding } from './findings.ts';
import { EntryContentCheck } from './verify-entry.ts';

export interface Verification {
  lineage: string;
  versions: number;
  /** Number of corrections that hold at the last sound version. */
  corrections: number;
  objects: number;
  bytes: number;
  findings: Finding[];
  /** `anchored`: the register confirms the hash of the last entry, which no later entry names. */
  head: { version: number; hash: string | null; anchored: boolean };
}

const PIECE_ENTRIES = 16;
type Folder = 'log' | 'blobs' | 'register' | 'aliases' | 'histories' | 'staging';

export async function verifyLineage(
  store: ObjectStore,
  lineage: string,
  progress: (objects: number) => void = () => {},
): Promise<Verification> {
  return await new Verifier(store, lineage, progress).verify();
}

class Verifier {
  readonly #findings = new Findings();
  /** Hashes of the entries up to the first unsound one. */
  readonly #hashes: string[] = [];
  #objects = 0;
  #bytes = 0;

  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
    private readonly progress: (objects: number) => void,
  ) {}

  async verify(): Promise<Verification> {
    const root = `lineages/${this.lineage}/`;
    const names = await this.#namesIn(root);
    const history = await this.#verifyLog(names.log);
    for (const folder of ['blobs', 'staging'] as const)
      await forEachObject(names[folder], (name) => this.#verifyHash(name));
    const anchored = await this.#verifyRegister(names.register);
    await this.#verifyAliases(names.aliases);
    await forEachObject(names.histories, (name) => this.#verifyHistory(name));
    return {
      lineage: this.lineage,
      versions: history.head.version,
      corrections: history.active.size,
      objects: this.#objects,
      bytes: this.#bytes,
      findings: this.#findings.list(root),
      head: { ...history.head, anchored },
    };
  }

  async #namesIn(root: string): Promise<Record<Folder, string[]>> {
    const names = { log: [], blobs: [], register: [], aliases: [], histories: [], staging: [] };
    const groups = new Map<string, string[]>(Object.entries(names));
    for await (const name of this.store.list(root)) {
      const group = groups.get(name.slice(root.length).split('/')[0]!);
      if (group === undefined) this.#findings.add(name, 'does not belong to a version log');
      else group.push(name);
    }
    return names;
  }

  async #verifyLog(names: readonly string[]): Promise<History> {
    let history = emptyHistory(this.lineage);
    const batches = new Map<string, number>();
    const contents = new EntryContentCheck(this.store, this.lineage, this.#findings);
    for (let first = 0; first < names.length; first += PIECE_ENTRIES) {
      const piece = names.slice(first, first + PIECE_ENTRIES);
      const fetched = await Promise.all(piece.map((name) => this.#get(name)));
      const sound: StoredEntry[] = [];
      for (const [i, name] of piece.entries()) {
        const next = this.#entryAfter(history, name, fetched[i]!, batches);
        if (next === null) break;
        history = extended(history, [next]);
        sound.push(next);
      }
      await forEachObject(sound, ({ entry }) => contents.check(entry));
      if (sound.length < piece.length) break;
    }
    return history;
  }

  /** Returns the entry if it is sound and follows the one before. */
  #entryAfter(
    history: History,
    name: string,
    bytes: Uint8Array | null,
    batches: Map<string, number>,
  ): StoredEntry | null {
    const version = history.head.version + 1;
    if (name !== entryName(this.lineage, version)) {
      this.#findings.add(
        name,
        `is in the place of version ${version}; all from here on is unusable`,
      );
      return null;
    }
    if (bytes === null) {
      this.#findings.add(name, 'it is missing');
      return null;
    }
    const hash = sha256(bytes);
    this.#hashes.push(hash);
    const json = this.#findings.attempt(name, () => canonicalJsonOf(bytes));
    if (json === null) return null;
    const { success, data: entry, error } = versionEntrySchema.safeParse(json);
    if (!success) {
      this.#findings.add(name, faultsFound(error).join('; '));
      return null;
    }
    const faults = faultsOfEntry(history, entry);
    const earlier = batches.get(entry.batchId);
    if (earlier !== undefined)
      faults.push(`batch "${entry.batchId}" already made version ${earlier}`);
    batches.set(entry.batchId, entry.version);
    this.#findings.add(name, ...faults);
    return faults.length > 0 ? null : { entry, hash };
  }

  async #verifyAliases(names: readonly string[]): Promise<void> {
    const versions = this.#hashes.length;
    const ids = new Set<string>();
    for (const [i, name] of names.entries()) {
      if (name !== aliasRecordName(this.lineage, i + 1))
        return this.#findings.add(
          name,
          `is in the place of alias record ${i + 1}; all from here on is unusable`,
        );
      const content = await this.#sealed(name);
      if (content === null) continue;
      const { success, data, error } = aliasRecordSchema.safeParse(content);
      if (!success) {
        this.#findings.add(name, faultsFound(error).join('; '));
        continue;
      }
      const { id, alias, version } = data;
      if (version !== null && version > versions)
        this.#findings.add(name, `it moves "${alias}" to version ${version} of ${versions}`);
      if (ids.has(id)) this.#findings.add(name, `it repeats the id "${id}"`);
      ids.add(id);
    }
  }

  /** Returns whether the register confirms the last entry. */
  async #verifyRegister(names: readonly string[]): Promise<boolean> {
    const root = `lineages/${this.lineage}/register/`;
    let anchored = this.#hashes.length === 0;
    await forEachObject(names, async (name) => {
      const content = await this.#sealed(name);
      if (content === null) return;
      const kind = name.slice(root.length).split('/')[0]!;
      if (kind === 'revisions' || kind === 'fates') {
        const { revisionId, version } = content as { revisionId: string; version: number | null };
        const suffix = kind === 'fates' ? `/${twentyDigits(version ?? 0)}` : '';
        if (name !== `${root}${kind}/${hashed(revisionId)}${suffix}.json`)
          this.#findings.add(name, `is about "${revisionId}" in version ${version ?? 'none'}`);
      }
      if (kind !== 'versions') return;
      const { version, hash } = content as { version: number; hash: string };
      const found = this.#hashes[version - 1] ?? 'nothing';
      if (found !== hash)
        this.#findings.add(
          name,
          `version ${version} was registered with hash ${hash}, its entry hashes to ${found}`,
        );
      else if (version === this.#hashes.length) anchored = true;
    });
    return anchored;
  }

  async #verifyHistory(name: string): Promise<void> {
    const content = await this.#sealed(name);
    if (content === null) return;
    const { workflowId, runId } = content as { workflowId: string; runId: string };
    if (!name.endsWith(`/histories/${hashed(workflowId)}/${runId}.json`))
      this.#findings.add(name, `is run ${runId} of ${workflowId}`);
  }

  async #verifyHash(name: string): Promise<void> {
    const bytes = await this.#get(name);
    const hash = bytes === null ? null : sha256(bytes);
    if (hash !== null && hash !== name.split('/').at(-1))
      this.#findings.add(name, `its content hashes to ${hash}`);
  }

  async #sealed(name: string): Promise<unknown> {
    const bytes = await this.#get(name);
    return bytes === null ? null : this.#findings.attempt(name, () => unsealed(bytes));
  }

  async #get(name: string): Promise<Uint8Array | null> {
    const bytes = await this.store.get(name);
    this.#objects += 1;
    this.#bytes += bytes?.byteLength ?? 0;
    if (this.#objects % 100 === 0) this.progress(this.#objects);
    return bytes;
  }
}
