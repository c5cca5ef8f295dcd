/**
 * The stream with a schema registry: a real broker, a real Temporal server and a real registry,
 * with the processes of ingest and of the workflows as they are in production; only the edit worker
 * has an engine without a model.
 */
import avsc from 'avsc';
import { beforeAll, expect, test } from 'vitest';
import type { RecordPosition } from '../../pipelines/kafka/records.ts';
import {
  registryFormat,
  SINGLE_OBJECT_FORMAT,
  subjectOf,
} from '../../pipelines/kafka/record-format.ts';
import { SchemaRegistry } from '../../pipelines/kafka/schema-registry.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import {
  schemaOf,
  type AvroComplexSchema,
  type AvroSchema,
} from '../../schemas/records/released-schemas.ts';
import { confluentHead, schemaIdOf } from '../../schemas/records/confluent-framing.ts';
import { factCorrection } from '../harness/corrections.ts';
import type { OurProcess } from '../harness/our-process.ts';
import {
  REGISTRY_SETUP_WAIT_MS,
  startTestRegistry,
  type TestRegistry,
} from '../harness/servers/apicurio.ts';
import { TestSystem } from '../harness/test-system.ts';
import { until } from '../harness/until.ts';

const LINEAGE = 'registered';
const OTHER_LINEAGE = 'taken';
const { corrections: topic, ...announcing } = topicsOf(LINEAGE);
const COMMITTED: unknown = [expect.stringMatching(/^COMMITTED \d+$/)];
// Most of this time is for starts of processes, on a loaded machine.
const TIMEOUT = { timeout: 300_000 };

let system: TestSystem;
let registry: TestRegistry;
let client: SchemaRegistry;
let ingest: OurProcess;
let workflows: OurProcess;

beforeAll(async () => {
  system = await TestSystem.start({
    lineages: [LINEAGE],
    settings: () => ({ ERRATA_BATCH_EDITS_MAX: '8' }),
    format: async ({ folder }) => {
      registry = await startTestRegistry(folder);
      client = new SchemaRegistry({ url: registry.url, credentials: null });
      return registryFormat(client);
    },
  });
  system.environment['ERRATA_SCHEMA_REGISTRY_URL'] = registry.url;
  ingest = system.process('ingest');
  workflows = system.process('workflow-worker');
  await system.startEditWorker();
  await workflows.start();
  await ingest.start();
}, REGISTRY_SETUP_WAIT_MS);

const corrections = (prefix: string, count: number): FactCorrection[] =>
  Array.from({ length: count }, (_, i) => factCorrection(`${prefix}${i}`, { lineage: LINEAGE }));

/** Sends corrections as another program does, with a schema of its own. */
async function submitAs(
  id: number,
  schema: AvroSchema,
  items: (FactCorrection & Record<string, unknown>)[],
): Promise<RecordPosition[]> {
  const type = avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions: false });
  const records = items.map((item) => ({
    key: factKeyOf(item),
    value: Buffer.concat([confluentHead(id), type.toBuffer(item)]),
  }));
  return await system.sender.send(topic, records);
}

const withField = (name: string): AvroSchema => {
  const schema = schemaOf('fact-correction') as AvroComplexSchema;
  const field = { name, type: 'string', default: '' } as { name: string; type: AvroSchema };
  return { ...schema, fields: [...schema.fields!, field] };
};

test('records of older, newer and single-object writers are read', TIMEOUT, async () => {
  const ours = await system.submit(corrections('a', 8));
  const single = await system.submit(corrections('s', 3), { format: SINGLE_OBJECT_FORMAT });
  const newer = await client.register(subjectOf(topic), withField('reviewer'));
  const reviewed = corrections('n', 4).map((item) => ({ ...item, reviewer: 'Ada' }));
  const theirs = await submitAs(newer, withField('reviewer'), reviewed);
  await system.outcomes.untilRecords(15);
  for (const position of [...ours, ...single, ...theirs])
    expect(system.outcomes.of(position)).toEqual(COMMITTED);
});

