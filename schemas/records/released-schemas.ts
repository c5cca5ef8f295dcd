/**
 * The Avro schemas of this folder: what each record is written with now, and everything it was ever
 * written with.
 *
 * `history/<record>.<n>.avsc` holds the released schemas, the first one with n = 1; the last is the
 * current one. Whoever changes an .avsc adds a file there and changes none: records in Kafka
 * outlive the program that wrote them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { AvroSchema } from './avro-shape.ts';

export const RECORD_NAMES = ['fact-correction', 'correction-outcome', 'hook-version'] as const;

export type RecordName = (typeof RECORD_NAMES)[number];

/** The current schema of a record, as in its file; always the same object. */
export function schemaOf(record: RecordName): AvroSchema {
  return remembered(current, record, () => schemaIn(`./${record}.avsc`));
}

/** Every released schema of a record, the oldest first. */
export function releasedSchemasOf(record: RecordName): readonly AvroSchema[] {
  return remembered(released, record, () =>
    readdirSync(new URL('./history/', import.meta.url))
      .flatMap((file) => {
        const number = new RegExp(`^${record}\\.(\\d+)\\.avsc$`).exec(file)?.[1];
        return number === undefined ? [] : [{ file, number: Number(number) }];
      })
      .sort((a, b) => a.number - b.number)
      .map(({ file }) => schemaIn(`./history/${file}`)),
  );
}

const current = new Map<RecordName, AvroSchema>();
const released = new Map<RecordName, readonly AvroSchema[]>();

function schemaIn(file: string): AvroSchema {
  return JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as AvroSchema;
}

function remembered<Value>(
  known: Map<RecordName, Value>,
  record: RecordName,
  read: () => Value,
): Value {
  const value = known.get(record) ?? read();
  known.set(record, value);
  return value;
}
