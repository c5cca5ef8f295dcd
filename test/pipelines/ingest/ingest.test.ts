import fc from 'fast-check';
import { expect, it } from 'vitest';
import { nextPiece } from '../../../pipelines/ingest/ingest-chunk.ts';
import {
  PAUSE_FIRST_MS,
  PAUSE_MAX_MS,
  PartitionIngest,
  type AcceptAnswer,
  type IngestDependencies,
} from '../../../pipelines/ingest/ingest.ts';
import { readRecord } from '../../../pipelines/ingest/ingest-record.ts';
import type {
  ConsumedRecord,
  OutgoingRecord,
  PartitionBatch,
} from '../../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import {
  CHUNK_BYTES_MAX,
  CHUNK_REVISIONS_MAX,
  type Carried,
  type RevisionChunk,
} from '../../../pipelines/workflows/contract.ts';
import { LineageState } from '../../../pipelines/workflows/lineage-state.ts';
import { jsonBytes } from '../../../pipelines/workflows/contract.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { CORRECTION_LIMITS } from '../../../schemas/correction.ts';
import { SchemaRegistryUnavailable } from '../../../schemas/failures.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { factCorrection, LINEAGE, TOPIC } from '../../harness/corrections.ts';

const codec = recordCodec('fact-correction');
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

function record(
  offset: number,
  kind: 'sound' | 'garbage' = 'sound',
  more: Partial<ConsumedRecord> = {},
): ConsumedRecord {
  const value =
    kind === 'sound' ? codec.encode(factCorrection(`c${offset}`)) : Buffer.from('garbage');
  return {
    topic: TOPIC,
    partition: 0,
    offset: String(offset),
    timestamp: 1,
    key: Buffer.from('k'),
    value,
    headers: {},
    ...more,
  };
}

/** A partition of a broker: hands out what is not done yet, as Kafka would. */
class FakePartition {
  committed = -1n;
  /** Next offset that is read: behind the committed one, unless somebody sought another. */
  position = 0n;
  readonly pauses: number[] = [];
  readonly log: ConsumedRecord[];
  heartbeats = 0;
  constructor(log: ConsumedRecord[]) {
    this.log = log;
  }
  batch(): PartitionBatch {
    return {
      topic: TOPIC,
      partition: 0,
      fromOffset: String(this.position),
      endOffset: String(BigInt(this.log.at(-1)?.offset ?? -1) + 1n),
      records: this.log.filter(({ offset }) => BigInt(offset) >= this.position),
      done: async (through) => {
        expect(BigInt(through)).toBeGreaterThanOrEqual(this.position);
        this.committed = BigInt(through);
        this.position = this.committed + 1n;
      },
      seek: (offset) => void (this.position = BigInt(offset)),
      heartbeat: async () => void this.heartbeats++,
      pauseForMs: (pauseMs) => void this.pauses.push(pauseMs),
      mine: () => true,
    };
  }
  get left(): number {
    return this.batch().records.length;
  }
}

function ingestWith(
  accept: (chunk: RevisionChunk, attempt: string) => AcceptAnswer,
  more: Partial<IngestDependencies> = {},
): PartitionIngest {
  return new PartitionIngest([LINEAGE], {
    read: () => Promise.reject(new Error('not read here')),
    deadLetters: deadLettersTo(() => undefined),
    accept: async (_lineage, chunk, attempt) => accept(chunk, attempt),
    progress: async () => [],
    beginning: async () => '0',
    format: SINGLE_OBJECT_FORMAT,
    logger: SILENT,
    ...more,
  });
}

function deadLettersTo(
  take: (records: readonly OutgoingRecord[]) => void,
): IngestDependencies['deadLetters'] {
  return { send: async (_topic, records) => (take(records), []), close: async () => undefined };
}

const accepted = (chunk: RevisionChunk, throughOffset = chunk.throughOffset): AcceptAnswer => ({
  kind: 'accepted',
  acceptance: {
    throughOffset,
    accepted: chunk.revisions.length,
    redelivered: 0,
    waiting: 0,
    run: 'run',
  },
});

