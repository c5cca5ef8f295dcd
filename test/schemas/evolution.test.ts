/**
 * Writers and readers of different ages: the released schemas among one another; the rules for the
 * next ones, and what the decoder makes of them, are shown with schemas made up here.
 */
import avsc from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  fingerprintOf,
  recordDecoder,
  schemaOf,
  singleObjectFraming,
  type RecordName,
} from '../../schemas/records/avro.ts';
import type { AvroComplexSchema, AvroSchema } from '../../schemas/records/avro-shape.ts';
import {
  confluentHead,
  confluentOpening,
  SCHEMA_ID_MAX,
  schemaIdOf,
} from '../../schemas/records/confluent-framing.ts';
import { UndecodableRecord } from '../../schemas/failures.ts';
import { RECORD_NAMES, releasedSchemasOf } from '../../schemas/records/released-schemas.ts';

/**
 * Fingerprints of what was released, in order. A line is added with a new schema; none is ever
 * changed.
 */
const RELEASED: Record<RecordName, string[]> = {
  'fact-correction': ['7abde12a308350db', '733a44fb2dea916f'],
  'correction-outcome': ['734f816f1f176af8'],
  'hook-version': ['b1e8f62928015f02'],
};

describe.each(RECORD_NAMES)('the released schemas of %s', (record) => {
  const released = releasedSchemasOf(record);

  it('are kept as they were released', () => {
    expect(released.map((schema) => fingerprintOf(schema).toString(16).padStart(16, '0'))).toEqual(
      RELEASED[record],
    );
  });

  it('end with the current one: whoever changes it adds it to the history', () => {
    expect(undocumented(schemaOf(record))).toEqual(undocumented(released.at(-1)!));
  });

  it('can all read one another, so that programs may be upgraded and rolled back in any order', () => {
    for (const writer of released)
      for (const reader of released) expect(obstacle(writer, reader)).toBeNull();
  });

  it('wrote records that are read today, and read what is written today', () => {
    const current = typeOf(schemaOf(record));
    for (const schema of released) {
      const older = typeOf(schema);
      const readsToday = older.createResolver(current);
      const head = singleObjectFraming().headOf(record, schema);
      fc.assert(
        fc.property(valuesOf(schema), (value) => {
          const written = older.toBuffer(value);
          const today = recordDecoder(record, singleObjectFraming()).decode(
            Buffer.concat([head, written]),
          );
          expect(current.isValid(today)).toBe(true);
          expect(older.fromBuffer(current.toBuffer(today), readsToday)).toEqual(
            older.fromBuffer(written),
          );
        }),
        { numRuns: 50 },
      );
    }
  });
});

