/**
 * Names for resubmitted records. A repeated resubmission gets the same name, so it has no effect.
 */
import { createHash } from 'node:crypto';
import { CORRECTION_LIMITS, type FactCorrection, type KafkaPosition } from './correction.ts';

/** Ids count up to this number; beyond it a new count is appended. */
const RESUBMISSIONS_MAX = 64;
const HASH_DIGITS = 16;

/** Members that replace those of a correction. */
export type Repair = Partial<Omit<FactCorrection, 'id' | 'lineage' | 'replayOf'>>;

/**
 * Returns the id under which a correction is sent again: `c`, `c~2`, `c~3`. A long id is shortened
 * and a hash of the whole id is added.
 */
export function resubmittedId(id: string): string {
  const { idCharactersMax } = CORRECTION_LIMITS;
  const [, first, number] = /^(.*)~(\d{1,4})$/su.exec(id) ?? [];
  const next =
    first === undefined || Number(number) > RESUBMISSIONS_MAX
      ? `${id}~2`
      : `${first}~${Number(number) + 1}`;
  if (next.length <= idCharactersMax) return next;
  const mark = `#${createHash('sha256').update(id).digest('hex').slice(0, HASH_DIGITS)}~2`;
  return `${next.slice(0, idCharactersMax - mark.length).toWellFormed()}${mark}`;
}

/** Names a dead letter's record in the `replayOf` of its repaired correction. */
export function recordReference({ topic, partition, offset }: KafkaPosition): string {
  return `record:${topic}-${partition}@${offset}`;
}

/** Returns the id for a repaired dead letter whose record has no readable id. */
export function letterId({ topic, partition, offset }: KafkaPosition): string {
  return `letter-${topic}-${partition}-${offset}`;
}

/** Adds the resubmitter's name to the source. A long source is shortened, but not the name. */
export function resubmittedSource(source: string, by: string): string {
  const { sourceCharactersMax } = CORRECTION_LIMITS;
  const suffix = `; replayed by ${by}`.slice(0, sourceCharactersMax);
  const original = source
    .replace(/; replayed by [^;]*$/u, '')
    .slice(0, sourceCharactersMax - suffix.length)
    .toWellFormed();
  return `${original}${suffix}`;
}
