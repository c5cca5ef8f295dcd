import fc from 'fast-check';
import { expect, it } from 'vitest';
import { nextPiece } from '../../../pipelines/ingest/ingest-chunk.ts';
import { readRecord } from '../../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord } from '../../../pipelines/kafka/records.ts';
import { CHUNK_BYTES_MAX } from '../../../pipelines/workflows/contract.ts';
import { jsonBytes } from '../../../pipelines/workflows/contract.ts';
import { CORRECTION_LIMITS } from '../../../schemas/correction.ts';
import { factCorrection, LINEAGE } from '../../harness/corrections.ts';

import { codec, record } from './fake-partition.ts';

const read = (item: ConsumedRecord) => readRecord(item, LINEAGE, codec);

it('pieces are of one kind, are not empty, and add up to the whole', () => {
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

it('a piece stays within the chunk limit even if JSON makes records six times as long', () => {
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
