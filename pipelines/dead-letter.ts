/** A record that cannot be taken, as it goes to the dead-letter topic: its own bytes, and headers as Kafka Connect writes them. */
import type { ConsumedRecord, OutgoingRecord } from './kafka.ts';
import type { Problem } from './ingest-record.ts';

const HEADER = '__connect.errors';
const MESSAGE_CHARACTERS_MAX = 2_000;

export function deadLetter(record: ConsumedRecord, problem: Problem): OutgoingRecord {
  return {
    key: record.key,
    value: record.value,
    headers: {
      ...record.headers,
      [`${HEADER}.topic`]: record.topic,
      [`${HEADER}.partition`]: String(record.partition),
      [`${HEADER}.offset`]: record.offset,
      [`${HEADER}.stage`]: 'VALUE_CONVERTER',
      [`${HEADER}.exception.class.name`]: problem.className,
      [`${HEADER}.exception.message`]: problem.message.slice(0, MESSAGE_CHARACTERS_MAX),
    },
  };
}

/** Where a dead letter came from and why it is one; null where its headers do not say. */
export function originOf(letter: Pick<ConsumedRecord, 'headers'>): { topic: string; partition: number; offset: string; className: string; message: string } | null {
  const text = (name: string): string | null => letter.headers[`${HEADER}.${name}`]?.toString() ?? null;
  const [topic, partition, offset] = [text('topic'), text('partition'), text('offset')];
  if (topic === null || partition === null || offset === null) return null;
  return { topic, partition: Number(partition), offset, className: text('exception.class.name') ?? '', message: text('exception.message') ?? '' };
}
