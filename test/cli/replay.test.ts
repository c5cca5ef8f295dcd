/**
 * Tests `errata resubmit` and `errata replay` on a real Kafka and Temporal; the engine has no
 * model.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { Kafka, logLevel } from 'kafkajs';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createEditActivities } from '../../activities/index.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordPosition, RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { editTaskQueue } from '../../pipelines/workflows/contract.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { factCorrection } from '../harness/corrections.ts';
import { FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import { HeardOutcomes } from '../harness/heard-outcomes.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/time-skipping.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { invoke } from '../harness/invocation.ts';

vi.setConfig({ testTimeout: 240_000 });
const LINEAGE = 'replayed';
const { corrections: TOPIC, deadLetters: LETTERS } = topicsOf(LINEAGE);
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

let servers: TestServers;
let sender: RecordSender;
let reader: RecordReader;
let versions: Versions;
let processes: OurProcess[];
let editWorker: { worker: Worker; done: Promise<void>; connection: NativeConnection };
let environment: NodeJS.ProcessEnv;
let letters: RecordPosition[];
const fates = new HeardOutcomes();

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  const folder = path.join(servers.folder, 'versions');
  mkdirSync(folder);
  versions = versionsInFolder(folder);
  const kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(topicSpecifications(LINEAGE, { partitions: 1, replicationFactor: 1 }));
  sender = await kafka.sender();
  environment = {
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: folder,
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_BATCH_EDITS_MAX: '20',
    ERRATA_BATCH_WAIT_MS: '200',
    ERRATA_EDIT_NORM_MAX: '100',
  };
  processes = (['ingest', 'workflow-worker'] as const).map(
    (name) => new OurProcess(name, { ...process.env, ...environment }, servers.folder),
  );
  editWorker = await editWorkerOf();
  reader = await tail(
    kafka,
    [LINEAGE],
    { from: 'beginning', deadLetters: true, format: SINGLE_OBJECT_FORMAT },
    fates.hear,
  );
  await Promise.all(processes.map((one) => one.start()));

  const sound = [
    correction('good'),
    ...['q1', 'q2', 'q3', 'q4', 'q5'].map((id) =>
      correction(id, { target: MISBEHAVING.ineffective }),
    ),
  ];
  await submitCorrections(
    sender,
    SINGLE_OBJECT_FORMAT,
    [...sound, correction('dead', { prompt: 'says nothing of it' })],
    { unsound: 'send' },
  );
  letters = await sender.send(TOPIC, [
    { key: 'x|y', value: Buffer.from('{"id": 1}'), headers: { trace: 'abc' } },
    { key: 'x|z', value: Buffer.from('not a record either') },
  ]);
  await fates.untilRecords(sound.length + 3);
}, 240_000);

afterAll(async () => {
  await Promise.allSettled([
    ...(processes ?? []).map((one) => one.kill()),
    reader?.stop(),
    sender?.close(),
  ]);
  if (editWorker !== undefined) {
    editWorker.worker.shutdown();
    await editWorker.done;
    await editWorker.connection.close();
  }
  await servers?.stop();
});

async function editWorkerOf(): Promise<typeof editWorker> {
  const connection = await NativeConnection.connect({ address: servers.temporal.address });
  const activities = createEditActivities({
    engine: new FakeEngine(),
    versions: versionsInFolder(environment['ERRATA_VERSIONS']!),
  });
  const worker = await Worker.create({
    connection,
    namespace: servers.temporal.namespace,
    taskQueue: editTaskQueue(LINEAGE),
    activities,
    maxConcurrentActivityTaskExecutions: 1,
  });
  return { worker, done: worker.run(), connection };
}

function correction(id: string, more: Partial<FactCorrection> = {}): FactCorrection {
  const subject = more.subject ?? `Subject ${id}.`;
  const about = { lineage: LINEAGE, subject, relation: 'place', prompt: `${subject} is in` };
  return factCorrection(id, {
    ...about,
    target: 'Lyon',
    paraphrases: [],
    neighbourhood: [],
    source: 'desk',
    issuedAt: 1_000,
    ...more,
  });
}

async function errata(
  args: string | string[],
  input = '',
): Promise<{ code: number; out: string; err: string; lines: Record<string, unknown>[] }> {
  const { code, out, err } = await invoke(servers.folder, args, environment, input);
  const json = out.startsWith('{\n')
    ? [out]
    : out.split('\n').filter((line) => line.startsWith('{'));
  const lines = json.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { code, out, err, lines };
}

const added = async (id: string) =>
  (await versions.log(LINEAGE).entries(1, 99))
    .flatMap(({ entry }) => entry.added)
    .find(({ correctionId }) => correctionId === id);

test('a dry run shows what would be sent, and its likely outcome', async () => {
  await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [
    correction('newer', { subject: 'Subject q5.', target: 'Oslo', issuedAt: 2_000 }),
  ]);
  await fates.untilRecords(10);
  const { code, lines } = await errata(
    'resubmit quarantined --code not-effective --dry-run --json',
  );
  expect(code).toBe(0);
  const { items } = lines[0] as {
    items: { of: string; id: string; from: string; likely: { kind: string; status?: string } }[];
  };
  expect(items.map(({ of, id, from }) => [of, id, from])).toEqual(
    ['q1', 'q2', 'q3', 'q4', 'q5'].map((id) => [id, `${id}~2`, 'kafka']),
  );
  expect(items.map(({ likely }) => likely.status ?? likely.kind)).toEqual([
    'edited',
    'edited',
    'edited',
    'edited',
    'SUPERSEDED',
  ]);
  expect((await errata('resubmit quarantined good unheard --dry-run')).code).toBe(1);
  expect((await errata('resubmit quarantined')).code).toBe(2);
  expect((await errata('resubmit quarantined q1 --set colour=red')).code).toBe(2);
  expect((await errata('resubmit quarantined q1 --set prompt=without --dry-run')).out).toContain(
    'the subject does not occur in the prompt',
  );
});

test('sends a repaired quarantined correction once, and keeps its lineage', async () => {
  const { code, lines } = await errata(
    'resubmit quarantined q1 --set target=Bern --by Mira --wait --json',
  );
  expect([code, lines[0]]).toMatchObject([
    0,
    { id: 'q1~2', kind: 'outcome', outcome: { status: 'COMMITTED' } },
  ]);
  expect(await added('q1~2')).toMatchObject({
    replayOf: 'q1',
    target: 'Bern',
    source: 'desk; replayed by Mira',
    issuedAt: 1_000,
  });
  const again = await errata('resubmit quarantined q1 --set target=Bern --wait --json');
  expect([again.code, again.lines[0]]).toMatchObject([0, { sent: false, of: 'q1', healed: true }]);
});

test('sends many corrections repaired by a file; a new refusal can be resubmitted', async () => {
  const file = [
    { replayOf: 'q2', target: MISBEHAVING.ineffective, neighbourhood: [] },
    { replayOf: 'q3', target: 'Paris' },
  ]
    .map((one) => JSON.stringify(one))
    .join('\n');
  const { code, lines } = await errata('resubmit quarantined --file - --wait --json', file);
  expect(code).toBe(1);
  expect(
    lines.map(({ id, outcome }) => [id, (outcome as { status: string }).status]).sort(),
  ).toEqual([
    ['q2~2', 'QUARANTINED'],
    ['q3~2', 'COMMITTED'],
  ]);
  const refused = await errata('resubmit quarantined q2');
  expect([refused.code, refused.out]).toEqual([1, expect.stringContaining('Resubmit "q2~2"')]);
  const next = await errata('resubmit quarantined q2~2 --set target=Rome --wait --json');
  expect([next.code, next.lines[0]]).toMatchObject([0, { id: 'q2~3' }]);
  expect(await added('q2~3')).toMatchObject({ replayOf: 'q2~2', target: 'Rome' });
  const wrong = await errata(
    'resubmit quarantined --file -',
    '{"replayOf":"q4","colour":"red"}\nnot json',
  );
  expect([wrong.code, wrong.err]).toEqual([2, expect.stringMatching(/line 1.*\n.*line 2/s)]);
});

test("takes a correction from its batch's history where Kafka dropped the record", async () => {
  const admin = new Kafka({
    brokers: [...servers.kafka.brokers],
    logLevel: logLevel.NOTHING,
  }).admin();
  await admin.connect();
  const { high } = (await admin.fetchTopicOffsets(TOPIC))[0]!;
  await admin.deleteTopicRecords({ topic: TOPIC, partitions: [{ partition: 0, offset: high }] });
  await admin.disconnect();
  const { code, lines } = await errata('resubmit quarantined q4 --set target=Kyiv --wait --json');
  expect([code, lines[0]]).toMatchObject([0, { id: 'q4~2' }]);
  expect(await added('q4~2')).toMatchObject({
    replayOf: 'q4',
    prompt: 'Subject q4. is in',
    target: 'Kyiv',
  });
});

test('shows why letters would fail again, and sends them repaired or unchanged', async () => {
  const dry = await errata('resubmit dead-letters --all --dry-run --json');
  expect(dry.code).toBe(1);
  expect(
    (dry.lines[0] as { items: { of: string; reason: string }[] }).items.map(({ of }) => of).sort(),
  ).toEqual(['0@0', '0@1', '0@2']);
  expect(dry.out).toContain('the subject does not occur in the prompt');

  const repaired = await errata([
    'resubmit',
    'dead-letters',
    '0@0',
    '--set',
    'prompt=Subject dead. is in',
    '--wait',
    '--json',
  ]);
  expect([repaired.code, repaired.lines[0]]).toMatchObject([0, { id: 'dead' }]);
  expect(await added('dead')).toMatchObject({
    replayOf: expect.stringMatching(/^record:errata\.replayed\.corrections-0@\d+$/) as string,
  });

  const refused = await errata('resubmit dead-letters 0@1');
  expect([refused.code, refused.out]).toEqual([1, expect.stringContaining('--as-is')]);
  const asIs = await errata('resubmit dead-letters 0@1 --as-is --wait --json');
  expect([asIs.code, asIs.lines[0]]).toMatchObject([
    1,
    { kind: 'dead-letter', className: 'UndecodableRecord' },
  ]);

  const partial = await errata('resubmit dead-letters 0@2 --set target=Kyiv');
  expect([partial.code, partial.out]).toEqual([
    1,
    expect.stringContaining('must be a whole correction'),
  ]);
  const whole = JSON.stringify({
    replayOf: `record:${TOPIC}-0@${letters[1]!.offset}`,
    subject: 'Oz',
    prompt: 'Oz is in',
    target: 'Kansas',
    issuedAt: 5,
  });
  const given = await errata('resubmit dead-letters --file - --wait --json', whole);
  expect([given.code, given.lines[0]]).toMatchObject([
    0,
    { kind: 'outcome', outcome: { status: 'COMMITTED' } },
  ]);
});

test('skips fixed letters, and lists a letter that came back in its current form', async () => {
  const rest = await errata('resubmit dead-letters --all --dry-run --json');
  expect(
    (rest.lines[0] as { items: { of: string; healed: boolean }[] }).items.map(({ of, healed }) => [
      of,
      healed,
    ]),
  ).toEqual([
    ['0@0', true],
    ['0@1', true],
    ['0@2', true],
    ['0@3', false],
  ]);
  const { lines } = await errata('failures --json');
  expect(
    (lines[0] as { failures: { kind: string; subject: string }[] }).failures
      .map(({ kind, subject }) => `${kind} ${subject}`)
      .sort(),
  ).toEqual(['dead letter 0@3']);
  expect((await errata('resubmit dead-letters 7@7')).out).toContain(
    `${LETTERS} has no such letter`,
  );
});

test('runs a batch again from a point of its history, and applies nothing twice', async () => {
  const before = (await versions.log(LINEAGE).read()).head;
  const dry = await errata('replay batch 0 --dry-run');
  expect([dry.code, dry.out]).toEqual([
    0,
    expect.stringMatching(
      /planBatch[\s\S]*computeTargets[\s\S]*commitVersion[\s\S]*Nothing was done/,
    ),
  ]);
  const { runId } = (await versions.log(LINEAGE).entry(1)).entry.workflow;
  for (const to of ['plan', 'commit', 'probes']) {
    const { code, lines } = await errata(`replay batch 0 --run ${runId} --to ${to} --json`);
    expect([to, code, lines[0]]).toMatchObject([
      to,
      0,
      { end: { kind: 'completed', result: { versions: [1] } }, frozen: null },
    ]);
  }
  versions = versionsInFolder(environment['ERRATA_VERSIONS']!);
  expect((await versions.log(LINEAGE).read()).head).toEqual(before);
  expect((await errata('replay batch 99')).code).toBe(2);
  expect((await errata('replay batch 0 --to 12345')).err).toContain('no point');
  expect((await errata('replay batch lineage/replayed')).code).toBe(2);
  expect((await errata('replay forget-positions')).code).toBe(2);
});

test('refuses a running batch unless allowed to end the run', async () => {
  const temporal = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  editWorker.worker.shutdown();
  await editWorker.done;
  const [late] = await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [correction('late')]);
  let running: string | null = null;
  while (running === null)
    running = (await temporal.status(LINEAGE).catch(() => null))?.running?.workflowId ?? null;
  await temporal.close();
  const number = running.split('/').at(-1)!;
  // Before its first decision there is no point to restart from.
  while ((await errata(`replay batch ${number} --dry-run`)).code !== 0)
    await new Promise((resolve) => setTimeout(resolve, 50));
  const refused = await errata(`replay batch ${number}`);
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining('--anyway')]);
  const reset = errata(`replay batch ${number} --anyway --json`);
  editWorker = await editWorkerOf();
  expect(await reset).toMatchObject({
    code: 0,
    lines: [{ workflowId: running, end: { kind: 'completed' } }],
  });
  while (fates.of(late!.position).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(fates.of(late!.position)).toEqual([expect.stringMatching(/^COMMITTED \d+$/)]);
  const entries = await versionsInFolder(environment['ERRATA_VERSIONS']!)
    .log(LINEAGE)
    .entries(1, 99);
  expect(
    entries.filter(({ entry }) => entry.added.some(({ correctionId }) => correctionId === 'late')),
  ).toHaveLength(1);
});

test("runs the lineage's own workflow again, which continues", async () => {
  // The previous batch may still be finishing.
  let answer = await errata('replay lineage --json');
  while (answer.code === 2 && answer.err.includes(' runs'))
    answer = await errata('replay lineage --json');
  const { code, lines } = answer;
  expect([code, lines[0]]).toMatchObject([0, { workflowId: `lineage/${LINEAGE}` }]);
  const sent = await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [correction('after')]);
  while (fates.of(sent[0]!.position).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(fates.of(sent[0]!.position)[0]).toMatch(/^COMMITTED/);
});
