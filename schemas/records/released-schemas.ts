/**
 * The Avro schemas of this folder. `<record>.avsc` is the current one. `<record>.<n>.avsc`, from n
 * = 1, are earlier releases: records in Kafka outlive their writers.
 */
import { readdirSync, readFileSync } from 'node:fs';

export type AvroSchema = string | AvroSchema[] | AvroComplexSchema;

export interface AvroComplexSchema {
  type: AvroSchema;
  name?: string;
  namespace?: string;
  fields?: { name: string; type: AvroSchema }[];
  symbols?: string[];
  items?: AvroSchema;
  values?: AvroSchema;
  size?: number;
  [attribute: string]: unknown;
}

export const RECORD_NAMES = ['fact-correction', 'correction-outcome', 'hook-version'] as const;
export type RecordName = (typeof RECORD_NAMES)[number];

const FILES = readdirSync(new URL('.', import.meta.url));
const RELEASED = Object.fromEntries(
  RECORD_NAMES.map((record) => {
    const numbers = FILES.flatMap((file) => {
      const [, name, number] = /^(.*)\.(\d+)\.avsc$/.exec(file) ?? [];
      return name === record ? [Number(number)] : [];
    });
    const older = numbers.sort((a, b) => a - b).map((number) => `${record}.${number}`);
    return [record, [...older, record].map(schemaIn)];
  }),
) as Record<RecordName, AvroSchema[]>;

/** Returns the current schema of a record, always as the same object. */
export function schemaOf(record: RecordName): AvroSchema {
  return RELEASED[record].at(-1)!;
}

/** Returns every released schema of a record, the current one last, always as the same objects. */
export function releasedSchemasOf(record: RecordName): readonly AvroSchema[] {
  return RELEASED[record];
}

function schemaIn(name: string): AvroSchema {
  const text = readFileSync(new URL(`./${name}.avsc`, import.meta.url), 'utf8');
  return JSON.parse(text) as AvroSchema;
}