it('ingest asks with a new id after a refusal, and with the same one after an outage', async () => {
  const attempts: string[] = [];
  const answers: AcceptAnswer[] = [
    { kind: 'unavailable', message: 'away' },
    { kind: 'unavailable', message: 'away' },
    { kind: 'refused', type: 'TopicRecreated', message: 'offset 99 was taken before' },
    { kind: 'unavailable', message: 'away' },
  ];
  const ingest = ingestWith((_chunk, attempt) => (attempts.push(attempt), answers.shift()!));
  const partition = new FakePartition([record(0)]);
  while (answers.length > 0) await ingest.take(partition.batch());
  expect(attempts.map((attempt) => attempt === attempts[0])).toEqual([true, true, true, false]);
});

it('ingest: tells why a partition waits once for each reason, not at each try', async () => {
  const partition = new FakePartition([record(0)]);
  const told: string[] = [];
  const answers: AcceptAnswer[] = [
    { kind: 'unavailable', message: 'Temporal does not answer: connect ECONNREFUSED' },
    { kind: 'unavailable', message: 'Temporal does not answer: connect ECONNREFUSED' },
    {
      kind: 'refused',
      type: 'BufferFull',
      message: '16 revisions wait and 1 more would pass 16',
    },
    {
      kind: 'refused',
      type: 'BufferFull',
      message: '12 revisions wait and 8 more would pass 16',
    },
    {
      kind: 'unavailable',
      message: 'Temporal does not take the API key. Look at ERRATA_TEMPORAL_API_KEY',
    },
  ];
  const ingest = ingestWith(() => answers.shift()!, {
    logger: {
      ...SILENT,
      info: (fields, message) =>
        void told.push(`${message}: ${(fields as { reason?: string }).reason}`),
    },
  });
  while (answers.length > 0) await ingest.take(partition.batch());
  expect(told.filter((line) => line.startsWith('Partition paused'))).toEqual([
    'Partition paused: Temporal does not answer: connect ECONNREFUSED',
    'Partition paused: 16 revisions wait and 1 more would pass 16',
    'Partition paused: Temporal does not take the API key. Look at ERRATA_TEMPORAL_API_KEY',
  ]);
  expect(partition.pauses).toHaveLength(5);
});

it('ingest hands over records in order and in chunks, and commits afterwards', async () => {
  const partition = new FakePartition(Array.from({ length: 250 }, (_, i) => record(i)));
  const taken: number[] = [];
  const ingest = ingestWith((chunk) => {
    expect(partition.committed).toBe(BigInt(chunk.firstOffset) - 1n);
    taken.push(chunk.revisions.length);
    return accepted(chunk);
  });
  await ingest.take(partition.batch());
  expect(taken).toEqual([CHUNK_REVISIONS_MAX, CHUNK_REVISIONS_MAX, 50]);
  expect(partition.left).toBe(0);
});

it('ingest: sends what cannot be taken to the dead-letter topic before it commits', async () => {
  const partition = new FakePartition([
    record(0),
    record(1, 'garbage'),
    record(2, 'garbage'),
    record(3),
  ]);
  const dead: [bigint, number][] = [];
  const ingest = ingestWith((chunk) => accepted(chunk), {
    deadLetters: deadLettersTo((records) => dead.push([partition.committed, records.length])),
  });
  await ingest.take(partition.batch());
  expect(dead).toEqual([[0n, 2]]);
  expect(partition.left).toBe(0);
  expect(ingest.counts).toEqual({ accepted: 2, redelivered: 0, deadLetters: 2 });
});

it('ingest pauses at a refusal with growing, bounded waits, and resumes there', async () => {
  const partition = new FakePartition([record(0), record(1), record(2)]);
  let full = true;
  const seen: string[] = [];
  const ingest = ingestWith((chunk) => {
    seen.push(`${chunk.firstOffset}-${chunk.throughOffset}`);
    return full ? { kind: 'refused', type: 'BufferFull', message: 'full' } : accepted(chunk);
  });
  for (let i = 0; i < 8; i++) await ingest.take(partition.batch());
  expect(partition.pauses[0]).toBe(PAUSE_FIRST_MS);
  expect(partition.pauses.at(-1)).toBe(PAUSE_MAX_MS);
  expect(partition.committed).toBe(-1n);
  expect(Object.fromEntries(ingest.waiting)).toEqual({ [`${TOPIC}-0`]: 'full' });
  full = false;
  await ingest.take(partition.batch());
  expect(new Set(seen)).toEqual(new Set(['0-2']));
  expect(partition.left).toBe(0);
  expect(ingest.waiting.size).toBe(0);
});

