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

  /** Returns the log of a lineage, always the same object, so that data is read only once. */
  log(lineage: string): VersionLog {
    let log = this.#logs.get(lineage);
    if (log === undefined) {
      log = new VersionLog(this.store, lineage);
      this.#logs.set(lineage, log);
    }
    return log;
  }

  histories(lineage: string): HistoryArchive {
    return new HistoryArchive(this.store, lineage);
  }

  /** Reports all violations of the specification in a lineage. */
  async verify(lineage: string, progress?: (objects: number) => void): Promise<Verification> {
    return await verifyLineage(this.store, lineage, progress);
  }

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
