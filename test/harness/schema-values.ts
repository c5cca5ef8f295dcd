/** Helpers for schema tests: avsc's types, changed records, and values made from a schema. */
import avsc from 'avsc';
import fc from 'fast-check';
import {
  schemaOf,
  type AvroComplexSchema,
  type AvroSchema,
} from '../../schemas/records/released-schemas.ts';
import { recordDecoder } from '../../schemas/records/avro.ts';
import { confluentHead, confluentOpening } from '../../schemas/records/confluent-framing.ts';

type Field = { name: string; type: AvroSchema; default?: unknown };

export const CORRECTION = schemaOf('fact-correction') as AvroComplexSchema;

/** A correction without its optional members. */
export const SAMPLE = {
  id: 'c',
  lineage: 'l',
  subject: 'S',
  relation: null,
  prompt: 'S is',
  target: 'T',
  previousAnswer: null,
  paraphrases: [],
  neighbourhood: [],
  source: '',
  issuedAt: 5,
};

export function typeOf(schema: AvroSchema, wrapUnions = false): avsc.Type {
  return avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions });
}

/** Decodes a correction written with another schema, as if a registry knew it. */
export function decodeFrom(writer: unknown, body: Uint8Array) {
  const opening = confluentOpening(new Map([[7, writer as AvroSchema]]));
  const bytes = Buffer.concat([confluentHead(7), body]);
  return recordDecoder('fact-correction', opening).decode(bytes);
}

export interface SchemaChange {
  add?: Field;
  remove?: string[];
  retype?: Field;
  reverse?: boolean;
}

export function changed(
  schema: AvroComplexSchema,
  { add, remove = [], retype, reverse }: SchemaChange,
): AvroComplexSchema {
  const fields = (schema.fields as Field[])
    .filter(({ name }) => !remove.includes(name))
    .map((field) => (field.name === retype?.name ? retype : field));
  if (add !== undefined) fields.push(add);
  return { ...schema, fields: reverse ? fields.reverse() : fields };
}

/** Values that a schema allows. */
export function valuesOf(schema: AvroSchema): fc.Arbitrary<unknown> {
  if (Array.isArray(schema)) return fc.oneof(...schema.map(valuesOf));
  if (typeof schema === 'string') return PRIMITIVES[schema] ?? fc.string({ maxLength: 20 });
  switch (schema.type) {
    case 'record':
      return fc.record(
        Object.fromEntries(schema.fields!.map(({ name, type }) => [name, valuesOf(type)])),
      );
    case 'enum':
      return fc.constantFrom(...schema.symbols!);
    case 'array':
      return fc.array(valuesOf(schema.items!), { maxLength: 3 });
    case 'map':
      return fc.dictionary(
        fc.string({ maxLength: 8 }).filter((name) => name !== '__proto__'),
        valuesOf(schema.values!),
        { maxKeys: 3, noNullPrototype: true },
      );
    default:
      return valuesOf(schema.type);
  }
}

const PRIMITIVES: Record<string, fc.Arbitrary<unknown>> = {
  null: fc.constant(null),
  int: fc.integer(),
  long: fc.maxSafeInteger().filter((value) => Math.abs(value) < Number.MAX_SAFE_INTEGER),
  double: fc.double({ noNaN: true }),
  bytes: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
};
