/**
 * Whether an audit file (audit-export.ts) is whole and unchanged: the chain of its lines, its seal,
 * the chain of the entries and what they say of one another, and the seal or hash of every other
 * object. Where the lineage's log is at hand the file is held against it as well. It believes
 * nothing that it has not computed.
 */
import { versionEntrySchema, type VersionEntry } from '../../schemas/version-entry.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { AUDIT_FORMAT, type AuditHead, type AuditKind, type AuditSeal } from './audit-export.ts';
import { canonicalJson } from '../log/canonical-json.ts';
import { emptyHistory, extended, faultsOfEntry, type History } from '../log/history.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { unsealed } from '../log/sealed.ts';
import { blobName, entryName, sha256 } from '../log/object-names.ts';
import type { Finding } from './verify.ts';

/** Largest line that is read, in bytes: an archived history is the largest object. */
export const AUDIT_LINE_BYTES_MAX = 256 * 2 ** 20;

/** Findings past this are counted, not kept. */
const FINDINGS_MAX = 1_000;

export interface AuditCheck {
  lineage: string | null;
  versions: number;
  corrections: number;
  lines: number;
  bytes: number;
  /** Of the whole file, as `sha256sum` says it. */
  sha256: string;
  findings: Finding[];
  head: { version: number; hash: string | null };
  exportedAt: string | null;
  /**
   * Whether there is a log of this lineage to hold the file against; the versions that it has on
   * top.
   */
  against: { log: boolean; newer: number };
}

/** `lines` are those of the file, without their line feeds; `fileHash` is asked for at the end. */
export async function checkAudit(
  lines: AsyncIterable<Uint8Array>,
  store: ObjectStore | null,
  fileHash: () => { sha256: string; bytes: number },
): Promise<AuditCheck> {
  return await new AuditChecker(store).check(lines, fileHash);
}

class AuditChecker {
  readonly #store: ObjectStore | null;
  readonly #findings: Finding[] = [];
  #unkept = 0;
  #lines = 0;
  #previous: string | null = null;
  #head: AuditHead | null = null;
  #sealed = false;
  #history: History = emptyHistory('');
  /** The entries fit one another so far; after a fault what follows cannot be judged. */
  #follows = true;
  #latest: VersionEntry | null = null;
  /** Of the entry before, until its probe details have come. */
  #detailsDue: string | null = null;
  readonly #registered = new Map<number, string>();
  readonly #hashes: string[] = [];
  #inLog = false;

  constructor(store: ObjectStore | null) {
    this.#store = store;
  }

