/**
 * Records on the corrections topic: revisions or dead letters; nothing throws, and a dead letter is
 * what came in, byte for byte.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { deadLetter, originOf } from '../../pipelines/kafka/dead-letter.ts';
import { nextPiece } from '../../pipelines/ingest/ingest-chunk.ts';
import { KEY_CHARACTERS_MAX, readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord, HeaderValue, RecordHeaders } from '../../pipelines/kafka/records.ts';
import { CHUNK_BYTES_MAX, CHUNK_REVISIONS_MAX } from '../../pipelines/workflows/contract.ts';
import { jsonBytes } from '../../pipelines/workflows/contract.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { CORRECTION_LIMITS, factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { factCorrection, LINEAGE, TOPIC } from '../harness/corrections.ts';
import { damaged, oddText, runs } from './inputs.ts';

const codec = recordCodec('fact-correction');
const sound = new Uint8Array(codec.encode(factCorrection('c')));

const bytes = fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array));
const headerValue: fc.Arbitrary<HeaderValue> = fc.oneof(bytes, fc.constant(null));
const headerName = fc.oneof(
  oddText.filter((name) => name.length < 100),
  fc.constantFrom(
    '__connect.errors.topic',
    '__connect.errors.partition',
    '__connect.errors.offset',
    '__connect.errors.exception.message',
  ),
);
const headers: fc.Arbitrary<RecordHeaders> = fc.dictionary(
  headerName,
  fc.oneof(headerValue, fc.array(headerValue, { minLength: 2, maxLength: 4 })),
  { maxKeys: 5, noNullPrototype: true },
);
const timestamp = fc.oneof(fc.nat(), fc.constantFrom(-1, Number.NaN, 9.2e18, 8.64e15, 8.64e15 + 1));

const record: fc.Arbitrary<ConsumedRecord> = fc.record({
  topic: fc.constant(TOPIC),
  partition: fc.nat(9),
  offset: fc.bigInt(0n, 2n ** 63n - 1n).map(String),
  timestamp,
  key: fc.oneof(
    fc.constant(null),
    bytes,
    oddText.map((key) => Buffer.from(key)),
  ),
  value: fc.oneof(
    fc.constant(null),
    damaged(fc.constant(sound)).map((array) => Buffer.from(array)),
    fc.constant(Buffer.from(sound)),
    fc.constant(Buffer.alloc(CORRECTION_LIMITS.recordBytesMax + 1)),
  ),
  headers,
});

test('any bytes are a sound revision or a dead letter with a reason', () => {
  fc.assert(
    fc.property(record, (one) => {
      const read = readRecord(one, LINEAGE, codec);
      if (read.kind === 'dead') expect(read.problem.message).not.toBe('');
      else if (read.revision.kind === 'correction')
        expect(faultsOf(read.revision.correction)).toEqual([]);
      else expect(new Date(read.revision.issuedAt).getTime()).toBe(one.timestamp);
    }),
    runs(1_000),
  );
});

test("a dead letter keeps the record's key, value and headers", () => {
  fc.assert(
    fc.property(record, oddText, (one, message) => {
      const letter = deadLetter(one, { className: 'UndecodableRecord', message });
      // The very buffers: comparing them byte by byte would take most of the time.
      expect(letter.key).toBe(one.key);
      expect(letter.value).toBe(one.value);
      for (const [name, value] of Object.entries(one.headers)) {
        const kept = [letter.headers![name]!].flat();
        const brought = [value].flat();
        expect(kept.slice(0, brought.length)).toEqual(brought);
        expect(kept.length).toBe(brought.length + (name.startsWith('__connect.errors.') ? 1 : 0));
      }
      expect(originOf({ headers: letter.headers! })).toMatchObject({
        topic: one.topic,
        partition: one.partition,
        offset: one.offset,
      });
    }),
    runs(500),
  );
});

test('records are cut into pieces that lose none, keep the order and stay in bounds', () => {
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 40 }), (some) => {
      const all = some.map((one, i) => ({ ...one, offset: String(i) }));
      const seen: string[] = [];
      for (let left = all; left.length > 0;) {
        const piece = nextPiece(left, '1000', (one) => readRecord(one, LINEAGE, codec));
        const taken =
          piece.kind === 'dead'
            ? piece.letters.map((letter) => letter.record.offset)
            : piece.chunk.revisions.map(({ position }) => position.offset);
        expect(taken.length).toBeGreaterThan(0);
        expect(taken.length).toBeLessThanOrEqual(CHUNK_REVISIONS_MAX);
        if (piece.kind === 'revisions' && taken.length > 1)
          expect(jsonBytes(piece.chunk)).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
        seen.push(...taken);
        left = left.slice(taken.length);
      }
      expect(seen).toEqual(all.map(({ offset }) => offset));
    }),
    runs(200),
  );
});

const dead = (more: Partial<ConsumedRecord>): ConsumedRecord => ({
  topic: TOPIC,
  partition: 0,
  offset: '0',
  timestamp: 0,
  key: null,
  value: Buffer.from('x'),
  headers: {},
  ...more,
});

// A hundred megabyte-long keys in one request are more than any broker takes, and the partition
// would wait for ever.
test.each<[string, Partial<ConsumedRecord>]>([
  ['keys', { key: Buffer.alloc(CHUNK_BYTES_MAX) }],
  ['values', { value: Buffer.alloc(CHUNK_BYTES_MAX) }],
  ['headers', { headers: { trace: Buffer.alloc(CHUNK_BYTES_MAX) } }],
  [
    'headers of one name',
    {
      headers: {
        trace: [Buffer.alloc(CHUNK_BYTES_MAX / 2), null, 'x'.repeat(CHUNK_BYTES_MAX / 2)],
      },
    },
  ],
])('dead letters with large %s go one at a time', (_, more) => {
  const piece = nextPiece([dead(more), dead({ ...more, offset: '1' })], '2', (one) =>
    readRecord(one, LINEAGE, codec),
  );
  expect(piece).toMatchObject({ kind: 'dead', throughOffset: '0' });
});

test.each(['x', '-1', '1.5', '1e3', '', ' 1', '99999999999999999999', '0x10'])(
  'dead letters whose headers give %s as a place have no origin',
  (place) => {
    const origin = {
      '__connect.errors.topic': 't',
      '__connect.errors.partition': '1',
      '__connect.errors.offset': '1',
    };
    expect(originOf({ headers: origin })).not.toBeNull();
    expect(originOf({ headers: { ...origin, '__connect.errors.partition': place } })).toBeNull();
    expect(originOf({ headers: { ...origin, '__connect.errors.offset': place } })).toBeNull();
  },
);

test('dead letters of any headers have an origin or none', () => {
  fc.assert(
    fc.property(headers, (some) => void originOf({ headers: some })),
    runs(500),
  );
});

/** Characters that Unicode's NFC makes three of, and ones that are escaped. */
const growing = fc.string({
  unit: fc.constantFrom('\uFB2C', '\u{1D160}', '|', '\\', 'a', ' ', '\u0344'),
  maxLength: 400,
});

