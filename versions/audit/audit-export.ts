/**
 * Writes one lineage as one file that can be checked without Errata: a line for every entry,
 * register object and alias record, in its stored bytes. Each line holds the hash of the line
 * before, and the last one seals their number. docs/audit.md describes the format. Only one object
 * is in memory at a time.
 */
import { canonicalJson } from '../log/canonical-json.ts';
import { VersionLogDamaged } from '../log/failures.ts';
import { blobName, entryName, sha256 } from '../log/object-names.ts';
import { canonicalJsonOf, parsedOf } from '../log/sealed.ts';
import type { VersionLog } from '../log/version-log.ts';
import type { ObjectStore } from '../stores/object-store.ts';

export const AUDIT_FORMAT = 'errata-audit-1';

/**
 * Kinds of lines, in the order of the file. `register`, `alias` and `history` are sealed objects.
 */
export type AuditKind = 'head' | 'entry' | 'probes' | 'register' | 'alias' | 'history' | 'seal';

export interface AuditHead {
  format: typeof AUDIT_FORMAT;
  lineage: string;
  head: { version: number; hash: string | null };
  software: string;
  /** ISO 8601 in UTC; the only difference between two files of the same log. */
  exportedAt: string;
  /** Whether the file includes archived histories. */
  histories: boolean;
}

export interface AuditSeal {
  /** Number of lines before the seal. */
  lines: number;
  /** Hash of the last of these lines. */
  sha256: string;
}

const SEALED_FOLDERS: readonly [folder: string, kind: AuditKind][] = [
  ['register', 'register'],
  ['aliases', 'alias'],
  ['histories', 'history'],
];

/** Yields the lines with their line feeds. Throws `VersionLogDamaged` and `BlobMissing`. */
export async function* auditLines(
  store: ObjectStore,
  log: VersionLog,
  about: Pick<AuditHead, 'software' | 'exportedAt' | 'histories'>,
): AsyncIterable<Uint8Array> {
  const { lineage } = log;
  const { head } = await log.read();
  const lines = new AuditLines();
  const stored = async (name: string): Promise<Uint8Array> =>
    canonical(lineage, name, await store.get(name));

  const first: AuditHead = { format: AUDIT_FORMAT, lineage, head, ...about };
  yield lines.next('head', null, canonicalJson(first));
  for await (const { entry, hash } of log.walk()) {
    // Versions committed during the export belong to the next file.
    if (entry.version > head.version) break;
    const name = entryName(lineage, entry.version);
    const bytes = await stored(name);
    if (sha256(bytes) !== hash)
      throw new VersionLogDamaged(
        lineage,
        name,
        `it hashes to ${sha256(bytes)}, and hashed to ${hash} a moment ago`,
      );
    yield lines.next('entry', name, bytes);
    const { details } = entry.probes;
    const detailsName = blobName(lineage, details.sha256);
    yield lines.next(
      'probes',
      detailsName,
      canonical(lineage, detailsName, await log.blobs.get(details)),
    );
  }
  for (const [folder, kind] of SEALED_FOLDERS) {
    if (kind === 'history' && !about.histories) continue;
    for await (const name of store.list(`lineages/${lineage}/${folder}/`))
      yield lines.next(kind, name, await stored(name));
  }
  yield lines.next('seal', null, canonicalJson(lines.seal));
}

class AuditLines {
  #previous: string | null = null;
  #count = 0;

  next(kind: AuditKind, object: string | null, content: Uint8Array): Uint8Array {
    const name = object === null ? '' : `,"object":${JSON.stringify(object)}`;
    const rest = `,"kind":"${kind}"${name},"previous":${JSON.stringify(this.#previous)}}`;
    const line = Buffer.concat([Buffer.from('{"content":'), content, Buffer.from(rest)]);
    this.#previous = sha256(line);
    this.#count += 1;
    return Buffer.concat([line, Buffer.from('\n')]);
  }

  get seal(): AuditSeal {
    return { lines: this.#count, sha256: this.#previous ?? '' };
  }
}

/** Returns the bytes. A line can hold only canonical JSON unchanged, so other bytes are refused. */
function canonical(lineage: string, name: string, bytes: Uint8Array | null): Uint8Array {
  if (bytes === null) throw new VersionLogDamaged(lineage, name, 'it is missing');
  parsedOf(lineage, name, () => canonicalJsonOf(bytes));
  return bytes;
}
