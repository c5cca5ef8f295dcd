/**
 * `errata failures` against a real Temporal and a real Kafka: each kind of failure in a lineage of
 * its own, and what heals it.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { Findings } from '../../operations/failures/failure.ts';
import { shellWord } from '../../operations/failures/failure.ts';
import { workflowFailures } from '../../operations/failures/workflow-failures.ts';
import { main } from '../../cli/main.ts';
import { deadLetter } from '../../pipelines/kafka/dead-letter.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import {
  batchWorkflowId,
  editTaskQueue,
  WORKFLOW_TASK_QUEUE,
} from '../../pipelines/workflows/contract.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { BaseChanged, VersionLogDamaged } from '../../versions/log/failures.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { factCorrection } from '../harness/corrections.ts';
import { quietRuntime } from '../harness/time-skipping.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';

const LINEAGES = [
  'quiet',
  'quarantined',
  'letters',
  'waiting',
  'frozen',
  'retried',
  'idle',
  'terminated',
  'anew',
  'damaged',
  'undone',
  'stuck',
];
/** Of these the topics are made. */
const WITH_TOPICS = ['letters', 'waiting', 'anew'];
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const SETTINGS = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, batchEditsMax: 1, batchWaitMs: 0 },
  failures: { ...DEFAULT_LINEAGE_SETTINGS.failures, alert: false, retryWaitMs: 100 },
};

let servers: TestServers;
let cluster: KafkaCluster;
let sender: RecordSender;
let lineages: TemporalLineages;
let connection: NativeConnection;
let versions: Versions;
let workers: { worker: Worker; done: Promise<void> }[] = [];
/** Lineages whose plans fail until this is emptied. */
const ill = new Set(['frozen', 'terminated']);

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  cluster = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await cluster.ensureTopics(
    WITH_TOPICS.flatMap((lineage) =>
      topicSpecifications(lineage, { partitions: 1, replicationFactor: 1 }),
    ),
  );
  sender = await cluster.sender();
  lineages = TemporalLineages.connect(
    { address: servers.temporal.address },
    servers.temporal.namespace,
  );
  connection = await NativeConnection.connect({ address: servers.temporal.address });
  versions = versionsInFolder(path.join(servers.folder, 'versions'));
  const ledger = createLedgerActivities({ versions });
  const edit = createEditActivities({ engine: new FakeEngine(), versions });
  const announce = async ({ lineage, outcomes }: { lineage: string; outcomes: Outcome[] }) =>
    await (await versions.log(lineage).register()).settle(outcomes);
  const planBatch: typeof ledger.planBatch = async (step) => {
    if (step.lineage === 'frozen' && ill.has(step.lineage))
      throw new VersionLogDamaged(step.lineage, 'an object', 'a disk was taken out');
    if (step.lineage === 'terminated' && ill.has(step.lineage))
      throw new Error('the store is away');
    return await ledger.planBatch(step);
  };
  const computeTargets: typeof edit.computeTargets = async () => {
    throw new BaseChanged('retried', 1, ['its weights hash to something else']);
  };
  const options = { connection, namespace: servers.temporal.namespace };
  workers = await Promise.all([
    Worker.create({
      ...options,
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowBundle: await bundleWorkflows(),
      activities: { ...ledger, planBatch, announce },
    }),
    Worker.create({
      ...options,
      taskQueue: editTaskQueue('retried'),
      activities: { ...edit, computeTargets },
    }),
    ...['damaged', 'frozen', 'terminated'].map((lineage) =>
      Worker.create({ ...options, taskQueue: editTaskQueue(lineage), activities: edit }),
    ),
  ]).then((created) => created.map((worker) => ({ worker, done: worker.run() })));
});

afterAll(async () => {
  for (const { worker } of workers) worker.shutdown();
  await Promise.all(workers.map(({ done }) => done));
  await Promise.allSettled([connection?.close(), lineages?.close(), sender?.close()]);
  await servers?.stop();
});

async function errata(
  args: string[],
  more: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const into = (name: 'out' | 'err') =>
    new Writable({ write: (chunk: Buffer, _, done) => ((said[name] += chunk.toString()), done()) });
  const environment = {
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: path.join(servers.folder, 'versions'),
    ERRATA_LINEAGES: LINEAGES.join(','),
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    NO_COLOR: '1',
    COLUMNS: '160',
    ...more,
  };
  const code = await main(args, {
    in: process.stdin,
    out: into('out'),
    err: into('err'),
    environment,
    workingDirectory: servers.folder,
  });
  return { code, ...said };
}

