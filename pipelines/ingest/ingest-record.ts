/** Reads records of the corrections topic: revisions of facts, or dead letters with a reason. */
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import {
  CORRECTION_LIMITS,
  factKeyOf,
  isInstant,
  retractionId,
  type FactCorrection,
  type FactRevision,
} from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { UndecodableRecord } from '../../schemas/failures.ts';
import type { RefusalReason } from '../kafka/dead-letter.ts';
import type { ConsumedRecord } from '../kafka/records.ts';

export type ReadRecord =
  | { kind: 'revision'; revision: FactRevision; record: ConsumedRecord }
  | { kind: 'dead'; problem: RefusalReason; record: ConsumedRecord };

/** Longest key of a fact. NFC makes at most three characters of one, or an escape makes two. */
export const KEY_CHARACTERS_MAX =
  3 * (CORRECTION_LIMITS.subjectCharactersMax + CORRECTION_LIMITS.promptCharactersMax) + 1;

/**
 * Reads one record of a lineage's corrections topic; never throws.
 *
 * A null value retracts the fact that the key names. For a correction its own fact key counts,
 * whatever the record's key is. A different key only affects the order among partitions, which the
 * time of issue settles. A refusal would lose a sound correction to a producer's partitioner.
 */
export function readRecord(
  record: ConsumedRecord,
  lineage: string,
  decoder: RecordDecoder<FactCorrection>,
): ReadRecord {
  const dead = (className: RefusalReason['className'], message: string): ReadRecord => ({
    kind: 'dead',
    problem: { className, message },
    record,
  });
  const position = { topic: record.topic, partition: record.partition, offset: record.offset };

  if (record.value === null) {
    const factKey = keyText(record.key);
    if (typeof factKey !== 'string') return dead('UnsoundKey', factKey.fault);
    if (!isInstant(record.timestamp))
      return dead(
        'UnsoundTimestamp',
        "a retraction is issued at its record's timestamp, " +
          `and ${record.timestamp} is not a count of milliseconds since 1970`,
      );
    return {
      kind: 'revision',
      revision: {
        kind: 'retraction',
        factKey,
        position,
        id: retractionId(position),
        issuedAt: record.timestamp,
      },
      record,
    };
  }
  if (record.value.length > CORRECTION_LIMITS.recordBytesMax) {
    return dead(
      'RecordTooLarge',
      `the record has ${record.value.length} bytes, ` +
        `at most ${CORRECTION_LIMITS.recordBytesMax} are allowed`,
    );
  }
  let correction: FactCorrection;
  try {
    correction = decoder.decode(record.value);
  } catch (error) {
    if (error instanceof UndecodableRecord) return dead('UndecodableRecord', error.message);
    throw error;
  }
  const faults = faultsOf(correction);
  if (correction.lineage !== lineage)
    faults.push(
      `lineage "${correction.lineage.slice(0, CORRECTION_LIMITS.lineageCharactersMax)}" ` +
        `is not that of the topic, "${lineage}"`,
    );
  if (faults.length > 0) return dead('UnsoundCorrection', faults.join('; '));
  return {
    kind: 'revision',
    revision: { kind: 'correction', factKey: factKeyOf(correction), position, correction },
    record,
  };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function keyText(key: Buffer | null): string | { fault: string } {
  if (key === null || key.length === 0)
    return { fault: 'a null value retracts the fact that the key names, and there is no key' };
  try {
    const text = utf8.decode(key);
    return text.length <= KEY_CHARACTERS_MAX
      ? text
      : {
          fault: `the key has ${text.length} characters, at most ${KEY_CHARACTERS_MAX} are allowed`,
        };
  } catch {
    return { fault: 'the key is not UTF-8' };
  }
}
