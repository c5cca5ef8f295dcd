/**
 * Records on the corrections topic give revisions or dead letters; nothing throws, and a dead
 * letter equals its record byte for byte.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { deadLetter, originOf } from '../../pipelines/kafka/dead-letter.ts';
import { nextPiece } from '../../pipelines/ingest/ingest-chunk.ts';
import { KEY_CHARACTERS_MAX, readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord, HeaderValue, RecordHeaders } from '../../pipelines/kafka/records.ts';
import {
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  jsonBytes,
} from '../../pipelines/workflows/contract.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { CORRECTION_LIMITS, factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { factCorrection, LINEAGE, TOPIC } from '../harness/corrections.ts';
import { always, damaged, oddText } from '../harness/odd-inputs.ts';

const codec = recordCodec('fact-correction');
const sound = new Uint8Array(codec.encode(factCorrection('c')));

const bytes = fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array));
const headerValue: fc.Arbitrary<HeaderValue> = fc.oneof(bytes, fc.constant(null));
const ORIGIN = ['topic', 'partition', 'offset'].map((name) => `__connect.errors.${name}`);
const headerName = fc.oneof(
  oddText.filter((name) => name.length < 100),
  fc.constantFrom(...ORIGIN, '__connect.errors.exception.message'),
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
    damaged(sound).map((array) => Buffer.from(array)),
    fc.constant(Buffer.from(sound)),
    fc.constant(Buffer.alloc(CORRECTION_LIMITS.recordBytesMax + 1)),
  ),
  headers,
});

test('any bytes give a sound revision or a dead letter with a reason', async () => {
  await always(1_000, record, (one) => {
    const read = readRecord(one, LINEAGE, codec);
    if (read.kind === 'dead') expect(read.problem.message).not.toBe('');
    else if (read.revision.kind === 'correction')
      expect(faultsOf(read.revision.correction)).toEqual([]);
    else expect(new Date(read.revision.issuedAt).getTime()).toBe(one.timestamp);
  });
});

test("a dead letter keeps the record's key, value and headers", async () => {
  await always(500, record, oddText, (one, message) => {
    const letter = deadLetter(one, { className: 'UndecodableRecord', message });
    // The buffers must be the same objects: comparing them byte by byte would take most of the
    // time.
    expect(letter.key).toBe(one.key);
    expect(letter.value).toBe(one.value);
    for (const [name, value] of Object.entries(one.headers)) {
      const kept = [letter.headers![name]!].flat();
      const brought = [value].flat();
      expect(kept.slice(0, brought.length)).toEqual(brought);
      expect(kept.length).toBe(brought.length + (name.startsWith('__connect.errors.') ? 1 : 0));
    }
    const { topic, partition, offset } = one;
    expect(originOf({ headers: letter.headers! })).toMatchObject({ topic, partition, offset });
  });
});

test('records are cut into bounded, ordered pieces without loss', async () => {
  await always(200, fc.array(record, { minLength: 1, maxLength: 40 }), (some) => {
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
  });
});

const PLACE = { topic: TOPIC, partition: 0, offset: '0', timestamp: 0 };
const dead = (more: Partial<ConsumedRecord>): ConsumedRecord => ({
  ...PLACE,
  key: null,
  value: Buffer.from('x'),
  headers: {},
  ...more,
});

const HALF = CHUNK_BYTES_MAX / 2;
// One request with a hundred keys of a megabyte exceeds every broker's limit, and the partition
// would wait forever.
test.each<[string, Partial<ConsumedRecord>]>([
  ['keys', { key: Buffer.alloc(CHUNK_BYTES_MAX) }],
  ['values', { value: Buffer.alloc(CHUNK_BYTES_MAX) }],
  ['headers', { headers: { trace: Buffer.alloc(CHUNK_BYTES_MAX) } }],
  ['headers of one name', { headers: { trace: [Buffer.alloc(HALF), null, 'x'.repeat(HALF)] } }],
])('dead letters with large %s are sent one at a time', (_, more) => {
  const piece = nextPiece([dead(more), dead({ ...more, offset: '1' })], '2', (one) =>
    readRecord(one, LINEAGE, codec),
  );
  expect(piece).toMatchObject({ kind: 'dead', throughOffset: '0' });
});

test.each(['x', '-1', '1.5', '1e3', '', ' 1', '99999999999999999999', '0x10'])(
  'dead letters with %s as a place in their headers have no origin',
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

test('dead letters with any headers have an origin or none', async () => {
  await always(500, headers, (some) => void originOf({ headers: some }));
});

/** Characters that Unicode's NFC expands to three, and characters that are escaped. */
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

test('any sound correction can be retracted by its key', async () => {
  await always(300, correction, (one) => {
    if (faultsOf(one).length > 0) return;
    const factKey = factKeyOf(one);
    const retraction = dead({ timestamp: 1, key: Buffer.from(factKey), value: null });
    const read = readRecord(retraction, LINEAGE, codec);
    expect(read).toMatchObject({ kind: 'revision', revision: { factKey } });
  });
  const { subjectCharactersMax, promptCharactersMax } = CORRECTION_LIMITS;
  const subject = '\uFB2C'.repeat(subjectCharactersMax);
  const prompt = '\uFB2C'.repeat(promptCharactersMax);
  const longest = factCorrection('c', { subject, relation: null, prompt });
  expect(faultsOf(longest)).toEqual([]);
  const written = subjectCharactersMax + promptCharactersMax;
  expect(factKeyOf(longest).length).toBeGreaterThan(2 * written);
  expect(factKeyOf(longest).length).toBeLessThanOrEqual(KEY_CHARACTERS_MAX);
});

test('a correction whose record would be too large is refused before it is sent', () => {
  const long = 'é'.repeat(1_100);
  const neighbourhood = Array.from({ length: CORRECTION_LIMITS.neighbourhoodMax }, () => long);
  const large = factCorrection('c', { neighbourhood });
  expect(faultsOf(large)).toEqual([
    `its record has ${codec.encode(large).length} bytes, ` +
      `at most ${CORRECTION_LIMITS.recordBytesMax} are allowed`,
  ]);
});
