/** Schemas of other programs, as a registry may hold them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { recordDecoder, singleObjectFraming } from '../../../schemas/records/avro.ts';
import {
  confluentHead,
  SCHEMA_ID_MAX,
  schemaIdOf,
} from '../../../schemas/records/confluent-framing.ts';
import { UndecodableRecord } from '../../../schemas/failures.ts';
import { always, faultOf } from '../../harness/odd-inputs.ts';
import { CORRECTION, decodeFrom, SAMPLE, typeOf } from '../../harness/schema-values.ts';

const sound = typeOf(CORRECTION).toBuffer({ ...SAMPLE, replayOf: null });
/** Our record with another field before the others. */
const first = (type: unknown): unknown => ({
  ...CORRECTION,
  fields: [{ name: 'first', type }, ...CORRECTION.fields!],
});
const nested = (depth: number): unknown =>
  depth === 0 ? 'null' : { type: 'array', items: nested(depth - 1) };
const record = (name: string, field: string, type: unknown): unknown => ({
  type: 'record',
  name,
  fields: [{ name: field, type }],
});

test.each([
  ['no schema', 5],
  ['null', null],
  ['an unknown type', 'Nothing'],
  ['a name that is code', first(record('X', 'a;process.exit(1)//', 'string'))],
  ['a field named like the prototype', first(record('X', '__proto__', 'Nothing'))],
  ['a type that holds itself alone', first(record('X', 'x', 'X'))],
  ['one that is deeply nested', first(nested(5_000))],
  ['an enum of nothing', first({ type: 'enum', name: 'E', symbols: [] })],
  ['a fixed of a negative size', first({ type: 'fixed', name: 'F', size: -1 })],
])('a foreign schema that is %s is refused', (_, writer) => {
  const body = Buffer.concat([sound, Buffer.alloc(64)]);
  expect(() => decodeFrom(writer, body)).toThrow(UndecodableRecord);
});

test('a value that nests without end is read no deeper than the bound', () => {
  const body = Buffer.concat([Buffer.alloc(50_000, 2), Buffer.from([0]), sound]);
  const node = record('Node', 'next', ['null', 'Node']);
  expect(() => decodeFrom(first(node), body)).toThrow(/nest deeper/);
});

test('values that take no bytes are bounded', () => {
  const nothings = { type: 'array', items: record('Nothing', 'n', 'null') };
  // Each block of three bytes announces 16,000 values.
  const block = Buffer.from([0x80, 0xfa, 0x01]);
  const blocks = Buffer.concat(Array.from({ length: 16_000 }, () => block));
  const body = Buffer.concat([blocks, Buffer.from([0]), sound]);
  expect(() => decodeFrom(first(nothings), body)).toThrow(/more than \d+ values/);
});

const PRIMITIVES = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string'];
const fieldName = fc.constantFrom('a', 'b', '__proto__', 'constructor');
const { schema: schemas } = fc.letrec<{ schema: unknown }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(...PRIMITIVES, 'Nowhere', 'X', 5, null),
    fc.record({ type: fc.constant('array'), items: tie('schema') }),
    fc.record({ type: fc.constant('map'), values: tie('schema') }),
    fc.array(tie('schema'), { maxLength: 3 }),
    fc.record({
      type: fc.constant('record'),
      name: fc.constantFrom('X', 'Y', 'Z'),
      fields: fc.array(fc.record({ name: fieldName, type: tie('schema') }), { maxLength: 3 }),
    }),
    fc.record({
      type: fc.constant('enum'),
      name: fc.constantFrom('X', 'E'),
      symbols: fc.array(fc.constantFrom('A', 'B'), { maxLength: 2 }),
    }),
  ),
}));

test('any schema and bytes give a sound value or UndecodableRecord', async () => {
  await always(1_000, schemas, fc.uint8Array({ maxLength: 40 }), async (schema, junk) => {
    const fault = await faultOf(() =>
      expect(decodeFrom(first(schema), Buffer.concat([junk, sound]))).toHaveProperty('prompt'),
    );
    if (fault !== undefined) expect(fault).toBeInstanceOf(UndecodableRecord);
  });
});

test("the head of a registry's record is 0x00 and the id, big-endian", () => {
  expect(confluentHead(0x01020304)).toEqual(Buffer.from([0, 1, 2, 3, 4]));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: SCHEMA_ID_MAX }), (id) => {
      expect(schemaIdOf(confluentHead(id))).toBe(id);
    }),
  );
});

test("a registry's record without a registry is refused with the name of the setting", () => {
  const decoder = recordDecoder('fact-correction', singleObjectFraming());
  const bytes = Buffer.from([0, 0, 0, 0, 1, 2]);
  expect(() => decoder.decode(bytes)).toThrow(/ERRATA_SCHEMA_REGISTRY_URL/);
});
