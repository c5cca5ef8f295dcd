/**
 * What is sent again, and under which name: the same replay has the same name each time, so that
 * doing it twice is doing it once.
 */
import { createHash } from 'node:crypto';
import { CORRECTION_LIMITS, type FactCorrection, type KafkaPosition } from './correction.ts';

/**
 * Times one correction may be sent again under a name made from its first; past it the name grows
 * anew.
 */
const REPLAYS_MAX = 64;

/**
 * The id under which a correction is sent again: `c`, `c~2`, `c~3`. One that would be too long is
 * shortened, with a hash of itself.
 */
export function replayedId(id: string): string {
  const [, first, number] = /^(.*)~(\d{1,4})$/su.exec(id) ?? [];
  const next =
    first === undefined || Number(number) > REPLAYS_MAX
      ? `${id}~2`
      : `${first}~${Number(number) + 1}`;
  if (next.length <= CORRECTION_LIMITS.idCharactersMax) return next;
  const mark = `#${createHash('sha256').update(id).digest('hex').slice(0, HASH_DIGITS)}~2`;
  return `${next.slice(0, CORRECTION_LIMITS.idCharactersMax - mark.length).toWellFormed()}${mark}`;
}

const HASH_DIGITS = 16;

/** What a repaired dead letter is sent again for: the record that could not be taken. */
export function replayedRecord({ topic, partition, offset }: KafkaPosition): string {
  return `record:${topic}-${partition}@${offset}`;
}

/** Who sends it again is said behind whom it came from, which is shortened rather than that. */
export function replayedSource(source: string, by: string): string {
  const behind = `; replayed by ${by}`.slice(0, CORRECTION_LIMITS.sourceCharactersMax);
  const room = CORRECTION_LIMITS.sourceCharactersMax - behind.length;
  return `${source
    .replace(/; replayed by [^;]*$/u, '')
    .slice(0, room)
    .toWellFormed()}${behind}`;
}

/** A repair: members laid over those of a correction. */
export type Repair = Partial<Omit<FactCorrection, 'id' | 'lineage' | 'replayOf'>>;