// Regression: dead letters inside a refused chunk would be sent again at every try.
it('ingest: sends a dead letter once, however often the buffer after it is full', async () => {
  const partition = new FakePartition([record(0, 'garbage'), record(1)]);
  let letters = 0;
  const ingest = ingestWith(() => ({ kind: 'refused', type: 'BufferFull', message: 'full' }), {
    deadLetters: deadLettersTo((records) => (letters += records.length)),
  });
  for (let i = 0; i < 5; i++) await ingest.take(partition.batch());
  expect(letters).toBe(1);
  expect(partition.committed).toBe(0n);
});

it('ingest: waits where the dead-letter topic or Temporal is away, and loses nothing', async () => {
  const partition = new FakePartition([record(0, 'garbage'), record(1)]);
  let away = true;
  const ingest = ingestWith(
    (chunk) => (away ? { kind: 'unavailable', message: 'no answer' } : accepted(chunk)),
    {
      deadLetters: deadLettersTo(() => {
        if (away) throw new Error('no leader');
      }),
    },
  );
  await ingest.take(partition.batch());
  expect(partition.committed).toBe(-1n);
  away = false;
  await ingest.take(partition.batch());
  expect(partition.left).toBe(0);
});

it('ingest waits for an unavailable schema registry and resumes there', async () => {
  const partition = new FakePartition([record(0), record(1, 'garbage'), record(2)]);
  let away = true;
  const asked: number[] = [];
  const ingest = ingestWith((chunk) => accepted(chunk), {
    format: {
      ...SINGLE_OBJECT_FORMAT,
      decoder: async (name, values) => {
        asked.push([...values].length);
        if (away) throw new SchemaRegistryUnavailable('http://registry', 'no route', null);
        return await SINGLE_OBJECT_FORMAT.decoder(name, values);
      },
    },
  });
  await ingest.take(partition.batch());
  await ingest.take(partition.batch());
  expect(partition.pauses).toEqual([PAUSE_FIRST_MS, 2 * PAUSE_FIRST_MS]);
  expect(ingest.waiting.get(`${TOPIC}-0`)).toMatch(/registry at http:\/\/registry gives no answer/);
  expect([partition.committed, ingest.counts.deadLetters]).toEqual([-1n, 0]);
  away = false;
  await ingest.take(partition.batch());
  expect([partition.left, ingest.counts]).toEqual([
    0,
    expect.objectContaining({ accepted: 2, deadLetters: 1 }),
  ]);
  expect(asked).toEqual([3, 3, 3, 2, 1]);
});

// Regression: the answer to a chunk that is sent again is the first one's, and more records may
// have come since.
it('ingest: commits only as far as the answer reaches', async () => {
  const partition = new FakePartition([record(0), record(1), record(2)]);
  const chunks: string[] = [];
  const ingest = ingestWith((chunk) => {
    chunks.push(`${chunk.firstOffset}-${chunk.throughOffset}`);
    return accepted(chunk, chunk.firstOffset === '0' ? '1' : chunk.throughOffset);
  });
  await ingest.take(partition.batch());
  expect(chunks).toEqual(['0-2', '2-2']);
  expect(partition.left).toBe(0);
});

it('ingest: takes no more of a partition that has moved', async () => {
  const partition = new FakePartition(Array.from({ length: 150 }, (_, i) => record(i)));
  let mine = true;
  const ingest = ingestWith((chunk) => ((mine = false), accepted(chunk)));
  await ingest.take({ ...partition.batch(), mine: () => mine });
  expect(partition.committed).toBe(99n);
});

// Regression: what a reset or a termination takes from a workflow was committed in Kafka, and so it
// was lost.
const settings = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, bufferEditsMax: 1_000 },
};
const stateFrom = (carried: Carried | null) =>
  new LineageState({ lineage: LINEAGE, settings, carried: structuredClone(carried) });

