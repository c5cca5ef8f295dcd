import { describe, expect, it } from 'vitest';
import type { KafkaCluster } from '../../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord, RecordReader } from '../../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT } from '../../../pipelines/kafka/record-format.ts';
import { tail, type LineageEvent } from '../../../pipelines/kafka/tail.ts';
import { topicsOf } from '../../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import { SchemaRegistryUnavailable } from '../../../schemas/failures.ts';

const { versions } = topicsOf('l');
const version = {
  lineage: 'l',
  version: 1,
  hash: '',
  parent: null,
  batchId: '',
  added: 1,
  removed: 0,
  corrections: 1,
  createdAt: 0,
};

function record(value: Buffer): ConsumedRecord {
  return {
    topic: versions,
    partition: 0,
    offset: '0',
    timestamp: 0,
    key: null,
    value,
    headers: {},
  };
}

describe('announcements', () => {
  it('wait for an unavailable schema registry, report it once, and miss nothing', async () => {
    let away = true;
    let hand: ((records: ConsumedRecord[]) => Promise<void | 'again'> | void) | null = null;
    const cluster: Pick<KafkaCluster, 'follow'> = {
      follow: async (_topics, _from, onRecords) => {
        hand = onRecords;
        return {} as RecordReader;
      },
    };
    const heard: LineageEvent[] = [];
    const waits: string[] = [];
    const format = {
      ...SINGLE_OBJECT_FORMAT,
      decoder: ((name, values) =>
        away
          ? Promise.reject(new SchemaRegistryUnavailable('http://registry', 'no route', null))
          : SINGLE_OBJECT_FORMAT.decoder(name, values)) as typeof SINGLE_OBJECT_FORMAT.decoder,
    };
    await tail(
      cluster as KafkaCluster,
      ['l'],
      { from: 'end', format, onWait: (reason) => waits.push(reason) },
      (announcement) => heard.push(announcement),
    );
    const records = [
      record(recordCodec('hook-version').encode(version)),
      record(Buffer.from('not ours')),
    ];
    expect([await hand!(records), await hand!(records), heard.length, waits.length]).toEqual([
      'again',
      'again',
      0,
      1,
    ]);
    away = false;
    expect(await hand!(records)).toBeUndefined();
    expect(heard).toEqual([
      { kind: 'version', lineage: 'l', version },
      expect.objectContaining({ kind: 'unreadable', topic: versions }),
    ]);
    away = true;
    expect([await hand!(records), waits.length]).toEqual(['again', 2]);
  });
});