  async check(
    lines: AsyncIterable<Uint8Array>,
    fileHash: () => { sha256: string; bytes: number },
  ): Promise<AuditCheck> {
    for await (const line of lines) await this.#line(line);
    if (!this.#sealed) this.#found('the end', 'the file has no seal: its end is missing');
    for (const [version, hash] of this.#registered)
      if (version <= this.#hashes.length && this.#hashes[version - 1] !== hash)
        this.#found(
          `register/versions/${version}`,
          `it was registered with hash ${hash}, its entry hashes to ${this.#hashes[version - 1]!}`,
        );
    const { head } = this.#history;
    if (
      this.#head !== null &&
      (this.#head.head.version !== this.#hashes.length ||
        this.#head.head.hash !== (this.#hashes.at(-1) ?? null))
    )
      this.#found(
        'line 1',
        `it says HEAD is version ${this.#head.head.version}, ${this.#head.head.hash ?? 'none'}; the entries end with ${this.#hashes.length}, ${this.#hashes.at(-1) ?? 'none'}`,
      );
    const newer = this.#inLog ? await this.#newer() : 0;
    if (this.#unkept > 0)
      this.#findings.push({ object: 'the file', problem: `and ${this.#unkept} more` });
    return {
      lineage: this.#head?.lineage ?? null,
      versions: this.#hashes.length,
      corrections: this.#history.active.size,
      lines: this.#lines,
      ...fileHash(),
      findings: this.#findings,
      head,
      exportedAt: this.#head?.exportedAt ?? null,
      against: { log: this.#inLog, newer },
    };
  }

  async #line(bytes: Uint8Array): Promise<void> {
    const at = `line ${this.#lines + 1}`;
    const hash = sha256(bytes);
    const line = this.#read(at, bytes);
    if (line !== null) {
      if (this.#sealed) this.#found(at, 'it stands behind the seal');
      if (line.previous !== this.#previous)
        this.#found(
          at,
          `it follows ${line.previous ?? 'nothing'}, the line before hashes to ${this.#previous ?? 'nothing'}`,
        );
      const object = line.object ?? at;
      if ((line.kind === 'head') !== (this.#lines === 0))
        this.#found(
          at,
          line.kind === 'head' ? 'a second head' : 'the file does not begin with its head',
        );
      if (this.#detailsDue !== null && line.kind !== 'probes')
        this.#found(at, `the probe details of version ${this.#latest?.version ?? 0} are missing`);
      try {
        await this.#content(object, line, at);
      } catch (fault) {
        this.#found(object, fault instanceof Error ? fault.message : String(fault));
      }
    }
    this.#previous = hash;
    this.#lines += 1;
  }

  #read(
    at: string,
    bytes: Uint8Array,
  ): { content: unknown; kind: AuditKind; object?: string; previous: string | null } | null {
    try {
      const json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as {
        content: unknown;
        kind: AuditKind;
        object?: string;
        previous: string | null;
      };
      if (!Buffer.from(canonicalJson(json)).equals(bytes))
        throw new TypeError('it is not canonical JSON');
      return json;
    } catch (fault) {
      this.#found(at, fault instanceof Error ? fault.message : String(fault));
      return null;
    }
  }

  async #content(
    object: string,
    { kind, content }: { content: unknown; kind: AuditKind },
    at: string,
  ): Promise<void> {
    const bytes = canonicalJson(content);
    switch (kind) {
      case 'head': {
        const head = content as AuditHead;
        const { format } = content as { format?: unknown };
        if (format !== AUDIT_FORMAT)
          this.#found(at, `it is of the form ${excerpt(format)}, this reads ${AUDIT_FORMAT}`);
        this.#head = head;
        this.#history = emptyHistory(head.lineage);
        this.#inLog =
          this.#store !== null && (await this.#store.get(entryName(head.lineage, 1))) !== null;
        return;
      }
      case 'seal': {
        const { lines, sha256: last } = content as AuditSeal;
        if (lines !== this.#lines || last !== this.#previous)
          this.#found(
            at,
            `it seals ${lines} lines up to ${last}; there are ${this.#lines} up to ${this.#previous ?? 'none'}`,
          );
        this.#sealed = true;
        return;
      }
      case 'entry':
        this.#entry(object, content, sha256(bytes));
        break;
      case 'probes': {
        const due = this.#detailsDue;
        this.#detailsDue = null;
        if (
          due === null ||
          sha256(bytes) !== due ||
          object !== blobName(this.#head?.lineage ?? '', due)
        )
          this.#found(
            object,
            `its content hashes to ${sha256(bytes)}, the entry before names ${due ?? 'no more'}`,
          );
        break;
      }
      case 'register':
      case 'alias':
      case 'history':
        this.#sealedObject(object, bytes);
        break;
      default:
        this.#found(at, `${excerpt(kind)} is no kind of line`);
        return;
    }
    await this.#heldAgainst(object, bytes);
  }

  #entry(object: string, content: unknown, hash: string): void {
    this.#hashes.push(hash);
    const version = this.#hashes.length;
    if (object !== entryName(this.#head?.lineage ?? '', version))
      this.#found(object, `it stands where version ${version} is due`);
    const checked = versionEntrySchema.safeParse(content);
    if (!checked.success) {
      this.#follows = false;
      this.#found(
        object,
        checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
      );
      return;
    }
    this.#latest = checked.data;
    this.#detailsDue = checked.data.probes.details.sha256;
    if (!this.#follows) return;
    const faults = faultsOfEntry(this.#history, checked.data);
    for (const fault of faults) this.#found(object, fault);
    if (faults.length > 0) this.#follows = false;
    else this.#history = extended(this.#history, [{ entry: checked.data, hash }]);
  }

  #sealedObject(object: string, bytes: Uint8Array): void {
    try {
      const content = unsealed(bytes) as { version?: number; hash?: string };
      if (object.includes('/register/versions/'))
        this.#registered.set(content.version!, content.hash!);
    } catch (fault) {
      this.#found(object, fault instanceof Error ? fault.message : String(fault));
    }
  }

  async #heldAgainst(object: string, bytes: Uint8Array): Promise<void> {
    if (!this.#inLog || !object.startsWith(`lineages/${this.#head?.lineage ?? ''}/`)) return;
    const stored = await this.#store!.get(object);
    if (stored === null) this.#found(object, 'the log does not have it');
    else if (!Buffer.from(stored).equals(bytes))
      this.#found(object, 'the log has something else under this name');
  }

  /** Versions that were committed since. */
  async #newer(): Promise<number> {
    let newer = 0;
    while (
      (await this.#store!.get(entryName(this.#head!.lineage, this.#hashes.length + newer + 1))) !==
      null
    )
      newer += 1;
    return newer;
  }

  #found(object: string, problem: string): void {
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push({ object, problem });
    else this.#unkept += 1;
  }
}