it('hands it every record again, in order, and no dead letter twice', async () => {
  const kinds = fc.array(fc.constantFrom<'sound' | 'garbage'>('sound', 'garbage'), {
    minLength: 1,
    maxLength: 24,
  });
  const happenings = fc.array(
    fc.oneof(
      fc.constant('look back' as const),
      fc.constant('start anew' as const),
      fc.constant('on its way' as const),
      fc.record({ arrive: fc.integer({ min: 1, max: 8 }) }),
      fc.record({ forget: fc.nat(6) }),
    ),
    { maxLength: 24 },
  );
  await fc.assert(
    fc.asyncProperty(kinds, happenings, async (all, steps) => {
      const records = all.map((kind, i) => record(2 * i, kind));
      const partition = new FakePartition([]);
      let state = stateFrom(null);
      const earlier = [structuredClone(state.carried().carried)];
      const buried: string[] = [];
      const accept = (chunk: RevisionChunk): AcceptAnswer => {
        const refusal = state.refusalOf(chunk, 'run');
        if (refusal !== null)
          return refusal.throughOffset === undefined
            ? { kind: 'refused', ...refusal }
            : { kind: 'behind', throughOffset: refusal.throughOffset };
        const acceptance = { ...state.accept(chunk, 0), run: 'run' };
        earlier.push(structuredClone(state.carried().carried));
        return { kind: 'accepted', acceptance };
      };
      const newIngest = () =>
        ingestWith(accept, {
          deadLetters: deadLettersTo((letters) =>
            buried.push(
              ...letters.map(({ headers }) => String(headers!['__connect.errors.offset'])),
            ),
          ),
          progress: async () => [
            {
              partition: 0,
              beginning: '0',
              committed: partition.committed < 0n ? null : String(partition.committed + 1n),
              throughOffset: state.status().highWater[`${TOPIC}-0`] ?? '-1',
            },
          ],
        });
      let ingest = newIngest();
      const lookBack = () =>
        ingest.lookBack({
          owns: () => true,
          seek: ({ offset }) => partition.batch().seek(offset),
        });
      const read = async () => {
        // Each take may end with a seek; the next one reads from there.
        for (let takes = 0; partition.left > 0; takes++) {
          if (takes > 5) throw new Error('it reads in a circle');
          await ingest.take(partition.batch());
        }
      };
      for (const step of steps) {
        if (step === 'look back') await lookBack();
        else if (step === 'on its way') {
          // A batch that was fetched before another place was sought, and is handed out after it.
          const fetched = partition.batch();
          await lookBack();
          if (fetched.records.length > 0)
            await ingest.take({
              ...fetched,
              done: async (through) => (
                (partition.committed = BigInt(through)),
                void (partition.position = BigInt(through) + 1n)
              ),
            });
        } else if (step === 'start anew') {
          ingest = newIngest();
          partition.position = partition.committed + 1n;
        } else if ('arrive' in step) {
          partition.log.push(
            ...records.slice(partition.log.length, partition.log.length + step.arrive),
          );
          if (step.arrive % 2 === 0) await read();
        } else state = stateFrom(earlier.at(-1 - (step.forget % earlier.length))!);
      }
      partition.log.push(...records.slice(partition.log.length));
      await lookBack();
      await read();
      const taken = () =>
        state.carried().carried.waiting.map(({ revision }) => revision.position.offset);
      const due = records.filter((_, i) => all[i] === 'sound').map(({ offset }) => offset);
      expect(taken()).toEqual(due);
      // Where nothing new comes, it is the look back that finds out.
      state = stateFrom(earlier[0]!);
      await lookBack();
      await read();
      expect(taken()).toEqual(due);
      expect(buried).toEqual([
        ...new Set(records.filter((_, i) => all[i] === 'garbage').map(({ offset }) => offset)),
      ]);
      const before = partition.committed;
      await lookBack();
      await read();
      await lookBack();
      expect(partition.committed).toBe(before);
    }),
  );
});

it('what was fetched before ingest went back does not pass for what it went back to', async () => {
  const partition = new FakePartition([record(0), record(1)]);
  let state = new LineageState({
    lineage: LINEAGE,
    settings: DEFAULT_LINEAGE_SETTINGS,
    carried: null,
  });
  const accept = (chunk: RevisionChunk): AcceptAnswer => {
    const refusal = state.refusalOf(chunk, 'run');
    return refusal === null
      ? { kind: 'accepted', acceptance: { ...state.accept(chunk, 0), run: 'run' } }
      : { kind: 'behind', throughOffset: refusal.throughOffset! };
  };
  const ingest = ingestWith(accept, {
    progress: async () => [{ partition: 0, beginning: '0', committed: '2', throughOffset: '-1' }],
  });
  await ingest.take(partition.batch());
  partition.log.push(record(2), record(3));
  const fetched = partition.batch();
  state = new LineageState({ lineage: LINEAGE, settings: DEFAULT_LINEAGE_SETTINGS, carried: null });
  await ingest.lookBack({ owns: () => true, seek: ({ offset }) => partition.batch().seek(offset) });
  await ingest.take({
    ...fetched,
    done: async (through) => void (partition.position = BigInt(through) + 1n),
  });
  for (let takes = 0; takes < 3 && partition.left > 0; takes++)
    await ingest.take(partition.batch());
  expect(state.carried().carried.waiting.map(({ revision }) => revision.position.offset)).toEqual([
    '0',
    '1',
    '2',
    '3',
  ]);
});

