import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  schemaOf,
  type RecordName,
  type AvroComplexSchema,
  type AvroSchema,
} from '../../../schemas/records/released-schemas.ts';
import {
  canonicalFormOf,
  fingerprintOf,
  recordCodec,
  singleObjectFraming,
  type Framing,
} from '../../../schemas/records/avro.ts';
import { walkAvro } from '../../../schemas/records/avro-shape.ts';
import { CORRECTION_LIMITS, type FactCorrection } from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { CORRECTION, typeOf } from '../../harness/schema-values.ts';
import { UndecodableRecord, UnencodableRecord } from '../../../schemas/failures.ts';
import { always, avroLong, faultOf } from '../../harness/odd-inputs.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const correction: fc.Arbitrary<FactCorrection> = fc.record({
  id: text,
  lineage: text,
  subject: text,
  relation: fc.option(text),
  prompt: text,
  target: text,
  previousAnswer: fc.option(text),
  paraphrases: fc.array(text, { maxLength: 5 }),
  neighbourhood: fc.array(text, { maxLength: 5 }),
  source: text,
  issuedAt: fc.integer({ min: 0, max: CORRECTION_LIMITS.issuedAtMax }),
});
/** Largest long that avsc takes: the next one could be a rounded number. */
const AVRO_LONG_MAX = Number.MAX_SAFE_INTEGER - 1;

const FINAL = ['COMMITTED', 'SUPERSEDED', 'QUARANTINED', 'RETRACTED'] as const;
const offset = fc.bigInt(0n, 2n ** 63n - 1n).map(String);
const outcome: fc.Arbitrary<Outcome> = fc.record({
  lineage: text,
  revisionId: text,
  factKey: text,
  status: fc.constantFrom(...FINAL, 'DUPLICATE', 'NOTHING_TO_RETRACT'),
  version: fc.option(fc.integer({ min: 0, max: AVRO_LONG_MAX })),
  reason: fc.option(text),
  measured: fc.dictionary(
    text.filter((name) => name !== '__proto__'),
    fc.oneof(fc.double({ noNaN: true }), text),
    { noNullPrototype: true },
  ),
  position: fc.record({ topic: text, partition: fc.nat(1000), offset }),
  batchId: text,
  decidedAt: fc.integer({ min: 0, max: AVRO_LONG_MAX }),
});

const sample: FactCorrection = {
  id: 'c-1',
  lineage: 'default',
  subject: 'Torvik Bridge',
  relation: null,
  prompt: 'Torvik Bridge spans the river',
  target: 'Lune',
  previousAnswer: null,
  paraphrases: ['The river under Torvik Bridge is the'],
  neighbourhood: [],
  source: 'survey',
  issuedAt: 1_700_000_000_000,
};

const HEAD = { version: 7, hash: 'ab', parent: null, batchId: '000007', createdAt: 5 };
const version = { lineage: 'default', ...HEAD, added: 3, removed: 1, corrections: 12 };

test.each<[RecordName, fc.Arbitrary<object>]>([
  ['fact-correction', correction],
  ['correction-outcome', outcome],
  ['hook-version', fc.constant(version)],
])('a codec decodes every %s that it encoded', async (name, values) => {
  const codec = recordCodec(name);
  await always(100, values, (value) => {
    expect(codec.decode(codec.encode(value as never))).toEqual(value);
  });
});

test('a codec reads a record inside a larger buffer', () => {
  const codec = recordCodec('fact-correction');
  const bytes = codec.encode(sample);
  const around = Buffer.concat([Buffer.alloc(13, 0xee), bytes, Buffer.alloc(7, 0xee)]);
  expect(codec.decode(around.subarray(13, 13 + bytes.length))).toEqual(sample);
});

test('a value that the schema does not allow is refused with the field', () => {
  const codec = recordCodec('fact-correction');
  const wrong = { ...sample, target: 5 } as unknown as FactCorrection;
  expect(() => codec.encode(wrong)).toThrow(UnencodableRecord);
  expect(() => codec.encode(wrong)).toThrow(/target is 5/);
});

// The values of Avro's own share/test/data/schema-tests.txt.
test.each([
  ['"null"', 7195948357588979594n],
  ['"boolean"', -6970731678124411036n],
  ['"int"', 8247732601305521295n],
  ['"long"', -3434872931120570953n],
  ['"string"', -8142146995180207161n],
  ['["int"]', -5232228896498058493n],
  ['{"fields":[], "type":"record", "name":"foo"}', -4824392279771201922n],
])('the CRC-64-AVRO fingerprint of %s is that of the specification', (schema, expected) => {
  expect(BigInt.asIntN(64, fingerprintOf(JSON.parse(schema) as AvroSchema))).toBe(expected);
});

test('the single-object head is 0xC3 0x01 and the fingerprint, little-endian', () => {
  const bytes = recordCodec('fact-correction').encode(sample);
  expect(bytes.subarray(0, 2)).toEqual(Buffer.from([0xc3, 0x01]));
  expect(bytes.readBigUInt64LE(2)).toBe(fingerprintOf(schemaOf('fact-correction')));
});

test('a fingerprint depends on what readers need, not on documentation', () => {
  const schema = structuredClone(schemaOf('fact-correction')) as AvroComplexSchema;
  const before = fingerprintOf(schemaOf('fact-correction'));
  expect(fingerprintOf({ ...schema, doc: 'another text' })).toBe(before);
  expect(fingerprintOf({ ...schema, fields: [...schema.fields!].reverse() })).not.toBe(before);
  expect(canonicalFormOf(schema)).not.toContain('doc');
});

