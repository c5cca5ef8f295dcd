/** Writers and readers of different ages; later schemas are made up here. */
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
import { always } from '../../harness/odd-inputs.ts';
import {
  changed,
  CORRECTION,
  decodeFrom,
  SAMPLE,
  typeOf,
  valuesOf,
  type SchemaChange,
} from '../../harness/schema-values.ts';

/** Fingerprints of the released schemas, in order: a new schema adds one, and none is changed. */
const RELEASED: Record<RecordName, string[]> = {
  'fact-correction': ['733a44fb2dea916f'],
  'correction-outcome': ['734f816f1f176af8'],
  'hook-version': ['b1e8f62928015f02'],
};
const OUTCOME = schemaOf('correction-outcome') as AvroComplexSchema;
const VERSION = schemaOf('hook-version') as AvroComplexSchema;
const TEXT = { name: 'afterthought', type: 'string' };
const STATUSES = OUTCOME.fields!.find(({ name }) => name === 'status')!.type as AvroComplexSchema;

/** The reason that the reader cannot read what the writer writes; null if it can. */
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
  const compatible = changed(CORRECTION, { add: { ...TEXT, default: '' } });
  expect(obstacles([CORRECTION, compatible])).toEqual([]);
  expect(obstacles([CORRECTION, changed(CORRECTION, { add: TEXT })])).toHaveLength(1);
  expect(obstacles([CORRECTION, changed(CORRECTION, { remove: ['target'] })])).toHaveLength(1);
  expect(obstacles([CORRECTION, compatible, { ...CORRECTION, name: 'Other' }])).toHaveLength(4);
});

test.each(RECORD_NAMES)(
  'records of all schemas of %s are read now, and the reverse',
  async (record) => {
    const current = typeOf(schemaOf(record));
    const add = { ...TEXT, default: 'none' };
    const later = changed(schemaOf(record) as AvroComplexSchema, { add });
    const framing = singleObjectFraming({ [record]: [later] });
    for (const schema of [...releasedSchemasOf(record), later]) {
      const other = typeOf(schema);
      const readsCurrent = other.createResolver(current);
      const head = framing.headOf(record, schema);
      await always(50, valuesOf(schema), (value) => {
        const written = other.toBuffer(value);
        const read = recordDecoder(record, framing).decode(Buffer.concat([head, written]));
        expect(current.isValid(read)).toBe(true);
        const back = other.fromBuffer(current.toBuffer(read), readsCurrent) as object;
        const added = schema === later ? { afterthought: 'none' } : {};
        expect({ ...back }).toEqual({ ...(other.fromBuffer(written) as object), ...added });
      });
    }
  },
);

const POSTPONED = { ...STATUSES, symbols: [...STATUSES.symbols!, 'POSTPONED'] };
/** Is the later writer read by the current reader, and the current writer by the later reader? */
type Change = [string, AvroComplexSchema, SchemaChange | { rename: string }, [boolean, boolean]];
const retyped = (name: string, type: AvroSchema) => ({ retype: { name, type } });
const CHANGES: Change[] = [
  ['a field added with a default', CORRECTION, { add: { ...TEXT, default: '' } }, [true, true]],
  ['a field added without one', CORRECTION, { add: TEXT }, [true, false]],
  ['a field with a default removed', CORRECTION, { remove: ['source'] }, [true, true]],
  ['a field without one removed', CORRECTION, { remove: ['target'] }, [false, true]],
  ['fields in another order', CORRECTION, { reverse: true }, [true, true]],
  ['int made long', VERSION, retyped('added', 'long'), [false, true]],
  ['long made int', CORRECTION, retyped('issuedAt', 'int'), [true, false]],
  ['one more branch', CORRECTION, retyped('relation', ['null', 'string', 'long']), [false, true]],
  ['one branch less', CORRECTION, retyped('relation', 'string'), [true, false]],
  ['one more symbol in an enum', OUTCOME, retyped('status', POSTPONED), [false, true]],
  ['text made bytes', CORRECTION, retyped('prompt', 'bytes'), [true, true]],
  ['another name', CORRECTION, { rename: 'Correction' }, [false, false]],
];

test.each(CHANGES)('compatibility after a change by %s', async (_, current, change, reads) => {
  const later = 'rename' in change ? { ...current, name: change.rename } : changed(current, change);
  expect([obstacle(later, current) === null, obstacle(current, later) === null]).toEqual(reads);
  const record = RECORD_NAMES.find((name) => schemaOf(name) === current)!;
  const decoder = recordDecoder(record, confluentOpening(new Map([[7, later]])));
  await always(30, valuesOf(later), (value) => {
    const bytes = Buffer.concat([confluentHead(7), typeOf(later).toBuffer(value)]);
    if (!reads[0]) {
      expect(() => decoder.decode(bytes)).toThrow(UndecodableRecord);
      expect(() => decoder.decode(bytes)).toThrow(/cannot be resolved/);
      return;
    }
    // Bytes that are read as text must be UTF-8; these are random.
    const isText = typeof (value as { prompt: unknown }).prompt !== 'object';
    if (isText) expect(typeOf(current).isValid(decoder.decode(bytes))).toBe(true);
  });
});

test('a reader fills in its defaults and drops fields that it does not know', () => {
  const reviewer = {
    type: 'record',
    name: 'Reviewer',
    fields: Object.entries({ name: 'string', since: 'long' }).map(([name, type]) => ({
      name,
      type,
    })),
  };
  const writer = changed(CORRECTION, {
    remove: ['relation', 'previousAnswer', 'paraphrases', 'neighbourhood', 'source'],
    add: { name: 'afterthought', type: reviewer },
  });
  const { id, lineage, subject, prompt, target, issuedAt } = SAMPLE;
  const afterthought = { name: 'Ada', since: 3 };
  const body = { id, lineage, subject, prompt, target, issuedAt, replayOf: null, afterthought };
  const framing = singleObjectFraming({ 'fact-correction': [writer] });
  const head = framing.headOf('fact-correction', writer);
  const bytes = Buffer.concat([head, typeOf(writer).toBuffer(body)]);
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
  const second = { name: 'second', type: 'Mark' };
  const writer = changed(changed(CORRECTION, { add: first }), { add: second });
  const value = { ...SAMPLE, replayOf: null, first: null, second: Buffer.from('ab') };
  expect(decodeFrom(writer, typeOf(writer).toBuffer(value))).toMatchObject({ id: 'c' });
});
