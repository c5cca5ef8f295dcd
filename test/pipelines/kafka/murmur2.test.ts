import fc from 'fast-check';
import { Partitioners } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { murmur2, partitionOf } from '../../../pipelines/kafka/murmur2.ts';

describe("a key's partition", () => {
  // The values are from Kafka's own UtilsTest.
  it.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])("hashes %s as Java's producer does", (key, hash) => {
    expect(murmur2(Buffer.from(key))).toBe(hash);
  });

  it("equals kafkajs's, which is Java's, for any key", () => {
    const choose = Partitioners.DefaultPartitioner();
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 100 }),
        fc.integer({ min: 1, max: 50 }),
        (key, partitions) => {
          const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
            partitionErrorCode: 0,
            partitionId,
            leader: 0,
            replicas: [],
            isr: [],
          }));
          expect(partitionOf(key, partitions)).toBe(
            choose({
              topic: 't',
              partitionMetadata,
              message: { key: Buffer.from(key), value: null },
            }),
          );
        },
      ),
    );
  });
});
