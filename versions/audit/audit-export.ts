/**
 * One lineage as one file that can be checked without us: a line for everything that the log, the
 * register and the aliases say, in its stored bytes, each line holding the hash of the line before,
 * the last one their number. docs/audit.md has the form. It is written as it is read; nothing but
 * one object is in memory.
 */
import { VersionLogDamaged } from '../log/failures.ts';
import { canonicalJson } from '../log/canonical-json.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { type VersionLog } from '../log/version-log.ts';
import { blobName, entryName, sha256 } from '../log/object-names.ts';

export const AUDIT_FORMAT = 'errata-audit-1';

/** In the order of the file. `register`, `alias` and `history` are sealed objects. */
export type AuditKind = 'head' | 'entry' | 'probes' | 'register' | 'alias' | 'history' | 'seal';

export interface AuditHead {
  format: typeof AUDIT_FORMAT;
  lineage: string;
  head: { version: number; hash: string | null };
  software: string;
  /** ISO 8601 in UTC: the one thing in which two files of the same log differ. */
  exportedAt: string;
  /** Whether archived histories are in the file. */
  histories: boolean;
}

export interface AuditSeal {
  /** Lines before this one. */
  lines: number;
  /** Of the last of them. */
  sha256: string;
}

/** Folders of sealed objects behind the lineage's own, and what their lines are called. */
export const SEALED_FOLDERS: readonly [folder: string, kind: AuditKind][] = [
  ['register', 'register'],
  ['aliases', 'alias'],
  ['histories', 'history'],
];

/** The lines, each with its line feed. Throws `VersionLogDamaged` and `BlobMissing`. */
export async function* auditLines(
  store: ObjectStore,
  log: VersionLog,
  { software, exportedAt, histories }: Pick<AuditHead, 'software' | 'exportedAt' | 'histories'>,
): AsyncIterable<Uint8Array> {
  const { lineage } = log;
  const { head } = await log.read();
  let previous: string | null = null;
  let lines = 0;
  const line = (kind: AuditKind, object: string | null, content: Uint8Array): Uint8Array => {
    const bytes: Buffer = Buffer.concat([
      Buffer.from('{"content":'),
      content,
      Buffer.from(
        `,"kind":"${kind}"${object === null ? '' : `,"object":${JSON.stringify(object)}`},"previous":${JSON.stringify(previous)}}`,
      ),
    ]);
    previous = sha256(bytes);
    lines += 1;
    return Buffer.concat([bytes, Buffer.from('\n')]);
  };
  const stored = async (name: string): Promise<Uint8Array> =>
    canonicalOf(lineage, name, await store.get(name));

  yield line(
    'head',
    null,
    canonicalJson({
      format: AUDIT_FORMAT,
      lineage,
      head,
      software,
      exportedAt,
      histories,
    } satisfies AuditHead),
  );
  for await (const { entry, hash } of log.walk()) {
    // What is committed while the file is written is another file's.
    if (entry.version > head.version) break;
    const bytes = await stored(entryName(lineage, entry.version));
    if (sha256(bytes) !== hash)
      throw new VersionLogDamaged(
        lineage,
        entryName(lineage, entry.version),
        `it hashes to ${sha256(bytes)}, and hashed to ${hash} a moment ago`,
      );
    yield line('entry', entryName(lineage, entry.version), bytes);
    const details = blobName(lineage, entry.probes.details.sha256);
    yield line(
      'probes',
      details,
      canonicalOf(lineage, details, await log.blobs.get(entry.probes.details)),
    );
  }
  for (const [folder, kind] of SEALED_FOLDERS) {
    if (kind === 'history' && !histories) continue;
    for await (const name of store.list(`lineages/${lineage}/${folder}/`))
      yield line(kind, name, await stored(name));
  }
  yield line('seal', null, canonicalJson({ lines, sha256: previous ?? '' } satisfies AuditSeal));
}

/** The bytes, which a line can take as they are only where they are canonical JSON. */
function canonicalOf(lineage: string, name: string, bytes: Uint8Array | null): Uint8Array {
  if (bytes === null) throw new VersionLogDamaged(lineage, name, 'it is gone');
  try {
    if (
      Buffer.from(
        canonicalJson(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))),
      ).equals(bytes)
    )
      return bytes;
  } catch (fault) {
    throw new VersionLogDamaged(
      lineage,
      name,
      fault instanceof Error ? fault.message : String(fault),
    );
  }
  throw new VersionLogDamaged(lineage, name, 'it is not canonical JSON');
}
