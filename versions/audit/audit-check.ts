/**
 * Checks that an audit file (audit-export.ts) is whole and unchanged: the chain of its lines, its
 * seal, the chain of the entries, and the seal or hash of every other object. Where the lineage's
 * log is available, the file is also compared with it. Trusts only hashes that are computed here.
 */
import { excerpt, faultsFound } from '../../schemas/encoding/excerpt.ts';
import { messageOf } from '../../schemas/failures.ts';
import { versionEntrySchema } from '../../schemas/version-entry.ts';
import { canonicalJson } from '../log/canonical-json.ts';
import { emptyHistory, extended, faultsOfEntry, type History } from '../log/history.ts';
import { blobName, entryName, sha256 } from '../log/object-names.ts';
import { canonicalJsonOf, unsealed } from '../log/sealed.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { AUDIT_FORMAT, type AuditHead, type AuditKind, type AuditSeal } from './audit-export.ts';
import { Findings, type Finding } from './findings.ts';

/** Largest line that is read, in bytes. An archived history is the largest object. */
export const AUDIT_LINE_BYTES_MAX = 256 * 2 ** 20;

export interface AuditCheck {
  lineage: string | null;
  versions: number;
  corrections: number;
  lines: number;
  bytes: number;
  /** The hash of the whole file, as `sha256sum` prints it. */
  sha256: string;
  findings: Finding[];
  head: { version: number; hash: string | null };
  exportedAt: string | null;
  /** `log`: the lineage's log was compared; it has `newer` versions beyond the file. */
  against: { log: boolean; newer: number };
}

type FileHash = () => { sha256: string; bytes: number };

/** Checks the lines of a file, without their line feeds; calls `fileHash` at the end. */
export async function checkAudit(
  lines: AsyncIterable<Uint8Array>,
  store: ObjectStore | null,
  fileHash: FileHash,
): Promise<AuditCheck> {
  return await new AuditChecker(store).check(lines, fileHash);
}

interface AuditLine {
  content: unknown;
  kind: AuditKind;
  object?: string;
  previous: string | null;
}

class AuditChecker {
  readonly #findings = new Findings();
  #lines = 0;
  #previous: string | null = null;
  #head: AuditHead | null = null;
  #isSealed = false;
  #history: History = emptyHistory('');
  /** False after the first entry that does not follow: later ones cannot be judged. */
  #follows = true;
  /** The hash of the probe details that must come next. */
  #detailsDue: string | null = null;
  readonly #registered = new Map<number, string>();
  readonly #hashes: string[] = [];
  #inLog = false;

  constructor(private readonly store: ObjectStore | null) {}

  async check(lines: AsyncIterable<Uint8Array>, fileHash: FileHash): Promise<AuditCheck> {
    for await (const line of lines) await this.#line(line);
    this.#checkEnd();
    const newer = this.#inLog ? await this.#newer() : 0;
    return {
      lineage: this.#head?.lineage ?? null,
      versions: this.#hashes.length,
      corrections: this.#history.active.size,
      lines: this.#lines,
      ...fileHash(),
      findings: this.#findings.list('the file'),
      head: this.#history.head,
      exportedAt: this.#head?.exportedAt ?? null,
      against: { log: this.#inLog, newer },
    };
  }

  #checkEnd(): void {
    const hashes = this.#hashes;
    if (!this.#isSealed) this.#findings.add('the end', 'the file has no seal: its end is missing');
    for (const [version, hash] of this.#registered)
      if (version <= hashes.length && hashes[version - 1] !== hash)
        this.#findings.add(
          `register/versions/${version}`,
          `it was registered with hash ${hash}, its entry hashes to ${hashes[version - 1]!}`,
        );
    const head = this.#head?.head;
    const last = hashes.at(-1) ?? null;
    if (head !== undefined && (head.version !== hashes.length || head.hash !== last))
      this.#findings.add(
        'line 1',
        `it says HEAD is version ${head.version}, ${head.hash ?? 'none'}; ` +
          `the entries end with ${hashes.length}, ${last ?? 'none'}`,
      );
  }

