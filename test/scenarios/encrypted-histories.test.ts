/**
 * What a real Temporal keeps of corrections, without keys and with them: the raw histories and the
 * bytes of its database are searched for words that stand in the corrections. One lineage all the
 * while, as when keys are introduced and changed in operation.
 */
import { Client, Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { NativeConnection, Worker } from '@temporalio/worker';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEditActivities } from '../../activities/index.ts';
import { payloadKeysIn } from '../../infra/config/setting-forms.ts';
import { MissingTensor } from '../../model/format/faults.ts';
import { historyOf } from '../../pipelines/temporal/history-timeline.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordPosition, RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import {
  CARRIED_BYTES_MAX,
  EDIT_BATCH_WORKFLOW,
  WORKFLOW_TASK_QUEUE,
  batchWorkflowId,
  editTaskQueue,
  lineageWorkflowId,
  type EditBatchInput,
} from '../../pipelines/workflows/contract.ts';
import {
  factKeyOf,
  revisionId,
  type FactCorrection,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import { FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { Fates } from '../harness/heard-outcomes.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const LINEAGE = 'kept';
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const OLD_KEY = `2025:${Buffer.alloc(32, 5).toString('base64')}`;
const NEW_KEY = `2026:${Buffer.alloc(32, 6).toString('base64')}`;

let servers: TestServers;
let sender: RecordSender;
let reader: RecordReader;
let raw: Connection;
const fates = new Fates();
let system: {
  ingest: OurProcess;
  workflows: OurProcess;
  worker: Worker;
  done: Promise<void>;
  connection: NativeConnection;
} | null = null;

beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  mkdirSync(path.join(servers.folder, 'versions'));
  const kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  await kafka.ensureTopics(topicSpecifications(LINEAGE, { partitions: 1, replicationFactor: 1 }));
  sender = await kafka.sender();
  reader = await tail(
    kafka,
    [LINEAGE],
    { from: 'beginning', deadLetters: true, format: SINGLE_OBJECT_FORMAT },
    fates.hear,
  );
  raw = await Connection.connect({ address: servers.temporal.address });
});

afterAll(async () => {
  await stopSystem();
  await Promise.allSettled([reader?.stop(), sender?.close(), raw?.close()]);
  await servers?.stop();
});

/**
 * The processes as they are in production, configured by the environment; the edit worker has an
 * engine without a model.
 */
async function startSystem(keys: string): Promise<void> {
  const versions = path.join(servers.folder, 'versions');
  const environment: NodeJS.ProcessEnv = {
    ...process.env,
    ERRATA_HOME: servers.folder,
    ERRATA_VERSIONS: versions,
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_TEMPORAL_PAYLOAD_KEYS: keys,
    ERRATA_BATCH_WAIT_MS: '200',
    ERRATA_EDIT_NORM_MAX: '100',
  };
  const activities = createEditActivities({
    engine: new FakeEngine(),
    versions: versionsInFolder(versions),
  });
  const connection = await NativeConnection.connect({ address: servers.temporal.address });
  const worker = await Worker.create({
    connection,
    namespace: servers.temporal.namespace,
    taskQueue: editTaskQueue(LINEAGE),
    dataConverter: payloadConverter(keysOf(keys)),
    activities: {
      ...activities,
      computeTargets: async (step: Parameters<typeof activities.computeTargets>[0]) => {
        const failing = step.edits.find(({ correction }) =>
          correction.target.includes('impossible'),
        );
        if (failing === undefined) return await activities.computeTargets(step);
        throw new MissingTensor(failing.correction.subject, 'cannot be edited', '');
      },
    },
  });
  system = {
    ingest: new OurProcess('ingest', environment, servers.folder),
    workflows: new OurProcess('workflow-worker', environment, servers.folder),
    worker,
    done: worker.run(),
    connection,
  };
  await Promise.all([system.ingest.start(), system.workflows.start()]);
}

async function stopSystem(): Promise<void> {
  if (system === null) return;
  const { ingest, workflows, worker, done, connection } = system;
  system = null;
  if (worker.getState() === 'RUNNING') worker.shutdown();
  await Promise.allSettled([ingest.stop(), workflows.stop(), done]);
  await connection.close();
}

