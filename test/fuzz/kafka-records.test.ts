/**
 * Records from any producer on a real broker: ingest continues, and the dead-letter topic keeps the
 * exact bytes.
 */
import {
  CompressionCodecs,
  CompressionTypes,
  Kafka,
  logLevel,
  type KafkaMessage,
  type Producer,
} from 'kafkajs';
import { randomBytes } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { startIngest, type Ingest } from '../../pipelines/ingest/ingest.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { INGEST_GROUP, topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import { CORRECTION_LIMITS } from '../../schemas/correction.ts';
import { afterwards, testFolder } from '../harness/clean-up.ts';
import { factCorrection } from '../harness/corrections.ts';
import { startTestKafka } from '../harness/servers/local.ts';
import { SILENT } from '../harness/silent-logger.ts';

const LINEAGE = 'odd';
const TOPICS = topicsOf(LINEAGE);
const folder = testFolder();

let cluster: KafkaCluster;
let producer: Producer;
let ingest: Ingest;
const accepted: string[] = [];
const letters: KafkaMessage[] = [];
let heard: () => void = () => undefined;

beforeAll(async () => {
  const brokers = [...(await startTestKafka(folder)).brokers];
  cluster = new KafkaCluster({ brokers, clientId: 'test', tls: null, sasl: null }, SILENT);
  await cluster.ensureTopics(topicSpecifications(LINEAGE, { partitions: 1, replicationFactor: 1 }));
  const sender = await cluster.sender();
  afterwards(() => sender.close());
  const kafka = new Kafka({ brokers, logLevel: logLevel.NOTHING });
  // The client's own partitioner takes a minute for a key of a megabyte.
  producer = kafka.producer({ createPartitioner: () => () => 0 });
  await producer.connect();
  afterwards(() => producer.disconnect());
  const consumer = kafka.consumer({ groupId: 'letters', maxWaitTimeInMs: 100 });
  await consumer.connect();
  afterwards(() => consumer.disconnect());
  await consumer.subscribe({ topics: [TOPICS.deadLetters], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      letters.push(message);
      heard();
    },
  });
  ingest = await startIngest([LINEAGE], {
    read: (read, onBatch) => cluster.read(INGEST_GROUP, read, onBatch),
    progress: async () => [],
    beginning: async () => '0',
    deadLetters: sender,
    async accept(_, chunk) {
      accepted.push(
        ...chunk.revisions.map((revision) =>
          revision.kind === 'correction' ? revision.correction.id : revision.factKey,
        ),
      );
      heard();
      const { throughOffset, revisions } = chunk;
      const counts = { accepted: revisions.length, redelivered: 0, waiting: 0 };
      return { kind: 'accepted', acceptance: { throughOffset, ...counts, run: 'run' } };
    },
    logger: SILENT,
    format: SINGLE_OBJECT_FORMAT,
  });
  afterwards(() => ingest.stop());
});

/** Sends a sound correction behind the odd record: once it is taken, so is everything before it. */
async function sendAndWait(
  id: string,
  messages: Parameters<Producer['send']>[0]['messages'],
  compression = CompressionTypes.None,
): Promise<void> {
  const value = recordCodec('fact-correction').encode(factCorrection(id, { lineage: LINEAGE }));
  const all = [...messages, { key: null, value }];
  await producer.send({ topic: TOPICS.corrections, messages: all, compression });
  const [wanted, gone] = [letters.length + messages.length, ingest.ended.then(() => true)];
  while (letters.length < wanted || !accepted.includes(id)) {
    const woken = new Promise<false>((resolve) => (heard = () => resolve(false)));
    if (letters.length >= wanted && accepted.includes(id)) break;
    if (await Promise.race([woken, gone])) throw await ingest.ended;
  }
}

/** The headers except those that name the origin. */
function brought({ headers }: KafkaMessage): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).filter(([name]) => !name.startsWith('__connect.errors.')),
  );
}

