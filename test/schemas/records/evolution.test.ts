/** Writers and readers of different ages; later schemas are made up here. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  fingerprintOf,
  recordDecoder,
  singleObjectFraming,
} from '../../../schemas/records/avro.ts';
import { confluentHead, confluentOpening } from '../../../schemas/records/confluent-framing.ts';
import { UndecodableRecord } from '../../../schemas/failures.ts';
import {
  RECORD_NAMES,
  releasedSchemasOf,
  schemaOf,
  type RecordName,
  type AvroComplexSchema,
  type AvroSchema,
} from '../../../schemas/records/released-schemas.ts';
import { changed, CORRECTION, decodeFrom, SAMPLE, typeOf, valuesOf } from './schema-values.ts';

/** Fingerprints of the released schemas, in order: a new schema adds one, and none is changed. */
const RELEASED: Record<RecordName, string[]> = {
  'fact-correction': ['733a44fb2dea916f'],
  'correction-outcome': ['734f816f1f176af8'],
  'hook-version': ['b1e8f62928015f02'],
};
const OUTCOME = schemaOf('correction-outcome') as AvroComplexSchema;
const VERSION = schemaOf('hook-version') as AvroComplexSchema;
const STATUSES = OUTCOME.fields!.find(({ name }) => name === 'status')!.type as AvroComplexSchema;