describe('a schema that changes', () => {
  const current = schemaOf('fact-correction') as AvroComplexSchema;
  const outcome = schemaOf('correction-outcome') as AvroComplexSchema;
  const fieldsOf = (schema: AvroComplexSchema): Field[] => schema.fields as Field[];
  const withFields = (schema: AvroComplexSchema, fields: Field[]): AvroComplexSchema => ({
    ...schema,
    fields,
  });
  const retyped = (schema: AvroComplexSchema, name: string, type: AvroSchema): AvroComplexSchema =>
    withFields(
      schema,
      fieldsOf(schema).map((field) => (field.name === name ? { name, type } : field)),
    );
  const without = (schema: AvroComplexSchema, ...names: string[]): AvroComplexSchema =>
    withFields(
      schema,
      fieldsOf(schema).filter(({ name }) => !names.includes(name)),
    );
  const withField = (schema: AvroComplexSchema, field: Field): AvroComplexSchema =>
    withFields(schema, [...fieldsOf(schema), field]);

  // What each change means: the newer writer before today's reader, today's writer before the newer
  // reader.
  it.each<[string, AvroSchema, AvroSchema, boolean, boolean]>([
    [
      'a field added with a default',
      withField(current, { name: 'afterthought', type: 'string', default: '' }),
      current,
      true,
      true,
    ],
    [
      'a field added without one',
      withField(current, { name: 'afterthought', type: 'string' }),
      current,
      true,
      false,
    ],
    ['a field with a default removed', without(current, 'source'), current, true, true],
    ['a field without one removed', without(current, 'target'), current, false, true],
    [
      'fields in another order',
      withFields(current, [...fieldsOf(current)].reverse()),
      current,
      true,
      true,
    ],
    [
      'int made long',
      retyped(schemaOf('hook-version') as AvroComplexSchema, 'added', 'long'),
      schemaOf('hook-version'),
      false,
      true,
    ],
    ['long made int', retyped(current, 'issuedAt', 'int'), current, true, false],
    [
      'a union with one more branch',
      retyped(current, 'relation', ['null', 'string', 'long']),
      current,
      false,
      true,
    ],
    ['a union with one branch less', retyped(current, 'relation', 'string'), current, true, false],
    [
      'a symbol more in an enum',
      retyped(outcome, 'status', {
        type: 'enum',
        name: 'OutcomeStatus',
        symbols: [...symbolsOf(outcome), 'POSTPONED'],
      }),
      outcome,
      false,
      true,
    ],
    ['text made bytes', retyped(current, 'prompt', 'bytes'), current, true, true],
    ['another name', { ...current, name: 'Correction' }, current, false, false],
  ])('by %s', (_what, newer, today, newerIsRead, readsToday) => {
    expect(obstacle(newer, today) === null).toBe(newerIsRead);
    expect(obstacle(today, newer) === null).toBe(readsToday);
    const record = RECORD_NAMES.find((name) => schemaOf(name) === today)!;
    fc.assert(
      fc.property(valuesOf(newer), (value) => {
        const decoder = recordDecoder(record, confluentOpening(new Map([[7, newer]])));
        const bytes = Buffer.concat([confluentHead(7), typeOf(newer).toBuffer(value)]);
        if (!newerIsRead) {
          expect(() => decoder.decode(bytes)).toThrow(UndecodableRecord);
          expect(() => decoder.decode(bytes)).toThrow(/cannot be resolved/);
          return;
        }
        // Bytes that are read as text must be UTF-8; everything else is.
        const text = typeof (value as { prompt: unknown }).prompt === 'object';
        if (!text) expect(typeOf(today).isValid(decoder.decode(bytes))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('fills in its defaults and drops what it does not know', () => {
    const value = {
      id: 'c',
      lineage: 'l',
      subject: 'S',
      prompt: 'S is',
      target: 'T',
      issuedAt: 5,
      afterthought: { name: 'Ada', since: 3 },
    };
    const writer = withField(
      without(current, 'relation', 'previousAnswer', 'paraphrases', 'neighbourhood', 'source'),
      {
        name: 'afterthought',
        type: {
          type: 'record',
          name: 'Reviewer',
          fields: [
            { name: 'name', type: 'string' },
            { name: 'since', type: 'long' },
          ],
        },
      },
    );
    const bytes = Buffer.concat([
      singleObjectFraming().headOf('fact-correction', writer),
      typeOf(writer).toBuffer(value),
    ]);
    const { afterthought: _afterthought, ...rest } = value;
    expect(
      recordDecoder('fact-correction', singleObjectFraming({ 'fact-correction': [writer] })).decode(
        bytes,
      ),
    ).toEqual({
      ...rest,
      relation: null,
      previousAnswer: null,
      paraphrases: [],
      neighbourhood: [],
      source: '',
    });
  });

  it('may hold unions whose branches are alike as plain values', () => {
    const writer = withField(current, { name: 'weight', type: ['int', 'float', 'long'] });
    const type = avsc.Type.forSchema(structuredClone(writer) as avsc.Schema, { wrapUnions: true });
    const value = {
      id: 'c',
      lineage: 'l',
      subject: 'S',
      relation: { string: 'r' },
      prompt: 'S is',
      target: 'T',
      previousAnswer: null,
      paraphrases: [],
      neighbourhood: [],
      source: '',
      issuedAt: 5,
      weight: { float: 1 },
    };
    const decoder = recordDecoder('fact-correction', confluentOpening(new Map([[1, writer]])));
    expect(decoder.decode(Buffer.concat([confluentHead(1), type.toBuffer(value)]))).toMatchObject({
      relation: 'r',
      issuedAt: 5,
    });
  });

  it('may name a type that it defines in a branch not taken', () => {
    const writer = withField(
      withField(current, {
        name: 'first',
        type: ['null', { type: 'fixed', name: 'Mark', size: 2 }],
      }),
      { name: 'second', type: 'Mark' },
    );
    const value = {
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
      first: null,
      second: Buffer.from('ab'),
    };
    expect(
      recordDecoder('fact-correction', confluentOpening(new Map([[1, writer]]))).decode(
        Buffer.concat([confluentHead(1), typeOf(writer).toBuffer(value)]),
      ),
    ).toMatchObject({ id: 'c' });
  });
});

describe("a stranger's schema", () => {
  const current = schemaOf('fact-correction') as AvroComplexSchema;
  const decoderOf = (writer: unknown) =>
    recordDecoder('fact-correction', confluentOpening(new Map([[1, writer as AvroSchema]])));
  const sound = typeOf(current).toBuffer({
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
  });
  const first = (type: unknown): unknown => ({
    ...current,
    fields: [{ name: 'first', type }, ...current.fields!],
  });
  const nested = (depth: number): unknown =>
    depth === 0 ? 'null' : { type: 'array', items: nested(depth - 1) };

  it.each([
    ['no schema', 5],
    ['null', null],
    ['an unknown type', 'Nothing'],
    [
      'a name that is code',
      first({
        type: 'record',
        name: 'X',
        fields: [{ name: 'a;process.exit(1)//', type: 'string' }],
      }),
    ],
    [
      'a prototype for a field',
      first({ type: 'record', name: 'X', fields: [{ name: '__proto__', type: 'Nothing' }] }),
    ],
    [
      'a type that holds itself alone',
      first({ type: 'record', name: 'X', fields: [{ name: 'x', type: 'X' }] }),
    ],
    ['one that nests deep', first(nested(5_000))],
    ['an enum of nothing', first({ type: 'enum', name: 'E', symbols: [] })],
    ['a fixed of a negative size', first({ type: 'fixed', name: 'F', size: -1 })],
  ])('that is %s gives a reason and no harm', (_what, writer) => {
    expect(() =>
      decoderOf(writer).decode(Buffer.concat([confluentHead(1), sound, Buffer.alloc(64)])),
    ).toThrow(UndecodableRecord);
  });

  it('that nests without end is read no deeper than its bound', () => {
    const node = {
      type: 'record',
      name: 'Node',
      fields: [{ name: 'next', type: ['null', 'Node'] }],
    };
    const bytes = Buffer.concat([
      confluentHead(1),
      Buffer.alloc(50_000, 2),
      Buffer.from([0]),
      sound,
    ]);
    expect(() => decoderOf(first(node)).decode(bytes)).toThrow(/nest deeper/);
  });

  it('whose values take no bytes does not keep the reader busy', () => {
    const nothings = {
      type: 'array',
      items: { type: 'record', name: 'Nothing', fields: [{ name: 'n', type: 'null' }] },
    };
    // Each block of three bytes announces 16,000 nothings.
    const blocks = Buffer.concat(
      Array.from({ length: 16_000 }, () => Buffer.from([0x80, 0xfa, 0x01])),
    );
    expect(() =>
      decoderOf(first(nothings)).decode(
        Buffer.concat([confluentHead(1), blocks, Buffer.from([0]), sound]),
      ),
    ).toThrow(/more than \d+ values/);
  });

  it('never lets anything out but a sound value or an UndecodableRecord', () => {
    const schemas = fc.letrec<{ schema: unknown }>((tie) => ({
      schema: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom(
          'null',
          'boolean',
          'int',
          'long',
          'float',
          'double',
          'bytes',
          'string',
          'Nowhere',
          'X',
          5,
          null,
        ),
        fc.record({ type: fc.constant('array'), items: tie('schema') }),
        fc.record({ type: fc.constant('map'), values: tie('schema') }),
        fc.array(tie('schema'), { maxLength: 3 }),
        fc.record({
          type: fc.constant('record'),
          name: fc.constantFrom('X', 'Y', 'Z'),
          fields: fc.array(
            fc.record({
              name: fc.constantFrom('a', 'b', '__proto__', 'constructor'),
              type: tie('schema'),
            }),
            { maxLength: 3 },
          ),
        }),
        fc.record({
          type: fc.constant('enum'),
          name: fc.constantFrom('X', 'E'),
          symbols: fc.array(fc.constantFrom('A', 'B'), { maxLength: 2 }),
        }),
      ),
    })).schema;
    fc.assert(
      fc.property(schemas, fc.uint8Array({ maxLength: 40 }), (schema, junk) => {
        try {
          expect(
            decoderOf(first(schema)).decode(Buffer.concat([confluentHead(1), junk, sound])),
          ).toHaveProperty('prompt');
        } catch (error) {
          expect(error).toBeInstanceOf(UndecodableRecord);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('the head of a registry', () => {
  it('is 0x00 and the id, big-endian', () => {
    expect(confluentHead(0x01020304)).toEqual(Buffer.from([0, 1, 2, 3, 4]));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: SCHEMA_ID_MAX }), (id) => {
        expect(schemaIdOf(confluentHead(id))).toBe(id);
      }),
    );
  });

  it('names the setting where none is configured', () => {
    expect(() =>
      recordDecoder('fact-correction', singleObjectFraming()).decode(
        Buffer.from([0, 0, 0, 0, 1, 2]),
      ),
    ).toThrow(/ERRATA_SCHEMA_REGISTRY_URL/);
  });
});

type Field = { name: string; type: AvroSchema; default?: unknown };

function symbolsOf(schema: AvroComplexSchema): string[] {
  return (schema.fields!.find(({ name }) => name === 'status')!.type as AvroComplexSchema).symbols!;
}

function typeOf(schema: AvroSchema): avsc.Type {
  return avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions: false });
}

/** Why the reader cannot read what the writer writes; null where it can. */
function obstacle(writer: AvroSchema, reader: AvroSchema): string | null {
  try {
    typeOf(reader).createResolver(typeOf(writer));
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function undocumented(schema: AvroSchema): unknown {
  return JSON.parse(
    JSON.stringify(schema, (name, value: unknown) => (name === 'doc' ? undefined : value)),
  );
}

/** Values that a schema allows, made from the schema alone. */
function valuesOf(schema: AvroSchema): fc.Arbitrary<unknown> {
  if (Array.isArray(schema)) return fc.oneof(...schema.map(valuesOf));
  if (typeof schema !== 'string') {
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
  switch (schema) {
    case 'null':
      return fc.constant(null);
    case 'int':
      return fc.integer();
    case 'long':
      return fc.maxSafeInteger().filter((value) => Math.abs(value) < Number.MAX_SAFE_INTEGER);
    case 'double':
      return fc.double({ noNaN: true });
    case 'bytes':
      return fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes));
    default:
      return fc.string({ maxLength: 20 });
  }
}