it("a dead letter keeps its record's key, value and headers byte for byte", async () => {
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const odd = [
    { key: everyByte, value: everyByte, headers: { trace: everyByte } },
    {
      key: null,
      value: Buffer.from('{}'),
      headers: { several: [everyByte, Buffer.from('second'), everyByte] },
    },
    {
      key: Buffer.alloc(0),
      value: Buffer.alloc(0),
      headers: { '': Buffer.alloc(0), 'ünïcode \u{1F600}': Buffer.from('x') },
    },
    { key: null, value: null, headers: { tombstone: 'without a key' } },
    { key: 'k', value: Buffer.alloc(CORRECTION_LIMITS.recordBytesMax + 1, 7), headers: {} },
  ];
  const before = letters.length;
  await sendAndWait('after the odd', odd);
  odd.forEach(({ key, value, headers }, i) => {
    const letter = letters[before + i]!;
    expect(letter.key).toEqual(typeof key === 'string' ? Buffer.from(key) : key);
    expect(value === null ? letter.value === null : value.equals(letter.value!)).toBe(true);
    expect(Object.keys(brought(letter)).sort()).toEqual(Object.keys(headers).sort());
    for (const [name, given] of Object.entries(headers) as [string, Buffer | string | Buffer[]][]) {
      const parts = [given].flat().map((part) => Buffer.from(part));
      expect([brought(letter)[name]].flat()).toEqual(parts);
    }
  });
});

it('a dead letter keeps headers named like inherited members', async () => {
  const names = ['constructor', '__proto__', 'toString', 'hasOwnProperty'];
  const before = letters.length;
  const headers = Object.fromEntries(names.map((name) => [name, Buffer.from(name)]));
  await sendAndWait('after the inherited', [{ key: null, value: 'x', headers }]);
  const found = letters[before]!.headers as Record<string, unknown>;
  // The reading client puts an inherited value before such a value.
  for (const name of names) expect([found[name]].flat().at(-1), name).toEqual(Buffer.from(name));
});

it('a dead letter has an empty header for a header without a value', async () => {
  const before = letters.length;
  const headers = { nothing: withoutValue() };
  await sendAndWait('after the null', [{ key: null, value: 'x', headers }]);
  expect(brought(letters[before]!)).toEqual({ nothing: Buffer.alloc(0) });
});

it('a dead letter that is resubmitted and dies again has both origins', async () => {
  const before = letters.length;
  await sendAndWait('after the dead', [{ key: null, value: 'x' }]);
  const headers = letters[before]!.headers as Record<string, Buffer>;
  await sendAndWait('after the dead again', [{ key: null, value: 'x', headers }]);
  expect([letters[before + 1]!.headers!['__connect.errors.offset']].flat()).toHaveLength(2);
});

// Together the keys exceed a request's limit, and each one determines its partition.
it('dead letters have keys as large as the corrections topic allows', async () => {
  const before = letters.length;
  const large = Array.from({ length: 4 }, () => ({ key: randomBytes(900_000), value: 'x' }));
  for (const one of large) await producer.send({ topic: TOPICS.corrections, messages: [one] });
  await sendAndWait('after the large', []);
  while (letters.length < before + 4) await new Promise<void>((resolve) => (heard = resolve));
  large.forEach(({ key }, i) => expect(letters[before + i]!.key!.equals(key)).toBe(true));
});

it('an unreadable compression does not stop ingest: it is converted', async () => {
  const { Snappy } = CompressionTypes;
  const unreadable = CompressionCodecs[Snappy];
  afterwards(() => (CompressionCodecs[Snappy] = unreadable));
  CompressionCodecs[Snappy] = () => ({
    compress: async (encoder: { buffer: Buffer }) => snappy(encoder.buffer),
    decompress: () => Promise.reject(new Error('it was read as it was written')),
  });
  const record = { key: 'k', value: 'not a record', headers: { trace: 'a' } };
  await sendAndWait('after the compressed', [record], Snappy);
});

/**
 * The bytes as one literal in the frame of Java's library (Snappy format description, section 2.1;
 * xerial).
 */
function snappy(bytes: Buffer): Buffer {
  const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest >= 0x80 ? (rest & 0x7f) | 0x80 : rest);
    if (rest < 0x80) break;
  }
  // The literal's length less one is in the next four bytes.
  const tag = Buffer.alloc(5);
  tag[0] = 63 << 2;
  tag.writeUInt32LE(bytes.length - 1, 1);
  const block = Buffer.concat([Buffer.from(length), tag, bytes]);
  const size = Buffer.alloc(4);
  size.writeInt32BE(block.length);
  return Buffer.concat([head, size, block]);
}

/**
 * A value that kafkajs will not write although the protocol allows it: it measures a header's value
 * before it checks for null. An empty value has the same length, so the first access returns that.
 */
function withoutValue(): Buffer[] {
  let looks = 0;
  const values = [Buffer.alloc(0)];
  const value = { get: () => (looks++ === 0 ? Buffer.alloc(0) : null) };
  const header = Object.defineProperty({ key: 'nothing' }, 'value', value);
  return Object.assign(values, { map: () => [header] });
}