  async #line(bytes: Uint8Array): Promise<void> {
    const at = `line ${this.#lines + 1}`;
    const line = this.#findings.attempt(at, () => canonicalJsonOf(bytes) as AuditLine);
    if (line !== null) {
      this.#checkPlace(at, line);
      await this.#content(line, at).catch((fault: unknown) =>
        this.#findings.add(line.object ?? at, messageOf(fault)),
      );
    }
    this.#previous = sha256(bytes);
    this.#lines += 1;
  }

  #checkPlace(at: string, { kind, previous }: AuditLine): void {
    if (this.#isSealed) this.#findings.add(at, 'it follows the seal');
    if (previous !== this.#previous)
      this.#findings.add(
        at,
        `it names ${previous ?? 'nothing'} as the line before, ` +
          `which hashes to ${this.#previous ?? 'nothing'}`,
      );
    if (this.#lines === 0 && kind !== 'head')
      this.#findings.add(at, 'the file does not begin with its head');
    if (this.#lines > 0 && kind === 'head') this.#findings.add(at, 'a second head');
    if (this.#detailsDue !== null && kind !== 'probes')
      this.#findings.add(at, `the probe details of version ${this.#hashes.length} are missing`);
  }

  async #content({ kind, content, object: name }: AuditLine, at: string): Promise<void> {
    const object = name ?? at;
    const bytes = canonicalJson(content);
    switch (kind) {
      case 'head':
        return await this.#takeHead(content as AuditHead, at);
      case 'seal':
        return this.#takeSeal(content as AuditSeal, at);
      case 'entry':
        this.#takeEntry(object, content, sha256(bytes));
        break;
      case 'probes':
        this.#takeProbes(object, sha256(bytes));
        break;
      case 'register':
      case 'alias':
      case 'history':
        this.#takeSealed(object, bytes);
        break;
      default:
        return this.#findings.add(at, `${excerpt(kind)} is not a kind of line`);
    }
    await this.#compareWithLog(object, bytes);
  }

  async #takeHead(head: AuditHead, at: string): Promise<void> {
    const format: unknown = head.format;
    if (format !== AUDIT_FORMAT)
      this.#findings.add(at, `its format is ${excerpt(format)}, not ${AUDIT_FORMAT}`);
    this.#head = head;
    this.#history = emptyHistory(head.lineage);
    const first = entryName(head.lineage, 1);
    this.#inLog = this.store !== null && (await this.store.get(first)) !== null;
  }

  #takeSeal({ lines, sha256: last }: AuditSeal, at: string): void {
    if (lines !== this.#lines || last !== this.#previous)
      this.#findings.add(
        at,
        `it seals ${lines} lines up to ${last}; ` +
          `there are ${this.#lines} up to ${this.#previous ?? 'none'}`,
      );
    this.#isSealed = true;
  }

  #takeEntry(object: string, content: unknown, hash: string): void {
    this.#hashes.push(hash);
    const version = this.#hashes.length;
    if (object !== entryName(this.#head?.lineage ?? '', version))
      this.#findings.add(object, `it is in the place of version ${version}`);
    const { success, data: entry, error } = versionEntrySchema.safeParse(content);
    if (success) this.#detailsDue = entry.probes.details.sha256;
    if (success && !this.#follows) return;
    const faults = success ? faultsOfEntry(this.#history, entry) : [faultsFound(error).join('; ')];
    this.#findings.add(object, ...faults);
    if (success && faults.length === 0) this.#history = extended(this.#history, [{ entry, hash }]);
    else this.#follows = false;
  }

  #takeProbes(object: string, hash: string): void {
    const due = this.#detailsDue;
    this.#detailsDue = null;
    if (hash !== due || object !== blobName(this.#head?.lineage ?? '', due))
      this.#findings.add(
        object,
        `its content hashes to ${hash}, the entry before names ${due ?? 'no more'}`,
      );
  }

  #takeSealed(object: string, bytes: Uint8Array): void {
    const content = this.#findings.attempt(object, () => unsealed(bytes));
    if (content === null || !object.includes('/register/versions/')) return;
    const { version, hash } = content as { version: number; hash: string };
    this.#registered.set(version, hash);
  }

  async #compareWithLog(object: string, bytes: Uint8Array): Promise<void> {
    if (!this.#inLog || !object.startsWith(`lineages/${this.#head?.lineage ?? ''}/`)) return;
    const stored = await this.store!.get(object);
    if (stored === null) this.#findings.add(object, 'the log does not have it');
    else if (!Buffer.from(stored).equals(bytes))
      this.#findings.add(object, 'the log has something else under this name');
  }

  async #newer(): Promise<number> {
    let version = this.#hashes.length + 1;
    while ((await this.store!.get(entryName(this.#head!.lineage, version))) !== null) version += 1;
    return version - this.#hashes.length - 1;
  }
}
