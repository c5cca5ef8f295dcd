import { expect, it } from 'vitest';
import {
  PAUSE_FIRST_MS,
  PAUSE_MAX_MS,
  type AcceptAnswer,
} from '../../../pipelines/ingest/ingest.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { CHUNK_REVISIONS_MAX } from '../../../pipelines/workflows/contract.ts';
import { SchemaRegistryUnavailable } from '../../../schemas/failures.ts';
import { TOPIC } from '../../harness/corrections.ts';

import {
  SILENT,
  record,
  FakePartition,
  ingestWith,
  deadLettersTo,
  accepted,
} from './fake-partition.ts';

it('ingest uses a new id after a refusal, and the same one after an outage', async () => {
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

it('ingest logs each reason for a wait once, not at every try', async () => {
  const partition = new FakePartition([record(0)]);
  const lines: string[] = [];
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
        void lines.push(`${message}: ${(fields as { reason?: string }).reason}`),
    },
  });
  while (answers.length > 0) await ingest.take(partition.batch());
  expect(lines.filter((line) => line.startsWith('Partition paused'))).toEqual([
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

it('ingest sends unacceptable records to the dead-letter topic before it commits', async () => {
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
it('ingest sends a dead letter once, however often the next buffer is full', async () => {
  const partition = new FakePartition([record(0, 'garbage'), record(1)]);
  let letters = 0;
  const ingest = ingestWith(() => ({ kind: 'refused', type: 'BufferFull', message: 'full' }), {
    deadLetters: deadLettersTo((records) => (letters += records.length)),
  });
  for (let i = 0; i < 5; i++) await ingest.take(partition.batch());
  expect(letters).toBe(1);
  expect(partition.committed).toBe(0n);
});

it('ingest waits while the dead-letter topic or Temporal is down, and loses nothing', async () => {
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
  const counts: number[] = [];
  const ingest = ingestWith((chunk) => accepted(chunk), {
    format: {
      ...SINGLE_OBJECT_FORMAT,
      decoder: async (name, values) => {
        counts.push([...values].length);
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
  expect(counts).toEqual([3, 3, 3, 2, 1]);
});

// Regression: the answer to a resent chunk is the first one's, and more records may have arrived
// since.
it('ingest commits only up to the offset in the answer', async () => {
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

it('ingest accepts no more records of a partition that has moved', async () => {
  const partition = new FakePartition(Array.from({ length: 150 }, (_, i) => record(i)));
  let mine = true;
  const ingest = ingestWith((chunk) => ((mine = false), accepted(chunk)));
  await ingest.take({ ...partition.batch(), mine: () => mine });
  expect(partition.committed).toBe(99n);
});
