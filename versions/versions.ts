/** The version logs of all lineages in one object store. */
import { LINEAGE_NAME } from '../schemas/correction.ts';
import { checkAudit, type AuditCheck } from './audit/audit-check.ts';
import { auditLines } from './audit/audit-export.ts';
import { FileStore } from './stores/file-store.ts';
import { HistoryArchive } from './audit/history-archive.ts';
import type { ObjectStore } from './stores/object-store.ts';
import { verifyLineage, type Verification } from './audit/verify.ts';
import { VersionLog } from './log/version-log.ts';

export class Versions {
  readonly #logs = new Map<string, VersionLog>();

  constructor(private readonly store: ObjectStore) {}

  /** The log of a lineage; always the same object, so that everything is read only once. */
  log(lineage: string): VersionLog {
    let log = this.#logs.get(lineage);
    if (log === undefined) {
      log = new VersionLog(this.store, lineage);
      this.#logs.set(lineage, log);
    }
    return log;
  }

  /** The histories of a lineage's closed workflows. */
  histories(lineage: string): HistoryArchive {
    return new HistoryArchive(this.store, lineage);
  }

  /** Reports everything in a lineage that violates the specification. */
  async verify(lineage: string, progress?: (objects: number) => void): Promise<Verification> {
    return await verifyLineage(this.store, lineage, progress);
  }

  /** Yields the lines of a lineage's audit file. */
  audit(lineage: string, about: Parameters<typeof auditLines>[2]): AsyncIterable<Uint8Array> {
    return auditLines(this.store, this.log(lineage), about);
  }

  /** Checks that an audit file is whole, unchanged and in agreement with this store. */
  async checkAudit(
    lines: AsyncIterable<Uint8Array>,
    fileHash: Parameters<typeof checkAudit>[2],
  ): Promise<AuditCheck> {
    return await checkAudit(lines, this.store, fileHash);
  }

  /** Lists the lineages that have any object, ascending. Walks the whole store. */
  async lineages(): Promise<string[]> {
    const names = new Set<string>();
    for await (const name of this.store.list('lineages/')) {
      const lineage = name.split('/')[1]!;
      if (LINEAGE_NAME.test(lineage)) names.add(lineage);
    }
    return [...names];
  }
}

export function versionsInFolder(folder: string): Versions {
  return new Versions(new FileStore(folder));
}
