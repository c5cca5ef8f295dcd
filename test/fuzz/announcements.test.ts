/** Records on the announcement topics are reported by kind, or as unreadable; nothing throws. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { outcomeText } from '../../cli/commands/corrections/show-outcomes.ts';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import type { ConsumedRecord, RecordHeaders } from '../../pipelines/kafka/records.ts';
import { type LineageEvent, tail } from '../../pipelines/kafka/tail.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { always, damaged, oddText } from '../harness/odd-inputs.ts';

/** Colour codes around a text. */
const COLOURS = /^\p{Cc}\[\d+m|\p{Cc}\[\d+m$/gu;
const LINEAGE = 'told';
const topics = topicsOf(LINEAGE);
const outcome = new Uint8Array(
  recordCodec('correction-outcome').encode({
    lineage: LINEAGE,
    revisionId: 'c',
    factKey: 'a|b',
    status: 'COMMITTED',
    version: 1,
    reason: 'x',
    measured: { loss: 0.5, code: 'x' },
    position: { topic: topics.corrections, partition: 1, offset: '9' },
    batchId: 'b',
    decidedAt: 5,
  }),
);
const version = new Uint8Array(
  recordCodec('hook-version').encode({
    lineage: LINEAGE,
    version: 2,
    hash: 'h',
    parent: null,
    batchId: 'b',
    added: 1,
    removed: 0,
    corrections: 1,
    createdAt: 7,
  }),
);

const value = fc.oneof(
  fc.constant(null),
  damaged(fc.constantFrom(outcome, version)).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(Buffer.from(outcome), Buffer.from(version)),
);
const place = fc.oneof(oddText, fc.nat().map(String));
const headers: fc.Arbitrary<RecordHeaders> = fc.dictionary(
  fc
    .constantFrom('topic', 'partition', 'offset', 'exception.message', 'exception.class.name')
    .map((name) => `__connect.errors.${name}`),
  fc.oneof(
    place,
    place.map((text) => Buffer.from(text)),
    fc.constant(null),
    fc.array(place),
  ),
  { noNullPrototype: true },
);

/** A record of any topic as its followers receive it. */
const record: fc.Arbitrary<ConsumedRecord> = fc.record({
  topic: fc.constantFrom(topics.outcomes, topics.versions, topics.deadLetters),
  partition: fc.nat(9),
  offset: fc.nat().map(String),
  timestamp: fc.integer(),
  key: fc.oneof(
    fc.constant(null),
    oddText.map((key) => Buffer.from(key)),
  ),
  value,
  headers,
});

describe('an announcement', () => {
  it('with any bytes is reported by its kind, and can be shown', async () => {
    let hear: ((records: ConsumedRecord[]) => unknown) | undefined;
    const cluster = {
      follow: async (_: unknown, __: unknown, onRecords: typeof hear) => ((hear = onRecords), {}),
    } as unknown as KafkaCluster;
    const told: LineageEvent[] = [];
    await tail(
      cluster,
      [LINEAGE],
      { from: 'end', deadLetters: true, format: SINGLE_OBJECT_FORMAT },
      (announcement) => told.push(announcement),
    );
    await always(600, record, async (one) => {
      told.length = 0;
      await hear!([one]);
      expect(told).toHaveLength(one.value === null && one.topic !== topics.deadLetters ? 0 : 1);
      for (const announcement of told) {
        if (announcement.kind === 'dead-letter') {
          expect(Number.isSafeInteger(announcement.origin.partition)).toBe(true);
          expect(announcement.origin.offset).toMatch(/^\d{1,19}$/);
        }
        if (announcement.kind === 'outcome' || announcement.kind === 'dead-letter')
          expect(outcomeText(announcement).replace(COLOURS, '')).not.toMatch(/\p{Cc}/u);
      }
    });
  });
});
