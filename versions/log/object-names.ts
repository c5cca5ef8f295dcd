/** The names of a lineage's objects (SPECIFICATION.md, "Objects") and the hashes in them. */
import { createHash } from 'node:crypto';

export function entryName(lineage: string, version: number): string {
  return `lineages/${lineage}/log/${twentyDigits(version)}.json`;
}

export function blobName(lineage: string, hash: string): string {
  return `lineages/${lineage}/blobs/${hash.slice(0, 2)}/${hash}`;
}

export function aliasRecordName(lineage: string, sequence: number): string {
  return `lineages/${lineage}/aliases/${twentyDigits(sequence)}.json`;
}

export function twentyDigits(number: number): string {
  return String(number).padStart(20, '0');
}

/** Returns the hexadecimal SHA-256 of any text, after its own first two digits and "/". */
export function hashed(key: string): string {
  const hash = sha256(key);
  return `${hash.slice(0, 2)}/${hash}`;
}

/** Hexadecimal. */
export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