async function failuresOf(
  lineage: string,
  more: NodeJS.ProcessEnv = {},
): Promise<Findings & { code: number }> {
  const { code, out } = await errata(['failures', '--lineage', lineage, '--json'], more);
  return { code, ...(JSON.parse(out) as Findings) };
}

/** Asks until it is so; the test's own bound ends it otherwise. */
async function until<Value>(
  ask: () => Promise<Value>,
  holds: (value: Value) => boolean,
): Promise<Value> {
  for (;;) {
    const value = await ask();
    if (holds(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const correction = (lineage: string, id: string, more: Partial<FactCorrection> = {}) =>
  factCorrection(id, { lineage, ...more });

/** Hands a correction to the lineage as ingest does. */
async function accept(
  lineage: string,
  offset: number,
  given: FactCorrection,
  endOffset = '1000',
): Promise<void> {
  const topic = topicsOf(lineage).corrections;
  const position = { topic, partition: 0, offset: String(offset) };
  const answer = await lineages.accept(lineage, SETTINGS, {
    topic,
    partition: 0,
    firstOffset: position.offset,
    throughOffset: position.offset,
    endOffset,
    readFrom: '0',
    run: null,
    revisions: [{ kind: 'correction', factKey: factKeyOf(given), position, correction: given }],
  });
  expect(answer.kind).toBe('accepted');
}

const outcome = (
  given: FactCorrection,
  status: Outcome['status'],
  decidedAt: number,
  more: Partial<Outcome> = {},
): Outcome => ({
  lineage: given.lineage,
  revisionId: given.id,
  factKey: factKeyOf(given),
  status,
  version: null,
  reason: status === 'QUARANTINED' ? 'the model does not give it as its answer' : null,
  measured: status === 'QUARANTINED' ? { code: 'verdict', efficacy: 0.25 } : {},
  position: { topic: topicsOf(given.lineage).corrections, partition: 0, offset: '1' },
  batchId: '000000-0000000000000000',
  decidedAt,
  ...more,
});

describe('errata failures', () => {
  it('finds nothing where nothing went wrong', async () => {
    expect(await failuresOf('quiet')).toEqual({
      code: 0,
      failures: [],
      unseen: [],
      more: 0,
      healed: 0,
    });
    expect((await errata(['failures', '--lineage', 'quiet'])).out).toContain('No failure is open.');
  });

  it('lists quarantined corrections, the newest first, without those that were sent again, corrected or withdrawn since', async () => {
    const register = await versions.log('quarantined').register();
    const [older, newer, again, withdrawn] = ['older', "o'brien", 'again', 'withdrawn'].map((id) =>
      correction('quarantined', id),
    ) as [FactCorrection, FactCorrection, FactCorrection, FactCorrection];
    await register.settle([
      outcome(older, 'QUARANTINED', 1_000),
      outcome(newer, 'QUARANTINED', 2_000),
      outcome(again, 'QUARANTINED', 1_000),
      outcome(withdrawn, 'QUARANTINED', 1_000),
    ]);
    await register.settle([outcome({ ...again, id: 'again~2' }, 'SUPERSEDED', 3_000)]);
    await register.settle([
      outcome({ ...withdrawn, id: 'retract:t-0-9' }, 'NOTHING_TO_RETRACT', 3_000, {
        measured: { issuedAt: 3_000 },
      }),
    ]);
    const { code, failures, healed } = await failuresOf('quarantined');
    expect({ code, healed }).toEqual({ code: 1, healed: 2 });
    expect(failures).toEqual([
      {
        lineage: 'quarantined',
        kind: 'quarantined',
        subject: "o'brien",
        since: 2_000,
        cause:
          'the model does not give it as its answer (verdict), in batch 000000-0000000000000000',
        measured: { efficacy: 0.25 },
        heal: "errata resubmit quarantined 'o'\\''brien' --lineage quarantined --set target=...",
      },
      expect.objectContaining({ subject: 'older' }),
    ]);
  });

  it('lists dead letters with their reason, without those whose record was taken since', async () => {
    const topic = topicsOf('letters').corrections;
    const letter = (offset: string, value: Buffer) =>
      deadLetter(
        { topic, partition: 0, offset, timestamp: 0, key: null, value, headers: {} },
        { className: 'UndecodableRecord', message: 'these bytes are no record' },
      );
    const taken = correction('letters', 'taken');
    const [sent] = await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [taken]);
    const value = await new Promise<Buffer>(
      (resolve) =>
        void cluster.readSpans(topic, [{ partition: 0, from: '0', through: '0' }], ([record]) =>
          resolve(record!.value!),
        ),
    );
    expect(sent).toBeDefined();
    // Sent again as it was, it came back.
    const again = letter('5', Buffer.from('nonsense'));
    const back = deadLetter(
      {
        topic,
        partition: 0,
        offset: '7',
        timestamp: 0,
        key: null,
        value: again.value,
        headers: again.headers!,
      },
      { className: 'UndecodableRecord', message: 'these bytes are no record' },
    );
    await sender.send(topicsOf('letters').deadLetters, [back, letter('0', value), again]);
    await (await versions.log('letters').register()).settle([outcome(taken, 'SUPERSEDED', 1)]);
    const { failures, healed } = await failuresOf('letters');
    expect(healed).toBe(2);
    expect(failures.filter(({ kind }) => kind === 'dead letter')).toMatchObject([
      {
        subject: '0@0',
        cause: `record ${topic}-0@7: UndecodableRecord: these bytes are no record`,
        heal: 'errata resubmit dead-letters 0@0 --lineage letters --file repaired.ndjson',
      },
    ]);
  });

  it('tells of corrections that no ingest reads', async () => {
    await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [
      correction('waiting', 'a'),
      correction('waiting', 'b'),
    ]);
    expect((await failuresOf('waiting')).failures).toMatchObject([
      { kind: 'ingest', cause: '2 records wait, and no ingest reads them', heal: 'errata up' },
    ]);
  });

  it('tells of a topic that was made anew', async () => {
    await accept('anew', 500, correction('anew', 'a'));
    const { failures } = await until(
      () => failuresOf('anew'),
      (found) => found.failures.some(({ kind }) => kind === 'topic made anew'),
    );
    expect(failures.find(({ kind }) => kind === 'topic made anew')).toMatchObject({
      subject: `${topicsOf('anew').corrections}-0`,
      heal: 'errata replay forget-positions --lineage anew',
    });
  });

  it('tells of a frozen lineage with its batch, once, and of nothing more when it was resumed and settled', async () => {
    await accept('frozen', 0, correction('frozen', 'a'));
    const { code, failures } = await until(
      () => failuresOf('frozen'),
      ({ failures }) => failures.length > 0,
    );
    expect(code).toBe(1);
    expect(failures).toMatchObject([
      {
        kind: 'frozen',
        heal: 'errata resume --lineage frozen',
        cause: expect.stringMatching(/a disk was taken out.*after 3 attempts/) as string,
      },
    ]);
    ill.delete('frozen');
    await lineages.resume('frozen');
    const after = await until(
      () => failuresOf('frozen'),
      ({ code: now }) => now === 0,
    );
    expect(after.healed).toBe(1);
  });

  it('tells of an activity that is tried again and again, with what mends its class of failure', async () => {
    await accept('retried', 0, correction('retried', 'a'));
    const { failures } = await until(
      () => failuresOf('retried'),
      (found) => found.failures.length > 0,
    );
    expect(failures).toMatchObject([
      {
        kind: 'activity',
        subject: `computeTargets of ${batchWorkflowId('retried', 0)}`,
        cause: expect.stringMatching(/^BaseChanged: .*attempt \d+, again at/) as string,
        heal: expect.stringContaining('ERRATA_MODEL') as string,
      },
    ]);
  });

  it('tells of a queue that no worker asks', async () => {
    await accept('idle', 0, correction('idle', 'a'));
    const look = () =>
      workflowFailures(
        { lineages, dataConverter: payloadConverter([]), log: versions.log('idle') },
        Date.now() + 60_000,
      );
    const { failures } = await until(look, (found) => found.failures.length > 0);
    expect(failures).toMatchObject([
      {
        kind: 'no worker',
        subject: `queue ${editTaskQueue('idle')}`,
        cause: expect.stringContaining('no edit-worker asked for work') as string,
        heal: 'errata up',
      },
    ]);
  });

  it('tells of a batch that was terminated until its corrections are decided otherwise', async () => {
    await accept('terminated', 0, correction('terminated', 'a'));
    const batch = lineages.client.workflow.getHandle(batchWorkflowId('terminated', 0));
    await until(
      () => failuresOf('terminated'),
      ({ failures }) =>
        failures.some(
          ({ kind, cause }) => kind === 'activity' && cause.includes('the store is away'),
        ),
    );
    // The lineage would try it again; with its own workflow ended, nobody does.
    await lineages.client.workflow.getHandle('lineage/terminated').terminate('a test');
    await batch.terminate('an operator was in a hurry');
    const { failures } = await until(
      () => failuresOf('terminated'),
      (found) => found.failures.length === 2,
    );
    expect(failures.map(({ kind }) => kind).sort()).toEqual(['batch', 'lineage ended']);
    expect(failures.find(({ kind }) => kind === 'batch')).toMatchObject({
      cause: `${batchWorkflowId('terminated', 0)} was terminated: an operator was in a hurry`,
      heal: 'errata replay batch 0 --lineage terminated',
    });
    await (
      await versions.log('terminated').register()
    ).settle([outcome(correction('terminated', 'a'), 'SUPERSEDED', 1)]);
    const after = await failuresOf('terminated');
    expect(after.failures.map(({ kind }) => kind)).toEqual(['lineage ended']);
    expect(after.healed).toBe(1);
  });

  it('tells of an undo that was ended, and of a workflow whose next step fails again and again', async () => {
    const { workflow } = lineages.client;
    const undo = await workflow.start('undo', {
      workflowId: 'undo/undone/u1',
      taskQueue: 'nobody',
      args: [{}],
    });
    await undo.terminate('a second thought');
    const { failures } = await until(
      () => failuresOf('undone'),
      (found) => found.failures.length > 0,
    );
    expect(failures).toMatchObject([
      {
        kind: 'undo',
        subject: 'undo/undone/u1',
        cause: 'was terminated: a second thought',
        heal: 'errata replay batch undo/undone/u1 --lineage undone',
      },
    ]);
    const stuck = await workflow.start('ofAnotherRelease', {
      workflowId: batchWorkflowId('stuck', 0),
      taskQueue: WORKFLOW_TASK_QUEUE,
      args: [{}],
    });
    const found = await until(
      () => failuresOf('stuck'),
      (one) => one.failures.length > 0,
    );
    expect(found.failures).toMatchObject([
      {
        kind: 'workflow step',
        subject: batchWorkflowId('stuck', 0),
        heal: 'errata replay batch edit-batch/stuck/0 --lineage stuck',
      },
    ]);
    await stuck.terminate('the test is over');
  });

  it('tells of a damaged version log', async () => {
    await accept('damaged', 0, correction('damaged', 'a'));
    await until(
      () => versionsInFolder(path.join(servers.folder, 'versions')).log('damaged').read(),
      ({ head }) => head.version === 1,
    );
    const folder = path.join(servers.folder, 'versions', 'lineages', 'damaged', 'log');
    const file = path.join(folder, readdirSync(folder)[0]!);
    writeFileSync(file, readFileSync(file, 'utf8').replace('"batchId"', '"batchIt"'));
    expect((await failuresOf('damaged')).failures).toMatchObject([
      { kind: 'damaged log', heal: 'errata verify --lineage damaged' },
    ]);
  });

  it('says what could not be looked at where Temporal and Kafka are away', async () => {
    const away = { ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:1', ERRATA_KAFKA_BROKERS: undefined };
    const found = await failuresOf('quarantined', away);
    expect(found.failures).toHaveLength(2);
    expect(found.unseen).toMatchObject([
      expect.stringContaining('Kafka does not run here'),
      expect.stringContaining('Temporal does not answer'),
    ]);
    const nowhere = { ERRATA_TEMPORAL_ADDRESS: undefined, ERRATA_KAFKA_BROKERS: undefined };
    expect(await failuresOf('quiet', nowhere)).toMatchObject({ code: 3, failures: [] });
    const { out } = await errata(['failures', '--lineage', 'quiet'], nowhere);
    expect(out).toMatch(/not searched: .*Kafka does not run here/);
  });
});

describe('a word for the shell', () => {
  it('is as it is where it can be, and quoted where not', () => {
    const words: [string, string][] = [
      ['treaty-2026', 'treaty-2026'],
      ['a~2', 'a~2'],
      ['a b', "'a b'"],
      ["it's", "'it'\\''s'"],
      ['$(x)', "'$(x)'"],
      ['~root', "'~root'"],
    ];
    for (const [word, written] of words) expect(shellWord(word)).toBe(written);
  });
});