const correction: fc.Arbitrary<FactCorrection> = fc
  .record({
    subject: fc.oneof(growing, oddText),
    rest: fc.oneof(growing, oddText),
    relation: fc.option(growing),
    target: oddText,
    paraphrases: fc.array(growing, { maxLength: 17 }),
    neighbourhood: fc.array(oddText, { maxLength: 33 }),
    issuedAt: fc.oneof(fc.nat(), fc.nat(CORRECTION_LIMITS.issuedAtMax)),
    previousAnswer: fc.option(oddText),
    replayOf: fc.option(oddText),
  })
  .map(({ rest, replayOf, ...fields }) => ({
    id: 'c',
    lineage: LINEAGE,
    source: '',
    prompt: `${fields.subject}${rest}`,
    ...fields,
    ...(replayOf === null ? {} : { replayOf }),
  }));

test('any sound correction can be retracted by its key', () => {
  fc.assert(
    fc.property(correction, (one) => {
      if (faultsOf(one).length > 0) return;
      expect(
        readRecord(
          {
            topic: TOPIC,
            partition: 0,
            offset: '0',
            timestamp: 1,
            key: Buffer.from(factKeyOf(one)),
            value: null,
            headers: {},
          },
          LINEAGE,
          codec,
        ),
      ).toMatchObject({ kind: 'revision', revision: { factKey: factKeyOf(one) } });
    }),
    runs(300),
  );
  const subject = '\uFB2C'.repeat(CORRECTION_LIMITS.subjectCharactersMax);
  const longest = {
    ...factCorrection('c'),
    subject,
    relation: null,
    prompt: subject + '\uFB2C'.repeat(CORRECTION_LIMITS.promptCharactersMax - subject.length),
  };
  expect(faultsOf(longest)).toEqual([]);
  expect(factKeyOf(longest).length).toBeGreaterThan(
    2 * (CORRECTION_LIMITS.subjectCharactersMax + CORRECTION_LIMITS.promptCharactersMax),
  );
  expect(factKeyOf(longest).length).toBeLessThanOrEqual(KEY_CHARACTERS_MAX);
});

test('a correction with too large a record is refused before it is sent', () => {
  const large = {
    ...factCorrection('c'),
    neighbourhood: Array.from({ length: CORRECTION_LIMITS.neighbourhoodMax }, () =>
      'é'.repeat(1_100),
    ),
  };
  expect(faultsOf(large)).toEqual([
    `its record has ${codec.encode(large).length} bytes, ` +
      `at most ${CORRECTION_LIMITS.recordBytesMax} are allowed`,
  ]);
});