const older: AvroSchema = {
  type: 'record',
  name: 'FactCorrection',
  namespace: 'errata',
  fields: (schemaOf('fact-correction') as AvroComplexSchema).fields!.filter(
    (field) => !['paraphrases', 'source', 'relation', 'replayOf'].includes(field.name),
  ),
};

test('a record of a listed older schema is read with defaults filled in', () => {
  const framing = singleObjectFraming({ 'fact-correction': [older] });
  const reader = recordCodec('fact-correction', framing);
  const body = Buffer.concat([framing.headOf('fact-correction', older), olderBody()]);
  expect(reader.decode(body)).toEqual({ ...sample, paraphrases: [], source: '', relation: null });
});

test('replayOf is kept, and left out where it is null', () => {
  const codec = recordCodec('fact-correction');
  expect(codec.decode(codec.encode({ ...sample, replayOf: 'before' })).replayOf).toBe('before');
  expect(Object.keys(codec.decode(codec.encode(sample)))).not.toContain('replayOf');
});

test('a record of an unlisted older schema is refused', () => {
  const body = Buffer.concat([singleObjectFraming().headOf('fact-correction', older), olderBody()]);
  expect(problemOf(() => recordCodec('fact-correction').decode(body))).toBe('unknown-schema');
});

test('a record of another kind is refused as such', () => {
  const bytes = recordCodec('hook-version').encode(version);
  expect(problemOf(() => recordCodec('fact-correction').decode(bytes))).toBe('wrong-record');
});

test('a codec takes another framing', () => {
  const codec = recordCodec('fact-correction', fixedFraming(schemaOf('fact-correction')));
  const bytes = codec.encode(sample);
  expect(bytes[0]).toBe(0);
  expect(codec.decode(bytes)).toEqual(sample);
});

/** id, lineage, subject, prompt, target, previousAnswer, neighbourhood, issuedAt, by hand. */
function olderBody(): Buffer {
  const { id, lineage, subject, prompt, target, issuedAt } = sample;
  const texts = [id, lineage, subject, prompt, target].map(avroString);
  return Buffer.concat([...texts, Buffer.from([0, 0]), avroLong(BigInt(issuedAt))]);
}

const codec = recordCodec('fact-correction');
const sound = codec.encode(sample);

test.each([
  ['empty', Buffer.alloc(0)],
  ['not-framed', Buffer.from('{"id":"c-1"}')],
  ['not-framed', Buffer.from([0xc3, 0x01, 0])],
  ['unknown-schema', Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.alloc(8, 0x11)])],
  ['truncated', sound.subarray(0, sound.length - 1)],
  ['trailing-bytes', Buffer.concat([sound, Buffer.from([0])])],
])('unsound bytes are refused as %s', (problem, bytes) => {
  expect(problemOf(() => codec.decode(bytes))).toBe(problem);
});

test('a truncated record is refused with the field', () => {
  expect(() => codec.decode(sound.subarray(0, 10 + 8))).toThrow(/lineage/);
});

test('text that is not UTF-8 is refused', () => {
  const bytes = Buffer.from(sound);
  bytes[bytes.indexOf('Torvik')] = 0xff;
  expect(() => codec.decode(bytes)).toThrow(/subject.*UTF-8/);
});

// A decoder that trusts the count would build 2^50 strings and crash the process.
test('an array that announces more items than bytes is refused', () => {
  const head = sound.subarray(0, 10);
  const { id, lineage, subject, prompt, target } = sample;
  const [before, after] = [
    [id, lineage, subject].map(avroString),
    [prompt, target].map(avroString),
  ];
  const none = Buffer.from([0]);
  const bytes = Buffer.concat([head, ...before, none, ...after, none, avroLong(2n ** 50n)]);
  expect(() => codec.decode(bytes)).toThrow(/paraphrases.*1125899906842624 items/);
});

test('any bytes give a sound value or UndecodableRecord', async () => {
  const [place, end] = [fc.nat(sound.length - 1), fc.nat(sound.length)];
  await always(2_000, place, fc.nat(255), end, async (at, byte, cut) => {
    const bytes = Buffer.from(sound);
    bytes[at] = byte;
    const fault = await faultOf(() =>
      expect(typeof codec.decode(bytes.subarray(0, cut)).prompt).toBe('string'),
    );
    if (fault !== undefined) expect(fault).toBeInstanceOf(UndecodableRecord);
  });
});

test('a walk ends exactly where the value ends', async () => {
  await always(100, correction, (value) => {
    const bytes = codec.encode(value);
    expect(walkAvro(typeOf(CORRECTION), bytes, 10)).toBe(bytes.length);
  });
});

function problemOf(decode: () => unknown): string {
  try {
    decode();
  } catch (error) {
    if (error instanceof UndecodableRecord) return error.problem;
    throw error;
  }
  return 'none';
}

/** A head of one zero byte; all records have one schema. */
function fixedFraming(writer: AvroSchema): Framing {
  return { headOf: (_record: RecordName) => Uint8Array.of(0), open: () => ({ writer, bodyAt: 1 }) };
}

function avroString(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([avroLong(BigInt(bytes.length)), bytes]);
}
