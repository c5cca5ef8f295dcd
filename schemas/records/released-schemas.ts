/**
 * The Avro schemas of this folder: the current one of each record, and all that were released.
 *
 * `history/<record>.<n>.avsc` has the released schemas from n = 1 on; the last is the current one.
 * A change of an .avsc adds a file there and changes none: records in Kafka outlive their writers.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { AvroSchema } from './avro-shape.ts';

export const RECORD_NAMES = ['fact-correction', 'correction-outcome', 'hook-version'] as const;

export type RecordName = (typeof RECORD_NAMES)[number];

/** The current schema of a record; always the same object. */
export function schemaOf(record: RecordName): AvroSchema {
  return schemas()[record].current;
}

/** Every released schema of a record, the oldest first; always the same objects. */
export function releasedSchemasOf(record: RecordName): readonly AvroSchema[] {
  return schemas()[record].released;
}

type Schemas = Record<RecordName, { current: AvroSchema; released: AvroSchema[] }>;
let read: Schemas | undefined;

function schemas(): Schemas {
  if (read !== undefined) return read;
  const history = readdirSync(new URL('./history/', import.meta.url));
  read = Object.fromEntries(
    RECORD_NAMES.map((record) => {
      const numbers = history.flatMap((file) => {
        const [, name, number] = /^(.*)\.(\d+)\.avsc$/.exec(file) ?? [];
        return name === record ? [Number(number)] : [];
      });
      const released = numbers
        .sort((a, b) => a - b)
        .map((number) => schemaIn(`./history/${record}.${number}.avsc`));
      return [record, { current: schemaIn(`./${record}.avsc`), released }];
    }),
  ) as Schemas;
  return read;
}

function schemaIn(file: string): AvroSchema {
  return JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as AvroSchema;
}