/** Why the reader cannot read what the writer writes; null if it can. */
function obstacle(writer: AvroSchema, reader: AvroSchema): string | null {
  try {
    typeOf(reader).createResolver(typeOf(writer));
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Obstacles between any two of a record's schemas, so that programs mix in any order. */
function obstacles(schemas: readonly AvroSchema[]): string[] {
  return schemas.flatMap((writer) => schemas.flatMap((reader) => obstacle(writer, reader) ?? []));
}

test.each(RECORD_NAMES)('the released schemas of %s are unchanged', (record) => {
  const fingerprints = releasedSchemasOf(record).map((schema) =>
    fingerprintOf(schema).toString(16).padStart(16, '0'),
  );
  expect(fingerprints).toEqual(RELEASED[record]);
});

test.each(RECORD_NAMES)('the released schemas of %s can read one another', (record) => {
  expect(releasedSchemasOf(record)).not.toEqual([]);
  expect(obstacles(releasedSchemasOf(record))).toEqual([]);
});

test('an incompatible schema in a history would be found, in either direction', () => {
  const text = { name: 'afterthought', type: 'string' };
  const compatible = changed(CORRECTION, { add: { ...text, default: '' } });
  expect(obstacles([CORRECTION, compatible])).toEqual([]);
  expect(obstacles([CORRECTION, changed(CORRECTION, { add: text })])).toHaveLength(1);
  expect(obstacles([CORRECTION, changed(CORRECTION, { remove: ['target'] })])).toHaveLength(1);
  expect(obstacles([CORRECTION, compatible, { ...CORRECTION, name: 'Other' }])).toHaveLength(4);
});

test.each(RECORD_NAMES)('records of all schemas of %s are read now, and the reverse', (record) => {
  const current = typeOf(schemaOf(record));
  const later = changed(schemaOf(record) as AvroComplexSchema, {
    add: { name: 'afterthought', type: 'string', default: 'none' },
  });
  const framing = singleObjectFraming({ [record]: [later] });
  for (const schema of [...releasedSchemasOf(record), later]) {
    const other = typeOf(schema);
    const readsCurrent = other.createResolver(current);
    const head = framing.headOf(record, schema);
    fc.assert(
      fc.property(valuesOf(schema), (value) => {
        const written = other.toBuffer(value);
        const read = recordDecoder(record, framing).decode(Buffer.concat([head, written]));
        expect(current.isValid(read)).toBe(true);
        const back = other.fromBuffer(current.toBuffer(read), readsCurrent);
        const added = schema === later ? { afterthought: 'none' } : {};
        expect({ ...back }).toEqual({ ...other.fromBuffer(written), ...added });
      }),
      { numRuns: 50 },
    );
  }
});

const TEXT = { name: 'afterthought', type: 'string' };
const POSTPONED = { ...STATUSES, symbols: [...STATUSES.symbols!, 'POSTPONED'] };
/** Is the later writer read by the current reader, and the current writer by the later reader? */
type Change = [name: string, later: AvroSchema, current: AvroSchema, reads: [boolean, boolean]];
const CHANGES: Change[] = [
  [
    'a field added with a default',
    changed(CORRECTION, { add: { ...TEXT, default: '' } }),
    CORRECTION,
    [true, true],
  ],
  ['a field added without one', changed(CORRECTION, { add: TEXT }), CORRECTION, [true, false]],
  [
    'a field with a default removed',
    changed(CORRECTION, { remove: ['source'] }),
    CORRECTION,
    [true, true],
  ],
  [
    'a field without one removed',
    changed(CORRECTION, { remove: ['target'] }),
    CORRECTION,
    [false, true],
  ],
  ['fields in another order', changed(CORRECTION, { reverse: true }), CORRECTION, [true, true]],
  [
    'int made long',
    changed(VERSION, { retype: { name: 'added', type: 'long' } }),
    VERSION,
    [false, true],
  ],
  [
    'long made int',
    changed(CORRECTION, { retype: { name: 'issuedAt', type: 'int' } }),
    CORRECTION,
    [true, false],
  ],
  [
    'a union with one more branch',
    changed(CORRECTION, { retype: { name: 'relation', type: ['null', 'string', 'long'] } }),
    CORRECTION,
    [false, true],
  ],
  [
    'a union with one branch less',
    changed(CORRECTION, { retype: { name: 'relation', type: 'string' } }),
    CORRECTION,
    [true, false],
  ],
  [
    'one more symbol in an enum',
    changed(OUTCOME, { retype: { name: 'status', type: POSTPONED } }),
    OUTCOME,
    [false, true],
  ],
  [
    'text made bytes',
    changed(CORRECTION, { retype: { name: 'prompt', type: 'bytes' } }),
    CORRECTION,
    [true, true],
  ],
  ['another name', { ...CORRECTION, name: 'Correction' }, CORRECTION, [false, false]],
];

test.each(CHANGES)('compatibility after a change by %s', (_name, later, current, reads) => {
  expect([obstacle(later, current) === null, obstacle(current, later) === null]).toEqual(reads);
  const record = RECORD_NAMES.find((name) => schemaOf(name) === current)!;
  const decoder = recordDecoder(record, confluentOpening(new Map([[7, later]])));
  fc.assert(
    fc.property(valuesOf(later), (value) => {
      const bytes = Buffer.concat([confluentHead(7), typeOf(later).toBuffer(value)]);
      if (!reads[0]) {
        expect(() => decoder.decode(bytes)).toThrow(UndecodableRecord);
        expect(() => decoder.decode(bytes)).toThrow(/cannot be resolved/);
        return;
      }
      // Bytes that are read as text must be UTF-8; these are random.
      const isText = typeof (value as { prompt: unknown }).prompt !== 'object';
      if (isText) expect(typeOf(current).isValid(decoder.decode(bytes))).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test('a reader fills in its defaults and drops fields that it does not know', () => {
  const reviewer = {
    type: 'record',
    name: 'Reviewer',
    fields: [
      { name: 'name', type: 'string' },
      { name: 'since', type: 'long' },
    ],
  };
  const writer = changed(CORRECTION, {
    remove: ['relation', 'previousAnswer', 'paraphrases', 'neighbourhood', 'source'],
    add: { name: 'afterthought', type: reviewer },
  });
  const { id, lineage, subject, prompt, target, issuedAt } = SAMPLE;
  const afterthought = { name: 'Ada', since: 3 };
  const body = { id, lineage, subject, prompt, target, issuedAt, replayOf: null, afterthought };
  const framing = singleObjectFraming({ 'fact-correction': [writer] });
  const bytes = Buffer.concat([
    framing.headOf('fact-correction', writer),
    typeOf(writer).toBuffer(body),
  ]);
  expect(recordDecoder('fact-correction', framing).decode(bytes)).toEqual(SAMPLE);
});

test('a union may have branches that are alike as plain values', () => {
  const writer = changed(CORRECTION, { add: { name: 'weight', type: ['int', 'float', 'long'] } });
  const value = { ...SAMPLE, relation: { string: 'r' }, replayOf: null, weight: { float: 1 } };
  const body = typeOf(writer, true).toBuffer(value);
  expect(decodeFrom(writer, body)).toMatchObject({ relation: 'r', issuedAt: 5 });
});

test('a schema may name a type that it defines in a branch not taken', () => {
  const mark = { type: 'fixed', name: 'Mark', size: 2 };
  const first = { name: 'first', type: ['null', mark] };
  const writer = changed(changed(CORRECTION, { add: first }), {
    add: { name: 'second', type: 'Mark' },
  });
  const value = { ...SAMPLE, replayOf: null, first: null, second: Buffer.from('ab') };
  expect(decodeFrom(writer, typeOf(writer).toBuffer(value))).toMatchObject({ id: 'c' });
});