test.each([
  [announcing.outcomes, 'correction-outcome'],
  [announcing.versions, 'hook-version'],
] as const)("records on %s have the registry's wire format", async (name, schema) => {
  const ids = new Set<number | null>();
  const reader = await system.kafka.follow([name], 'beginning', (records) =>
    records.forEach(({ value }) => ids.add(schemaIdOf(value!))),
  );
  await until(() => ids.size > 0);
  await reader.stop();
  expect([...ids]).toEqual([await client.register(subjectOf(name), schemaOf(schema))]);
});

test('a record that cannot be read is a dead letter with the reason', TIMEOUT, async () => {
  const [first] = corrections('d', 1);
  const weather: AvroSchema = {
    type: 'record',
    name: 'Weather',
    fields: [{ name: 'id', type: 'string' }],
  };
  const weatherId = await client.register(subjectOf('weather'), weather);
  const before = system.outcomes.records;
  const [unregistered] = await submitAs(2_000_000_000, schemaOf('fact-correction'), [
    { ...first! },
  ]);
  const [foreign] = await submitAs(weatherId, weather, [{ ...first!, id: 'rain' }]);
  const [cut] = await system.sender.send(topic, [{ key: 'k', value: Buffer.from([0, 0, 0]) }]);
  await system.outcomes.untilRecords(before + 3);
  for (const [position, reason] of [
    [unregistered!, /^the writer's schema 2000000000 is not known to the registry$/],
    [foreign!, /cannot be resolved/],
    [cut!, /ends in the schema's id, after 3 bytes/],
  ] as const) {
    expect(system.outcomes.of(position)).toEqual(['DEAD UndecodableRecord']);
    expect(system.outcomes.letterOf(position)).toMatch(reason);
  }
});

test('a process whose schema the registry refuses does not start', TIMEOUT, async () => {
  const subject = subjectOf(topicsOf(OTHER_LINEAGE).outcomes);
  await client.register(subject, {
    type: 'record',
    name: 'CorrectionOutcome',
    namespace: 'errata',
    fields: [{ name: 'somethingElse', type: 'string' }],
  });
  const refused = system.process('workflow-worker', { ERRATA_LINEAGES: OTHER_LINEAGE });
  const reason = `the schema registry refuses the schema of ${subject}: 409`;
  await expect(refused.start()).rejects.toThrow(
    new RegExp(`ended \\(1\\) before it was ready.*refused: ${reason}`, 's'),
  );
});

test('while the registry is away, unknown schemas wait and known ones flow', TIMEOUT, async () => {
  const { outcomes } = system;
  const late = await client.register(subjectOf(topic), withField('remark'));
  const { records, deadLetters } = outcomes;
  process.kill(registry.pid, 'SIGKILL');
  const known = await system.submit(corrections('k', 6));
  await outcomes.untilRecords(records + 6);
  const remarked = corrections('u', 6).map((item) => ({ ...item, remark: '' }));
  const unknown = await submitAs(late, withField('remark'), remarked);
  const away = `the schema registry at ${registry.url} gives no answer`;
  await until(() => ingest.log.includes(away));
  // Processes that start without it know no schema, and wait as well.
  await Promise.all([ingest.kill(), workflows.kill()]);
  await Promise.all([ingest.start(), workflows.start()]);
  const cold = await system.submit(corrections('v', 6));
  await until(() => workflows.log.includes('Schemas are not registered yet'));
  expect(outcomes.records).toBe(records + 6);

  registry = await startTestRegistry(system.folder);
  await outcomes.untilRecords(records + 18);
  for (const position of [...known, ...unknown, ...cold])
    expect(outcomes.of(position)).toEqual(COMMITTED);
  expect(outcomes.deadLetters).toBe(deadLetters);
});
