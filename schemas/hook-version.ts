/** The announcement of a committed version (hook-version.avsc). Its entry has the details. */
export interface HookVersion {
  lineage: string;
  version: number;
  /** SHA-256 of the entry's stored bytes, hexadecimal. */
  hash: string;
  /** Hash of the parent entry; null for the first version. */
  parent: string | null;
  batchId: string;
  /** Numbers of corrections that this version added, removed, and holds in total. */
  added: number;
  removed: number;
  corrections: number;
  /** Milliseconds since 1970. */
  createdAt: number;
}
