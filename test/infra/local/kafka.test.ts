import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stopEmbeddedKafka } from '../../../infra/local/kafka.ts';
import { isFree, runningServer } from '../../../infra/local/server-process.ts';
import { listeningOn } from '../../harness/servers/listening.ts';
import { startTestKafka } from '../../harness/servers/local.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-kafka-'));
});

afterAll(async () => {
  await stopEmbeddedKafka(path.join(folder, 'kafka'));
  rmSync(folder, { recursive: true, force: true });
});

function clientOf(brokers: readonly string[]): Kafka {
  return new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
}

async function topicEnd(brokers: readonly string[]): Promise<string | undefined> {
  const admin = clientOf(brokers).admin();
  await admin.connect();
  try {
    return (await admin.fetchTopicOffsets('facts'))[0]?.high;
  } finally {
    await admin.disconnect();
  }
}

test('records survive kill -9 and a clean stop, and a running broker is found again', async () => {
  const first = await startTestKafka(folder);
  expect(first.found).toBe(false);
  const admin = clientOf(first.brokers).admin();
  await admin.connect();
  await admin.createTopics({
    topics: [{ topic: 'facts', numPartitions: 1 }],
    waitForLeaders: true,
  });
  await admin.disconnect();
  const producer = clientOf(first.brokers).producer({ idempotent: true });
  await producer.connect();
  await producer.send({
    topic: 'facts',
    acks: -1,
    messages: Array.from({ length: 50 }, (_, i) => ({ value: `fact ${i}` })),
  });
  await producer.disconnect();

  // Only this machine reaches the broker and the controller.
  const addresses = listeningOn(first.pid);
  expect(addresses).toContain(first.brokers[0]);
  expect(addresses.filter((address) => !address.startsWith('127.'))).toEqual([]);

  const again = await startTestKafka(folder);
  expect(again).toMatchObject({ found: true, pid: first.pid, brokers: first.brokers });

  process.kill(first.pid, 'SIGKILL');
  const second = await startTestKafka(folder);
  expect(second.found).toBe(false);
  expect(second.pid).not.toBe(first.pid);
  expect(second.brokers).toEqual(first.brokers);
  expect(await topicEnd(second.brokers)).toBe('50');

  await second.stop();
  expect(runningServer(path.join(folder, 'kafka'))).toBeUndefined();
  expect(await isFree(Number(second.brokers[0]?.split(':')[1]))).toBe(true);

  const third = await startTestKafka(folder);
  expect(await topicEnd(third.brokers)).toBe('50');
});
