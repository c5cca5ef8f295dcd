/**
 * What a real Temporal keeps of corrections, without keys and with them: the raw histories and the
 * bytes of its database are searched for words of the corrections. There is one lineage throughout,
 * as when keys are introduced and changed in operation, so each test builds on those before it.
 */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { beforeAll, describe, expect, test } from 'vitest';
import { createEditActivities } from '../../activities/index.ts';
import { payloadKeysIn } from '../../infra/config/setting-forms.ts';
import { MissingTensor } from '../../model/format/faults.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { historyOf } from '../../pipelines/temporal/history-timeline.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import {
  CARRIED_BYTES_MAX,
  EDIT_BATCH_WORKFLOW,
  WORKFLOW_TASK_QUEUE,
  batchWorkflowId,
  lineageWorkflowId,
  type EditBatchInput,
} from '../../pipelines/workflows/contract.ts';
import {
  factKeyOf,
  type CorrectionRevision,
  type FactCorrection,
} from '../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { afterwards } from '../harness/clean-up.ts';
import { FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import type { OurProcess } from '../harness/our-process.ts';
import { TestSystem } from '../harness/test-system.ts';
import { until } from '../harness/until.ts';
import type { TestWorker } from '../harness/worker.ts';

const LINEAGE = 'kept';
const OLD_KEY = `2025:${Buffer.alloc(32, 5).toString('base64')}`;
const NEW_KEY = `2026:${Buffer.alloc(32, 6).toString('base64')}`;
const STATUSES = ['COMMITTED', 'COMMITTED', 'QUARANTINED', 'QUARANTINED'];
const TIMEOUT = { timeout: 600_000 };

let system: TestSystem;
let raw: Connection;
let namespace: string;
let processes: OurProcess[] = [];
let worker: TestWorker | undefined;

beforeAll(async () => {
  system = await TestSystem.start({ lineages: [LINEAGE], partitions: 1 });
  namespace = system.servers.temporal.namespace;
  raw = await Connection.connect({ address: system.servers.temporal.address });
  afterwards(() => raw.close());
});

const converterOf = (keys: string) => payloadConverter(keys === '' ? [] : payloadKeysIn(keys)!);

/** Starts the processes and an edit worker with these keys, in place of the last ones. */
async function restartWith(keys: string): Promise<void> {
  await Promise.all([worker?.stop(), ...processes.map((one) => one.stop())]);
  const settings = { ERRATA_TEMPORAL_PAYLOAD_KEYS: keys };
  processes = [system.process('ingest', settings), system.process('workflow-worker', settings)];
  const activities = createEditActivities({ engine: new FakeEngine(), versions: system.versions });
  const computeTargets: typeof activities.computeTargets = async (step) => {
    const failing = step.edits.find(({ correction: { target } }) => target.includes('impossible'));
    if (failing === undefined) return await activities.computeTargets(step);
    throw new MissingTensor(failing.correction.subject, 'cannot be edited', '');
  };
  const dataConverter = converterOf(keys);
  worker = await system.startEditWorker({
    dataConverter,
    activities: { ...activities, computeTargets },
  });
  await Promise.all(processes.map((one) => one.start()));
}

/** A correction with the word in every free text. */
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

/** Submits four corrections with the word; resolves to the statuses of their outcomes. */
async function statusesOf(word: string): Promise<string[]> {
  const before = system.outcomes.records;
  const positions = await system.submit([
    correction('good', word),
    correction('more', word),
    correction('quarantined', word, { target: MISBEHAVING.ineffective }),
    correction('failing', word, { target: `impossible ${word}` }),
  ]);
  await system.outcomes.untilRecords(before + positions.length);
  return positions.map((position) => system.outcomes.of(position)[0]!.split(' ')[0]!);
}

/** Every event of every workflow, as the server sends it. */
async function rawHistories(): Promise<string> {
  const listed = await raw.workflowService.listWorkflowExecutions({ namespace, pageSize: 1_000 });
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
  const { HistoryEvent } = proto.temporal.api.history.v1;
  let text = '';
  let nextPageToken: Uint8Array | undefined;
  do {
    const page: Awaited<ReturnType<typeof raw.workflowService.getWorkflowExecutionHistory>> =
      await raw.workflowService.getWorkflowExecutionHistory({
        namespace,
        execution: { workflowId },
        ...(nextPageToken === undefined ? {} : { nextPageToken }),
      });
    for (const event of page.history?.events ?? [])
      text += Buffer.from(HistoryEvent.encode(event).finish()).toString('latin1');
    nextPageToken = page.nextPageToken.length > 0 ? page.nextPageToken : undefined;
  } while (nextPageToken !== undefined);
  return text;
}

/** The history of a workflow that fails in the sandbox: its one record gets two outcomes. */
async function historyOfFailing(workflowId: string, keys: string, word: string): Promise<string> {
  const fact = correction('good', word);
  const revision: CorrectionRevision = {
    kind: 'correction',
    factKey: factKeyOf(fact),
    position: { topic: topicsOf(LINEAGE).corrections, partition: 0, offset: '0' },
    correction: fact,
  };
  const duplicate = {
    lineage: LINEAGE,
    revisionId: fact.id,
    factKey: revision.factKey,
    status: 'DUPLICATE' as const,
    version: null,
    reason: null,
    measured: {},
    position: revision.position,
    batchId: workflowId,
    decidedAt: 0,
  };
  const input: EditBatchInput = {
    lineage: LINEAGE,
    batchId: workflowId,
    revisions: [revision],
    settled: [duplicate],
    shardEditsMax: 8,
    verdict: DEFAULT_LINEAGE_SETTINGS.verdict,
    editAttemptsMax: 60,
    findable: false,
  };
  const client = new Client({ connection: raw, namespace, dataConverter: converterOf(keys) });
  const options = { workflowId, taskQueue: WORKFLOW_TASK_QUEUE, args: [input] };
  await expect(client.workflow.execute(EDIT_BATCH_WORKFLOW, options)).rejects.toMatchObject({
    cause: { type: 'OutcomesMissing', message: expect.stringContaining(`${word}-good`) as string },
  });
  return await rawHistory(workflowId);
}

/** Temporal's database with its write-ahead log, and whatever else it writes. */
function onDisk(): string {
  const folder = path.join(system.folder, 'temporal');
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');
}

/** Calls Temporal with a client that has these keys. */
async function withKeys<T>(
  keys: string,
  call: (lineages: TemporalLineages) => Promise<T>,
): Promise<T> {
  const { address } = system.servers.temporal;
  const lineages = TemporalLineages.connect({ address }, namespace, converterOf(keys));
  try {
    return await call(lineages);
  } finally {
    await lineages.close();
  }
}

const statusWith = async (keys: string) =>
  (await withKeys(keys, (lineages) => lineages.status(LINEAGE)))!;

async function countFindable(id: string): Promise<number> {
  const query = `ErrataCorrections = "${id}"`;
  return Number((await raw.workflowService.countWorkflowExecutions({ namespace, query })).count);
}

describe('without keys', () => {
  beforeAll(() => restartWith(''), 600_000);

  test('whoever reads the histories or the disk reads corrections', TIMEOUT, async () => {
    expect(await statusesOf('Openwater')).toEqual(STATUSES);
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
    const failed = await historyOfFailing('failing-openly', '', 'Openwater');
    expect(failed).toContain('without exactly one outcome: Openwater');
  });

  test('batches are findable by correction', TIMEOUT, async () => {
    // Search attributes are in the clear. They are used once ingest has found them registered.
    await until(async () => (await countFindable('Openwater-good')) > 0);
  });
});

describe('with a key', () => {
  beforeAll(() => restartWith(OLD_KEY), 600_000);

  test('arguments, results and failures are hidden from then on', TIMEOUT, async () => {
    expect(await statusesOf('Hiddenwater')).toEqual(STATUSES);
    const text = await rawHistories();
    expect(text).toContain('binary/encrypted');
    expect(text).toContain('Encoded failure');
    expect(text).not.toContain('Hiddenwater');
    expect(await countFindable('Hiddenwater-good')).toBe(0);
    const disk = onDisk();
    expect(disk).toContain('Openwaterland');
    expect(disk).not.toContain('Hiddenwater');
    const failed = await historyOfFailing('failing-hidden', OLD_KEY, 'Hiddenwater');
    expect(failed).toContain('OutcomesMissing');
    expect(failed).not.toMatch(/without exactly one|Hiddenwater|edit-batch\.ts/);
  });
});

describe('with a new key and the old one', () => {
  beforeAll(() => restartWith(`${NEW_KEY},${OLD_KEY}`), 600_000);

  test('clients and replaying workflows read what either key hides', TIMEOUT, async () => {
    expect(await statusesOf('Deepwater')).toEqual(STATUSES);
    const text = await rawHistories();
    expect(text).toContain('2026');
    expect(text).not.toContain('Deepwater');
    // The state sums up outcomes from before the keys, under the first key and under the second.
    await until(async () => {
      const { outcomes } = await statusWith(NEW_KEY);
      return Object.values(outcomes).reduce((sum, count) => sum + count, 0) >= 12;
    });
    expect(await statusWith(NEW_KEY)).toMatchObject({
      lineage: LINEAGE,
      outcomes: { COMMITTED: 6, QUARANTINED: 6 },
    });
  });

  test.each([
    ['without keys', '', 'a payload is encrypted with the key "2026", and there are no keys here'],
    ['with another key', OLD_KEY, 'which is none of 2025'],
  ])('a client %s learns which key it lacks', async (_, keys, message) => {
    await expect(statusWith(keys)).rejects.toThrow(message);
  });

  test('a history is archived as Temporal has it, encrypted or not', TIMEOUT, async () => {
    const archive = system.versions.histories(LINEAGE);
    const { History } = proto.temporal.api.history.v1;
    const bytesOf = async (sequence: number): Promise<string> => {
      const workflowId = batchWorkflowId(LINEAGE, sequence);
      await until(async () => (await archive.latest(workflowId)) !== null);
      const history = historyOf((await archive.latest(workflowId))!.history!);
      return Buffer.from(History.encode(History.create(history)).finish()).toString('latin1');
    };
    expect(await bytesOf(0)).toContain('Lake Openwater good');
    const last = await bytesOf((await statusWith(NEW_KEY)).batches - 1);
    expect(last).toContain('binary/encrypted');
    expect(last).not.toContain('Deepwater');
  });
});

test('a batch waits while its workers lack the key, and nothing is lost', TIMEOUT, async () => {
  await worker!.stop();
  const lacking = await system.startEditWorker({ dataConverter: converterOf(OLD_KEY) });
  const before = system.outcomes.records;
  const workflowId = batchWorkflowId(LINEAGE, (await statusWith(NEW_KEY)).batches);
  const [position] = await system.submit([correction('patient', 'Stillwater')]);
  await until(async () => {
    const described = await raw.workflowService
      .describeWorkflowExecution({ namespace, execution: { workflowId } })
      .catch(() => null);
    const failure = described?.pendingActivities?.[0]?.lastFailure;
    const info = failure?.applicationFailureInfo ?? failure?.cause?.applicationFailureInfo;
    return info?.type === 'PayloadUnreadable';
  });
  await lacking.stop();
  await system.startEditWorker({ dataConverter: converterOf(NEW_KEY) });
  await system.outcomes.untilRecords(before + 1);
  expect(system.outcomes.of(position!)).toEqual([expect.stringMatching(/^COMMITTED/)]);
  expect(await rawHistories()).not.toContain('Stillwater');
});

test('the largest state that a lineage carries over fits, encrypted', async () => {
  const argument = { lineage: 'large', settings: DEFAULT_LINEAGE_SETTINGS, filling: '' };
  const filling = 'x'.repeat(CARRIED_BYTES_MAX - JSON.stringify(argument).length);
  await withKeys(NEW_KEY, async ({ client }) => {
    const start = (text: string) =>
      client.workflow.start('large', {
        workflowId: `large-${text.length}`,
        taskQueue: 'nobody',
        args: [{ ...argument, filling: text }],
      });
    await start(filling);
    // Temporal's own limit is near: twice as much is refused.
    await expect(start(filling.repeat(2))).rejects.toThrow();
  });
});

test('logs at level info hold no correction and no key', () => {
  for (const one of processes) {
    const { log } = one;
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
