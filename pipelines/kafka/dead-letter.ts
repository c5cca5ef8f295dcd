/** Dead letters: refused records in their own bytes, with headers in Kafka Connect's format. */
import type { ConsumedRecord, OutgoingRecord, RecordPosition } from './records.ts';

const HEADER = '__connect.errors.';
const MESSAGE_CHARACTERS_MAX = 2_000;
/** Digits of 31-bit and 63-bit numbers. */
const PARTITION_DIGITS_MAX = 10;
const OFFSET_DIGITS_MAX = 19;

/** The reason of a refusal, for the dead letter's headers. */
export interface RefusalReason {
  className:
    | 'UndecodableRecord'
    | 'UnsoundCorrection'
    | 'UnsoundKey'
    | 'UnsoundTimestamp'
    | 'RecordTooLarge';
  message: string;
}

/**
 * Makes a dead letter. A record that was a dead letter before keeps its headers; the last value of
 * each is the newest.
 */
export function deadLetter(record: ConsumedRecord, reason: RefusalReason): OutgoingRecord {
  const headers = new Map(Object.entries(record.headers));
  const added = {
    topic: record.topic,
    partition: String(record.partition),
    offset: record.offset,
    stage: 'VALUE_CONVERTER',
    'exception.class.name': reason.className,
    'exception.message': reason.message.slice(0, MESSAGE_CHARACTERS_MAX),
  };
  for (const [name, value] of Object.entries(added)) {
    const before = headers.get(HEADER + name);
    headers.set(HEADER + name, before === undefined ? value : [...[before].flat(), value]);
  }
  return { key: record.key, value: record.value, headers: Object.fromEntries(headers) };
}

interface Origin extends RecordPosition {
  className: string;
  message: string;
}

type Letter = Pick<ConsumedRecord, 'headers'>;

/** Returns a dead letter's origin and reason, or null where its headers lack them. */
export function originOf(letter: Letter): Origin | null {
  return originAt(letter, -1);
}

/** Returns the earlier origins of a record that was a dead letter several times. */
export function earlierOrigins(letter: Letter): Origin[] {
  const count = valuesOf(letter, 'topic').length;
  return Array.from({ length: Math.max(0, count - 1) }, (_, i) =>
    originAt(letter, i - count),
  ).filter((origin) => origin !== null);
}

/** Reads one value of each header, counted from the last, which is -1. */
function originAt(letter: Letter, index: number): Origin | null {
  const text = (name: string) => valuesOf(letter, name).at(index)?.toString() ?? null;
  const [topic, partition, offset] = [text('topic'), text('partition'), text('offset')];
  if (
    topic === null ||
    !isWhole(partition, PARTITION_DIGITS_MAX) ||
    !isWhole(offset, OFFSET_DIGITS_MAX)
  )
    return null;
  return {
    topic,
    partition: Number(partition),
    offset,
    className: text('exception.class.name') ?? '',
    message: text('exception.message') ?? '',
  };
}

function valuesOf({ headers }: Letter, name: string) {
  return [headers[HEADER + name] ?? []].flat();
}

function isWhole(text: string | null, digitsMax: number): text is string {
  return text !== null && text.length <= digitsMax && /^\d+$/.test(text);
}
