/**
 * Names of what is resubmitted: the same resubmission has the same name each time, so that doing it
 * twice has the effect of doing it once.
 */
import { createHash } from 'node:crypto';
import { CORRECTION_LIMITS, type FactCorrection, type KafkaPosition } from './correction.ts';

/** Ids count up to this number; then a new count is appended. */
const RESUBMISSIONS_MAX = 64;
const HASH_DIGITS = 16;

/** A repair: members laid over those of a correction. */
export type Repair = Partial<Omit<FactCorrection, 'id' | 'lineage' | 'replayOf'>>;

/**
 * The id under which a correction is sent again: `c`, `c~2`, `c~3`. One that would be too long is
 * shortened, and a hash of the whole is added.
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

/** The id of a repaired dead letter whose record has none that can be read. */
export function letterId({ topic, partition, offset }: KafkaPosition): string {
  return `letter-${topic}-${partition}-${offset}`;
}

/** Adds to the source who resubmits; a long source is shortened rather than that name. */
export function resubmittedSource(source: string, by: string): string {
  const { sourceCharactersMax } = CORRECTION_LIMITS;
  const suffix = `; replayed by ${by}`.slice(0, sourceCharactersMax);
  const original = source
    .replace(/; replayed by [^;]*$/u, '')
    .slice(0, sourceCharactersMax - suffix.length)
    .toWellFormed();
  return `${original}${suffix}`;
}