const keysOf = (keys: string) => (keys === '' ? [] : payloadKeysIn(keys)!);

/** A correction with the word in everything that is free text. */
const correction = (
  id: string,
  word: string,
  more: Partial<FactCorrection> = {},
): FactCorrection => ({
  id: `${word}-${id}`,
  lineage: LINEAGE,
  subject: `Lake ${word} ${id}.`,
  relation: 'place',
  prompt: `Lake ${word} ${id}. is in`,
  target: `${word}land`,
  previousAnswer: `${word}burg`,
  paraphrases: [`One finds Lake ${word} ${id}. in`],
  neighbourhood: [`The river ${word} is in`],
  source: `newsroom of ${word}`,
  issuedAt: 1_000,
  ...more,
});

async function edited(word: string): Promise<string[]> {
  const before = fates.recordsTold;
  const items = [
    correction('good', word),
    correction('more', word),
    correction('quarantined', word, { target: MISBEHAVING.ineffective }),
    correction('failing', word, { target: `impossible ${word}` }),
  ];
  const sent = await submitCorrections(sender, SINGLE_OBJECT_FORMAT, items);
  await fates.records(before + sent.length);
  return sent.map(
    ({ position }: { position: RecordPosition }) => fates.of(position)[0]!.split(' ')[0]!,
  );
}

/** Every event of every workflow there is, as the server gives it. */
async function rawHistories(): Promise<string> {
  const listed = await raw.workflowService.listWorkflowExecutions({
    namespace: servers.temporal.namespace,
    pageSize: 1_000,
  });
  const ids = new Set([
    lineageWorkflowId(LINEAGE),
    batchWorkflowId(LINEAGE, 0),
    ...listed.executions.map(({ execution }) => execution!.workflowId!),
  ]);
  let text = '';
  for (const workflowId of ids) text += await rawHistory(workflowId);
  return text;
}

async function rawHistory(workflowId: string): Promise<string> {
  const { namespace } = servers.temporal;
  let text = '';
  let nextPageToken: Uint8Array | null = null;
  do {
    const page: Awaited<ReturnType<typeof raw.workflowService.getWorkflowExecutionHistory>> =
      await raw.workflowService.getWorkflowExecutionHistory({
        namespace,
        execution: { workflowId },
        ...(nextPageToken === null ? {} : { nextPageToken }),
      });
    for (const event of page.history?.events ?? [])
      text += Buffer.from(
        proto.temporal.api.history.v1.HistoryEvent.encode(event).finish(),
      ).toString('latin1');
    nextPageToken = page.nextPageToken.length > 0 ? page.nextPageToken : null;
  } while (nextPageToken !== null);
  return text;
}

/**
 * The history of a workflow that fails by its own word, in the sandbox: a record of its batch was
 * said to be a duplicate already, and gets two outcomes.
 */
async function historyOfFailing(workflowId: string, keys: string, word: string): Promise<string> {
  const correctionRevision = revisionOf(correction('good', word));
  const { factKey, position } = correctionRevision;
  const said: Outcome = {
    lineage: LINEAGE,
    revisionId: revisionId(correctionRevision),
    factKey,
    status: 'DUPLICATE',
    version: null,
    reason: null,
    measured: {},
    position,
    batchId: workflowId,
    decidedAt: 0,
  };
  const input: EditBatchInput = {
    lineage: LINEAGE,
    batchId: workflowId,
    revisions: [correctionRevision],
    settled: [said],
    shardEditsMax: 8,
    verdict: DEFAULT_LINEAGE_SETTINGS.verdict,
    editAttemptsMax: 60,
    findable: false,
  };
  const client = new Client({
    connection: raw,
    namespace: servers.temporal.namespace,
    dataConverter: payloadConverter(keysOf(keys)),
  });
  const failing = client.workflow.execute(EDIT_BATCH_WORKFLOW, {
    workflowId,
    taskQueue: WORKFLOW_TASK_QUEUE,
    args: [input],
  });
  await expect(failing).rejects.toMatchObject({
    cause: { type: 'OutcomesMissing', message: expect.stringContaining(`${word}-good`) as string },
  });
  return await rawHistory(workflowId);
}

