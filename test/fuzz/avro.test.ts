/** Any Avro bytes of the three records give a sound value or `UndecodableRecord`. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import type { RecordName, AvroSchema } from '../../schemas/records/released-schemas.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { walkAvro } from '../../schemas/records/avro-shape.ts';
import { UndecodableRecord } from '../../schemas/failures.ts';
import { typeOf } from '../harness/schema-values.ts';
import { always, avroLong, damaged, joined } from '../harness/odd-inputs.ts';

const text = fc.string({ unit: 'binary', maxLength: 30 }).filter((value) => value.isWellFormed());
const count = fc.nat(2 ** 31 - 1);
const instant = fc.nat(8_640_000_000_000_000);
const SOUND = {
  'fact-correction': fc.record({
    id: text,
    lineage: text,
    subject: text,
    relation: fc.option(text),
    prompt: text,
    target: text,
    previousAnswer: fc.option(text),
    paraphrases: fc.array(text),
    neighbourhood: fc.array(text),
    source: text,
    issuedAt: instant,
  }),
  'correction-outcome': fc.record({
    lineage: text,
    revisionId: text,
    factKey: text,
    status: fc.constantFrom('COMMITTED' as const, 'QUARANTINED' as const),
    version: fc.option(count),
    reason: fc.option(text),
    measured: fc.dictionary(
      text.filter((name) => name !== '__proto__'),
      fc.oneof(fc.double(), text),
      { noNullPrototype: true },
    ),
    position: fc.record({ topic: text, partition: count, offset: text }),
    batchId: text,
    decidedAt: instant,
  }),
  'hook-version': fc.record({
    lineage: text,
    version: count,
    hash: text,
    parent: fc.option(text),
    batchId: text,
    added: count,
    removed: count,
    corrections: count,
    createdAt: instant,
  }),
};

const HEAD_BYTES = 10;

describe.each(Object.keys(SOUND) as RecordName[])('the bytes of a %s', (record) => {
  const codec = recordCodec(record);
  const sound = (SOUND[record] as fc.Arbitrary<never>).map(
    (value) => new Uint8Array(codec.encode(value)),
  );

  it('give, when damaged, a value that encodes again or UndecodableRecord', async () => {
    await always(400, damaged(sound), (bytes) => decodesOrRefuses(bytes));
  });

  it('give the same when damaged after a sound head', async () => {
    const body = damaged(sound.map((bytes) => bytes.slice(HEAD_BYTES)));
    const head = codec
      .encode(fc.sample(SOUND[record] as fc.Arbitrary<never>, { numRuns: 1, seed: 1 })[0]!)
      .subarray(0, HEAD_BYTES);
    await always(400, body, (bytes) => decodesOrRefuses(joined(head, bytes)));
  });

  function decodesOrRefuses(bytes: Uint8Array): void {
    const before = bytes.slice();
    try {
      const value = codec.decode(bytes);
      expect(codec.decode(codec.encode(value as never))).toEqual(value);
    } catch (fault) {
      expect(fault).toBeInstanceOf(UndecodableRecord);
      expect((fault as UndecodableRecord).message.length).toBeLessThan(500);
    }
    expect(bytes).toEqual(before);
  }
});

const array: AvroSchema = { type: 'array', items: 'string' };
const map: AvroSchema = { type: 'map', values: 'null' };

test.each<[string, AvroSchema, bigint]>([
  ['a string of 2^60 bytes', 'string', 2n ** 60n],
  ['a string of -1 bytes', 'string', -1n],
  ['bytes of 2^63 - 1', 'bytes', 2n ** 63n - 1n],
  ['an array of 2^60 items', array, 2n ** 60n],
  ['an array of -2^63 items', array, -(2n ** 63n)],
  ['a map of 2^60 entries', map, 2n ** 60n],
  ['a branch beyond a union', ['null', 'string'], 2n ** 60n],
])('%s is refused before anything is allocated for it', (_, schema, length) => {
  expect(() => walkAvro(typeOf(schema), joined(avroLong(length), avroLong(8n)), 0)).toThrow(
    UndecodableRecord,
  );
});

test('a number of more than ten bytes is refused', () => {
  expect(() => walkAvro(typeOf('long'), new Uint8Array(1_000).fill(0xff), 0)).toThrow(
    /more than 10 bytes/,
  );
});

// An item without bytes costs time in a walk and memory in a decoder, so the count is bounded.
test('items without bytes are bounded by the remaining bytes', () => {
  const nulls: AvroSchema = { type: 'array', items: 'null' };
  expect(() => walkAvro(typeOf(nulls), joined(avroLong(1_000_000n), avroLong(0n)), 0)).toThrow(
    /1000000 items are announced and 1 bytes/,
  );
  const blocks = joined(
    ...Array.from({ length: 20_000 }, () => avroLong(1_000n)),
    new Uint8Array(2_000),
  );
  expect(() => walkAvro(typeOf(nulls), blocks, 0)).toThrow(/more than \d+ values/);
});

test('a schema that names itself is read no deeper than the bound', () => {
  const list: AvroSchema = {
    type: 'record',
    name: 'List',
    fields: [{ name: 'next', type: ['null', 'List'] }],
  };
  expect(walkAvro(typeOf(list), Uint8Array.of(2, 2, 2, 0), 0)).toBe(4);
  expect(() => walkAvro(typeOf(list), new Uint8Array(60_000).fill(2), 0)).toThrow(
    /nest deeper than 64/,
  );
  const endless: AvroSchema = {
    type: 'record',
    name: 'Endless',
    fields: [{ name: 'self', type: 'Endless' }],
  };
  expect(() => walkAvro(typeOf(endless), new Uint8Array(1), 0)).toThrow(/nest deeper than 64/);
});
