/** What a replay would send, for the commands that show it or send it. */
import type { FactCorrection, KafkaPosition } from '../../schemas/correction.ts';
import type { RecordHeaders } from '../../pipelines/kafka/kafka.ts';
import type { LikelyFate } from './likely-fate.ts';

export type ReplayItem = ReplaySent | ReplayKept;

/** Will be sent. */
export interface ReplaySent {
  kind: 'correction' | 'retraction' | 'record';
  /** What is replayed: an id, or `<partition>@<offset>` of a dead letter. */
  of: string;
  /** Under which it is sent; null for a record that is sent as it is. */
  id: string | null;
  what: string;
  /** Of a correction, as it will be sent. */
  correction: FactCorrection | null;
  /** Of a retraction, or a record as it is. */
  record: { key: Buffer | string | null; value: Buffer | null; headers?: RecordHeaders } | null;
  /** Members that the repair changed. */
  repaired: string[];
  /** Where its words are from. */
  from: 'kafka' | 'history' | 'file';
  likely: LikelyFate | { kind: 'dead-letter'; className: string; message: string };
}

/** Will not be sent, and why. */
export interface ReplayKept {
  kind: 'kept';
  of: string;
  reason: string;
  /** What helps; null where nothing is wrong. */
  mend: string | null;
  /** Nothing is to be done about it: it was replayed before, or is no failure. */
  healed: boolean;
}

/** Corrections or letters in one replay. */
export const REPLAYS_AT_ONCE_MAX = 10_000;

/**
 * A position that nothing has, for a revision that is not sent yet; the later of two is sent later.
 */
export function positionToBe(topic: string, i: number): KafkaPosition {
  return { topic, partition: 0, offset: String(2n ** 62n + BigInt(i)) };
}