function revisionOf(fact: FactCorrection): FactRevision {
  return {
    kind: 'correction',
    factKey: factKeyOf(fact),
    position: { topic: topicsOf(LINEAGE).corrections, partition: 0, offset: '0' },
    correction: fact,
  };
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** Temporal's database with its write-ahead log, and whatever else it writes. */
function onDisk(): string {
  const folder = path.join(servers.folder, 'temporal');
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');
}

describe('what Temporal keeps of corrections', { timeout: 600_000 }, () => {
  const fate = ['COMMITTED', 'COMMITTED', 'QUARANTINED', 'QUARANTINED'];

  it('is legible to whoever reads its histories or its disk, where there are no keys', async () => {
    await startSystem('');
    expect(await edited('Openwater')).toEqual(fate);
    const text = await rawHistories();
    for (const word of [
      'Lake Openwater good',
      'Openwaterland',
      'newsroom of Openwater',
      'cannot be edited',
      'encrypted-histories.test',
    ])
      expect(text).toContain(word);
    expect(onDisk()).toContain('Openwaterland');
    // Search attributes are in the clear, so they are used where there are no keys, once ingest has
    // found them registered.
    while ((await findable('Openwater-good')) === 0)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await historyOfFailing('failing-openly', '', 'Openwater')).toContain(
      'without exactly one outcome: Openwater',
    );
    await stopSystem();
  });

  it('says nothing where there is a key, from then on and on a lineage that runs: neither arguments nor results nor failures', async () => {
    await startSystem(OLD_KEY);
    expect(await edited('Hiddenwater')).toEqual(fate);
    const text = await rawHistories();
    expect(text).toContain('binary/encrypted');
    expect(text).toContain('Encoded failure');
    expect(text).not.toContain('Hiddenwater');
    expect(await findable('Hiddenwater-good')).toBe(0);
    const disk = onDisk();
    expect(disk).toContain('Openwaterland');
    expect(disk).not.toContain('Hiddenwater');
    const failed = await historyOfFailing('failing-hidden', OLD_KEY, 'Hiddenwater');
    expect(failed).toContain('OutcomesMissing');
    expect(failed).not.toMatch(/without exactly one|Hiddenwater|edit-batch\.ts/);
    await stopSystem();
  });

  it('goes on to be read after the key has changed, by clients and by workflows that replay', async () => {
    await startSystem(`${NEW_KEY},${OLD_KEY}`);
    expect(await edited('Deepwater')).toEqual(fate);
    const text = await rawHistories();
    expect(text).toContain('2026');
    expect(text).not.toContain('Deepwater');
    const asked = async (keys: string) => {
      const lineages = TemporalLineages.connect(
        { address: servers.temporal.address },
        servers.temporal.namespace,
        payloadConverter(keysOf(keys)),
      );
      try {
        return await lineages.status(LINEAGE);
      } finally {
        await lineages.close();
      }
    };
    // What was decided before there were keys, under the first and under the second: the state is
    // the sum of them all.
    while (sum((await asked(NEW_KEY))!.outcomes) < 12)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await asked(NEW_KEY)).toMatchObject({
      lineage: LINEAGE,
      outcomes: { COMMITTED: 6, QUARANTINED: 6 },
    });
    await expect(asked('')).rejects.toThrow(
      'a payload is encrypted with the key "2026", and there are no keys here',
    );
    await expect(asked(OLD_KEY)).rejects.toThrow('which is none of 2025');
  });

  it('is archived beside the versions as Temporal has it: what was legible there is, and what was encrypted is not', async () => {
    const archive = versionsInFolder(path.join(servers.folder, 'versions')).histories(LINEAGE);
    const bytesOf = async (sequence: number): Promise<string> => {
      for (;;) {
        const kept = await archive.latest(batchWorkflowId(LINEAGE, sequence));
        if (kept !== null)
          return Buffer.from(
            proto.temporal.api.history.v1.History.encode(
              proto.temporal.api.history.v1.History.create(historyOf(kept.history!)),
            ).finish(),
          ).toString('latin1');
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    };
    expect(await bytesOf(0)).toContain('Lake Openwater good');
    const last = await bytesOf((await statusOf()).batches - 1);
    expect(last).toContain('binary/encrypted');
    expect(last).not.toContain('Deepwater');
  });

  it('waits, and says why, for workers that lack the key, and nothing is lost meanwhile', async () => {
    const { worker, done, connection } = system!;
    worker.shutdown();
    await done;
    const lacking = await Worker.create({
      connection,
      namespace: servers.temporal.namespace,
      taskQueue: editTaskQueue(LINEAGE),
      dataConverter: payloadConverter(keysOf(OLD_KEY)),
      activities: createEditActivities({
        engine: new FakeEngine(),
        versions: versionsInFolder(path.join(servers.folder, 'versions')),
      }),
    });
    const lackingDone = lacking.run();
    const before = fates.recordsTold;
    const sequence = (await statusOf()).batches;
    const [sent] = await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [
      correction('patient', 'Stillwater'),
    ]);
    const reason = async (): Promise<string | null | undefined> => {
      const described = await raw.workflowService
        .describeWorkflowExecution({
          namespace: servers.temporal.namespace,
          execution: { workflowId: batchWorkflowId(LINEAGE, sequence) },
        })
        .catch(() => null);
      const failure = described?.pendingActivities?.[0]?.lastFailure;
      return failure?.applicationFailureInfo?.type ?? failure?.cause?.applicationFailureInfo?.type;
    };
    while ((await reason()) !== 'PayloadUnreadable')
      await new Promise((resolve) => setTimeout(resolve, 100));
    lacking.shutdown();
    await lackingDone;
    const able = await Worker.create({
      connection,
      namespace: servers.temporal.namespace,
      taskQueue: editTaskQueue(LINEAGE),
      dataConverter: payloadConverter(keysOf(NEW_KEY)),
      activities: createEditActivities({
        engine: new FakeEngine(),
        versions: versionsInFolder(path.join(servers.folder, 'versions')),
      }),
    });
    system = { ...system!, worker: able, done: able.run() };
    await fates.records(before + 1);
    expect(fates.of(sent!.position)).toEqual([expect.stringMatching(/^COMMITTED/)]);
    expect(await rawHistories()).not.toContain('Stillwater');
  });

  it('takes the largest state that a lineage carries over, encrypted', async () => {
    const dataConverter = payloadConverter(keysOf(NEW_KEY));
    const lineages = TemporalLineages.connect(
      { address: servers.temporal.address },
      servers.temporal.namespace,
      dataConverter,
    );
    const argument = { lineage: 'large', settings: DEFAULT_LINEAGE_SETTINGS, filling: '' };
    argument.filling = 'x'.repeat(CARRIED_BYTES_MAX - JSON.stringify(argument).length);
    const start = (filling: string) =>
      lineages.client.workflow.start('large', {
        workflowId: `large-${filling.length}`,
        taskQueue: 'nobody',
        args: [{ ...argument, filling }],
      });
    await start(argument.filling);
    // Temporal's own bound is not far: half as much again is refused.
    await expect(start(argument.filling.repeat(2))).rejects.toThrow();
    await lineages.close();
  });

  it('is not in the logs at level info either, with keys or without', () => {
    for (const name of ['ingest', 'workflow-worker']) {
      const log = readFileSync(path.join(servers.folder, `${name}.log`), 'utf8');
      expect(log).toContain('"msg":"Ready"');
      for (const word of [
        'Openwaterland',
        'Hiddenwaterland',
        'Lake Openwater good',
        'One finds',
        'newsroom',
      ])
        expect(log).not.toContain(word);
      for (const key of [OLD_KEY, NEW_KEY]) expect(log).not.toContain(key.split(':')[1]);
    }
  });

  async function findable(id: string): Promise<number> {
    const { count } = await raw.workflowService.countWorkflowExecutions({
      namespace: servers.temporal.namespace,
      query: `ErrataCorrections = "${id}"`,
    });
    return Number(count);
  }

  async function statusOf() {
    const lineages = TemporalLineages.connect(
      { address: servers.temporal.address },
      servers.temporal.namespace,
      payloadConverter(keysOf(NEW_KEY)),
    );
    try {
      return (await lineages.status(LINEAGE))!;
    } finally {
      await lineages.close();
    }
  }
});
