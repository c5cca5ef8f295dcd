import { expect, it } from 'vitest';
import { deadLetter, originOf } from '../../../pipelines/kafka/dead-letter.ts';
import { readRecord } from '../../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord } from '../../../pipelines/kafka/records.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { factKeyOf } from '../../../schemas/correction.ts';
import { factCorrection, LINEAGE, TOPIC } from '../../harness/corrections.ts';

const codec = recordCodec('fact-correction');
const sound = factCorrection('c');

function record(more: Partial<ConsumedRecord>): ConsumedRecord {
  return {
    topic: TOPIC,
    partition: 2,
    offset: '17',
    timestamp: 1_234,
    key: Buffer.from(factKeyOf(sound)),
    value: codec.encode(sound),
    headers: {},
    ...more,
  };
}

const read = (more: Partial<ConsumedRecord>) => readRecord(record(more), LINEAGE, codec);
const problem = (more: Partial<ConsumedRecord>): string => {
  const result = read(more);
  return result.kind === 'dead' ? `${result.problem.className}: ${result.problem.message}` : 'none';
};

it('a record with a sound value is a correction', () => {
  expect(read({})).toMatchObject({
    kind: 'revision',
    revision: {
      kind: 'correction',
      factKey: 'Subject c|place',
      position: { topic: TOPIC, partition: 2, offset: '17' },
      correction: sound,
    },
  });
});

it('a record without a value retracts the fact of its key', () => {
  expect(read({ key: Buffer.from('Torvik|is in'), value: null })).toMatchObject({
    kind: 'revision',
    revision: {
      kind: 'retraction',
      factKey: 'Torvik|is in',
      id: `retract:${TOPIC}-2-17`,
      issuedAt: 1_234,
    },
  });
});

it('a record with a foreign key is filed under its fact', () => {
  for (const key of [null, Buffer.from('something else'), Buffer.from([0xff])])
    expect(read({ key })).toMatchObject({ revision: { factKey: 'Subject c|place' } });
});

it('a record that cannot be accepted has a reason', () => {
  expect(problem({ value: Buffer.from('{}') })).toMatch(/^UndecodableRecord: .*single-object/);
  expect(problem({ value: codec.encode(sound).subarray(0, 30) })).toMatch(
    /^UndecodableRecord: .*cut short/,
  );
  expect(
    problem({ value: codec.encode({ ...sound, prompt: 'of something else', target: '' }) }),
  ).toMatch(/^UnsoundCorrection: target is empty; the subject does not occur in the prompt$/);
  expect(problem({ value: codec.encode({ ...sound, lineage: 'other' }) })).toMatch(
    /^UnsoundCorrection: lineage "other" is not that of the topic, "l"$/,
  );
  expect(problem({ value: Buffer.alloc(65_537) })).toMatch(
    /^RecordTooLarge: the record has 65537 bytes/,
  );
  expect(problem({ key: null, value: null })).toMatch(/^UnsoundKey: .*there is no key/);
  expect(problem({ key: Buffer.alloc(0), value: null })).toMatch(/^UnsoundKey/);
  expect(problem({ key: Buffer.from([0xff, 0xfe]), value: null })).toMatch(
    /^UnsoundKey: the key is not UTF-8/,
  );
  expect(problem({ key: Buffer.alloc(10_000, 0x61), value: null })).toMatch(
    /^UnsoundKey: the key has 10000 characters/,
  );
});

it('a record goes to the dead-letter topic unchanged, with its origin in headers', () => {
  const letter = deadLetter(record({ value: Buffer.from([1, 2]), headers: { trace: 'abc' } }), {
    className: 'UndecodableRecord',
    message: 'no head',
  });
  expect(letter).toMatchObject({
    key: record({}).key,
    value: Buffer.from([1, 2]),
    headers: {
      trace: 'abc',
      '__connect.errors.offset': '17',
      '__connect.errors.exception.class.name': 'UndecodableRecord',
    },
  });
  expect(originOf({ headers: letter.headers! })).toEqual({
    topic: TOPIC,
    partition: 2,
    offset: '17',
    className: 'UndecodableRecord',
    message: 'no head',
  });
  expect(originOf({ headers: {} })).toBeNull();
});
