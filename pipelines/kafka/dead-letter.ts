/**
 * A record that cannot be taken, as it goes to the dead-letter topic: its own bytes, and headers as
 * Kafka Connect writes them.
 */
import type { ConsumedRecord, OutgoingRecord } from './records.ts';
import type { Problem } from '../ingest/ingest-record.ts';

const HEADER = '__connect.errors';
const MESSAGE_CHARACTERS_MAX = 2_000;

/**
 * A letter that comes back from the dead keeps what was said of it before; the last of each header
 * is of this time.
 */
export function deadLetter(record: ConsumedRecord, problem: Problem): OutgoingRecord {
  const headers = new Map(Object.entries(record.headers));
  const add = (name: string, value: string) => {
    const before = headers.get(`${HEADER}.${name}`);
    headers.set(`${HEADER}.${name}`, before === undefined ? value : [...[before].flat(), value]);
  };
  add('topic', record.topic);
  add('partition', String(record.partition));
  add('offset', record.offset);
  add('stage', 'VALUE_CONVERTER');
  add('exception.class.name', problem.className);
  add('exception.message', problem.message.slice(0, MESSAGE_CHARACTERS_MAX));
  return { key: record.key, value: record.value, headers: Object.fromEntries(headers) };
}

export interface Origin {
  topic: string;
  partition: number;
  offset: string;
  className: string;
  message: string;
}

/** Where a dead letter came from and why it is one; null where its headers do not say. */
export function originOf(letter: Pick<ConsumedRecord, 'headers'>): Origin | null {
  return originAt(letter, -1);
}

/** Where a letter that came back from the dead came from the times before. */
export function earlierOrigins(letter: Pick<ConsumedRecord, 'headers'>): Origin[] {
  const times = [letter.headers[`${HEADER}.topic`] ?? []].flat().length;
  return Array.from({ length: Math.max(0, times - 1) }, (_, i) =>
    originAt(letter, i - times),
  ).filter((origin) => origin !== null);
}

/** Of one time, counted from the last, which is -1: each time adds one to each header. */
function originAt(letter: Pick<ConsumedRecord, 'headers'>, time: number): Origin | null {
  const text = (name: string): string | null =>
    [letter.headers[`${HEADER}.${name}`] ?? []].flat().at(time)?.toString() ?? null;
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

/** Of 31 and 63 bits. */
const PARTITION_DIGITS_MAX = 10;
const OFFSET_DIGITS_MAX = 19;

function isWhole(text: string | null, digitsMax: number): text is string {
  return text !== null && text.length <= digitsMax && /^\d+$/.test(text);
}
