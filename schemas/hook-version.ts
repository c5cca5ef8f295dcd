/** The announcement of a committed version (hook-version.avsc); its entry has the rest. */
export interface HookVersion {
  lineage: string;
  version: number;
  /** SHA-256 of the entry's stored bytes, hexadecimal. */
  hash: string;
  /** Hash of the parent entry; null for the first version. */
  parent: string | null;
  batchId: string;
  /** Corrections that this version wrote, took out, and holds in all. */
  added: number;
  removed: number;
  corrections: number;
  /** Milliseconds since 1970. */
  createdAt: number;
}