it('what Kafka no longer has is not waited for', async () => {
  const partition = new FakePartition([record(5), record(6)]);
  partition.position = 5n;
  const state = new LineageState({
    lineage: LINEAGE,
    settings: DEFAULT_LINEAGE_SETTINGS,
    carried: null,
  });
  const ingest = ingestWith(
    (chunk) => {
      const refusal = state.refusalOf(chunk, 'run');
      return refusal === null
        ? { kind: 'accepted', acceptance: { ...state.accept(chunk, 0), run: 'run' } }
        : { kind: 'behind', throughOffset: refusal.throughOffset! };
    },
    { beginning: async () => '5' },
  );
  for (let takes = 0; takes < 3 && partition.left > 0; takes++)
    await ingest.take(partition.batch());
  expect(state.carried().carried.waiting.map(({ revision }) => revision.position.offset)).toEqual([
    '5',
    '6',
  ]);
});

const read = (item: ConsumedRecord) => readRecord(item, LINEAGE, codec);

it('pieces are of one kind, have at least one record, and add up to all', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom<'sound' | 'garbage'>('sound', 'garbage'), {
        minLength: 1,
        maxLength: 30,
      }),
      (kinds) => {
        let records = kinds.map((kind, i) => record(i * 3, kind));
        const offsets: string[] = [];
        while (records.length > 0) {
          const piece = nextPiece(records, '1000', read);
          const [through, of] =
            piece.kind === 'dead'
              ? [piece.throughOffset, piece.letters.map(({ record: { offset } }) => offset)]
              : [
                  piece.chunk.throughOffset,
                  piece.chunk.revisions.map(({ position }) => position.offset),
                ];
          expect(of.at(-1)).toBe(through);
          offsets.push(...of);
          records = records.filter(({ offset }) => BigInt(offset) > BigInt(through));
        }
        expect(offsets).toEqual(kinds.map((_, i) => String(i * 3)));
      },
    ),
  );
});

it('a piece stays within the chunk limit although JSON makes records six times as long', () => {
  const long = 'Subject \u0001'.padEnd(CORRECTION_LIMITS.promptCharactersMax, '\u0001');
  const heavy = (offset: number): ConsumedRecord =>
    record(offset, 'sound', {
      value: codec.encode(
        factCorrection(`c${offset}`, {
          subject: 'Subject',
          prompt: long,
          paraphrases: Array.from({ length: 10 }, () => long),
        }),
      ),
    });
  const piece = nextPiece(
    Array.from({ length: 10 }, (_, i) => heavy(i)),
    '1000',
    read,
  );
  if (piece.kind !== 'revisions') throw new Error('not sound');
  expect(piece.chunk.revisions.length).toBeGreaterThan(1);
  expect(piece.chunk.revisions.length).toBeLessThan(10);
  expect(jsonBytes(piece.chunk)).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
});

it('a piece of the heaviest possible record is within the chunk limit', () => {
  const one = '\u0001'.repeat(CORRECTION_LIMITS.promptCharactersMax - 1);
  const heaviest = factCorrection('c', {
    subject: 'S',
    prompt: `S${one}`,
    paraphrases: Array.from({ length: 16 }, () => one),
    neighbourhood: Array.from({ length: 15 }, () => one),
  });
  const value = codec.encode(heaviest);
  expect(value.length).toBeLessThanOrEqual(CORRECTION_LIMITS.recordBytesMax);
  const piece = nextPiece([record(0, 'sound', { value })], '1000', read);
  expect(piece.kind === 'revisions' && jsonBytes(piece.chunk)).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
});
