/** Data that the checks compare, and their reports. */
import { createHash } from 'node:crypto';
import type { VersionEntry } from '../../../schemas/version-entry.ts';
import type { World } from './world.ts';

/** Reports a violation as a sentence. */
export type Report = (sentence: string) => void;

export interface Request {
  /** `<partition>-<offset>`. */
  record: string;
  kind: 'correction' | 'retraction';
  id: string;
  factKey: string;
  issuedAt: number;
  target: string | null;
  subject?: string;
  prompt?: string;
}

/** A correction that some version added. */
export interface Held {
  id: string;
  factKey: string;
  issuedAt: number;
  target: string;
  /** `<partition>-<offset>` of its record. */
  record: string;
  /** The last version that added it. */
  added: number;
  removed: { version: number; because: string; by: string } | null;
  /** Its outcomes in order, as `<status> <version>`. */
  history: string[];
}

/** A version log as the checker reads it. */
export interface Chain {
  entries: { entry: VersionEntry; hash: string }[];
  corrections: Map<string, Held>;
  /** Facts that an undo changed: their newest revision need not be active. */
  undone: Set<string>;
  retractions: Map<string, { version: number; record: string }>;
  /** The active ids after each version, from 0 on. */
  active: ReadonlySet<string>[];
  aliases: AliasRecord[];
}

export interface AliasRecord {
  alias: string;
  id: string;
  version: number | null;
}

export interface Evidence {
  world: World;
  chain: Chain;
  /** By record. */
  requests: ReadonlyMap<string, Request>;
  invalid: ReadonlySet<string>;
}

export type Store = World['store'];

export const recordName = ({ partition, offset }: { partition: number; offset: string }): string =>
  `${partition}-${offset}`;

export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');
