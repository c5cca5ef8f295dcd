/**
 * Histories survive Temporal: a real server is made to forget a batch, which is then read and
 * replayed from the archive.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import { main } from '../../../cli/main.ts';
import type { EmbeddedTemporal } from '../../../infra/local/temporal.ts';
import { shelfOf } from '../../../infra/processes/start-archiver.ts';
import { HistoryArchiver } from '../../../pipelines/temporal/history-archiver.ts';
import { historyOf, timelineOf } from '../../../pipelines/temporal/history-timeline.ts';
import type { Logger } from '../../../pipelines/logger.ts';
import { payloadConverter } from '../../../pipelines/temporal/payload-codec.ts';
import { TemporalLineages } from '../../../pipelines/temporal/temporal-client.ts';
import { TemporalRuns } from '../../../pipelines/temporal/temporal-runs.ts';
import { bundleWorkflows } from '../../../pipelines/temporal/workflow-bundle.ts';
import {
  batchWorkflowId,
  editTaskQueue,
  lineageWorkflowId,
  LINEAGE_WORKFLOW,
  WORKFLOW_TASK_QUEUE,
  type LineageInput,
} from '../../../pipelines/workflows/contract.ts';
import { VersionLogDamaged } from '../../../versions/log/failures.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { versionsInFolder, type Versions } from '../../../versions/versions.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { startTestTemporal } from '../../harness/servers/local.ts';
import { correctionAt, factCorrection, LINEAGE, TOPIC } from '../../harness/corrections.ts';
import { quietRuntime } from '../../harness/time-skipping.ts';

const BATCHES = 4;
/** The lineage's second batch fails once before it is settled. */
const FAILING = 1;
const KEYS = [{ name: 'k', key: Buffer.alloc(32, 7) }];
const SETTINGS = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, batchEditsMax: 1, batchWaitMs: 0 },
  findable: true,
};

let folder: string;
let server: EmbeddedTemporal;
let lineages: TemporalLineages;
let runs: TemporalRuns;
let connection: NativeConnection;
let workers: { worker: Worker; done: Promise<void> }[] = [];
let versions: Versions;
const warnings: object[] = [];
const logger: Logger = {
  debug() {},
  info() {},
  warn: (fields) => void warnings.push(fields),
  error() {},
};

beforeAll(async () => {
  quietRuntime();
  folder = mkdtempSync(path.join(tmpdir(), 'errata-test-'));
  server = await startTestTemporal(folder);
  const dataConverter = payloadConverter(KEYS);
  lineages = TemporalLineages.connect({ address: server.address }, server.namespace, dataConverter);
  runs = new TemporalRuns(lineages.client);
  connection = await NativeConnection.connect({ address: server.address });
  versions = versionsInFolder(path.join(folder, 'versions'));
  const ledger = createLedgerActivities({ versions });
  let failures = 0;
  const activities = {
    ...ledger,
    announce: async ({ outcomes }: { outcomes: Outcome[] }) =>
      await (await versions.log(LINEAGE).register()).settle(outcomes),
    planBatch: async (step: Parameters<typeof ledger.planBatch>[0]) => {
      if (step.batchId.startsWith(String(FAILING).padStart(6, '0')) && failures++ === 0)
        throw new VersionLogDamaged(LINEAGE, 'somewhere', 'a disk was taken out');
      return await ledger.planBatch(step);
    },
  };
  const options = { connection, namespace: server.namespace, dataConverter };
  workers = await Promise.all([
    Worker.create({
      ...options,
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowBundle: await bundleWorkflows(undefined, dataConverter),
      activities,
    }),
    Worker.create({
      ...options,
      taskQueue: editTaskQueue(LINEAGE),
      activities: createEditActivities({ engine: new FakeEngine(), versions }),
    }),
  ]).then((created) => created.map((worker) => ({ worker, done: worker.run() })));
  const input: LineageInput = {
    lineage: LINEAGE,
    settings: SETTINGS,
    carried: null,
    historyEventsMax: 30,
  };
  await lineages.client.workflow.start(LINEAGE_WORKFLOW, {
    workflowId: lineageWorkflowId(LINEAGE),
    taskQueue: WORKFLOW_TASK_QUEUE,
    args: [input],
  });
  for (let i = 0; i < BATCHES; i++) {
    const answer = await lineages.accept(LINEAGE, SETTINGS, {
      topic: TOPIC,
      partition: 0,
      firstOffset: String(i),
      throughOffset: String(i),
      endOffset: '1000',
      readFrom: '0',
      run: null,
      revisions: [correctionAt(i, factCorrection(`c${i}`))],
    });
    expect(answer.kind).toBe('accepted');
  }
  await until(
    async () =>
      (await versions.log(LINEAGE).read()).head.version === BATCHES &&
      (await statusOf(batchWorkflowId(LINEAGE, BATCHES - 1))) === 'COMPLETED',
  );
});

afterAll(async () => {
  for (const { worker } of workers) worker.shutdown();
  await Promise.all(workers.map(({ done }) => done));
  await connection?.close();
  await lineages?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const archiver = () =>
  new HistoryArchiver({
    lineages: [LINEAGE],
    runs,
    shelf: (lineage) => shelfOf(versions, lineage),
    logger,
  });

async function statusOf(workflowId: string, runId?: string): Promise<string | undefined> {
  return (await runs.describe(workflowId, runId))?.run.status;
}

/** Polls until the condition holds; the test's own time limit ends it otherwise. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function errata(
  args: string[],
  more: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const into = (name: 'out' | 'err') =>
    new Writable({ write: (chunk: Buffer, _, done) => ((said[name] += chunk.toString()), done()) });
  const environment = {
    ERRATA_HOME: folder,
    ERRATA_VERSIONS: path.join(folder, 'versions'),
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_TEMPORAL_ADDRESS: server.address,
    ERRATA_TEMPORAL_NAMESPACE: server.namespace,
    ERRATA_TEMPORAL_PAYLOAD_KEYS: `k:${KEYS[0]!.key.toString('base64')}`,
    NO_COLOR: '1',
    COLUMNS: '160',
    ...more,
  };
  const code = await main(args, {
    in: process.stdin,
    out: into('out'),
    err: into('err'),
    environment,
    workingDirectory: folder,
  });
  return { code, ...said };
}

it('histories are found in Temporal by correction, outcome and version', async () => {
  const found = async (query: string) => {
    const ids: string[] = [];
    for await (const { workflowId } of runs.list(query)) ids.push(workflowId);
    return ids;
  };
  await until(
    async () =>
      (
        await found(
          `ErrataLineage = "${LINEAGE}" AND ErrataVersion = 2 AND WorkflowType = "editBatch"`,
        )
      ).length > 0,
  );
  await until(async () =>
    (await found('ErrataCorrections = "c2" AND ErrataOutcomes = "COMMITTED"')).includes(
      batchWorkflowId(LINEAGE, 2),
    ),
  );
});

it('histories are archived once their runs have completed, failed or continued', async () => {
  const archive = versions.histories(LINEAGE);
  // Temporal's listings lag a little.
  await until(
    async () => (
      await archiver().catchUp(LINEAGE),
      (await archive.runIds(batchWorkflowId(LINEAGE, FAILING))).length === 2
    ),
  );
  expect((await archive.latest(batchWorkflowId(LINEAGE, FAILING)))?.status).toBe('COMPLETED');
  const ofFailing = await Promise.all(
    (await archive.runIds(batchWorkflowId(LINEAGE, FAILING))).map((runId) =>
      archive.get({ workflowId: batchWorkflowId(LINEAGE, FAILING), runId }),
    ),
  );
  expect(ofFailing.map((run) => run?.status).sort()).toEqual(['COMPLETED', 'FAILED']);
  expect((await archive.latest(lineageWorkflowId(LINEAGE)))?.status).toBe('CONTINUED_AS_NEW');
  for (const { entry } of await versions.log(LINEAGE).entries(1, BATCHES))
    expect(await archive.has(entry.workflow)).toBe(true);
  // A second archiving changes nothing.
  expect(await archiver().catchUp(LINEAGE)).toEqual({ archived: 0, lost: 0 });
  expect((await versions.verify(LINEAGE)).findings).toEqual([]);
});

it('histories stay encrypted in the archive and name the missing key', async () => {
  const kept = await versions.histories(LINEAGE).latest(batchWorkflowId(LINEAGE, 2));
  expect(kept!.history).not.toContain(Buffer.from('"c2"').toString('base64').slice(1, 5));
  const shown = await errata(['history', 'c2'], { ERRATA_TEMPORAL_PAYLOAD_KEYS: undefined });
  expect(shown).toMatchObject({ code: 0, err: '' });
  expect(shown.out).toContain('encrypted with the key "k"');
  expect(shown.out).toContain('commitVersion');
});

it('forgotten histories are shown and replayed with nothing running', async () => {
  const workflow = (await versions.log(LINEAGE).entry(3)).entry.workflow;
  const before = await errata(['history', '3', '--json']);
  expect((await errata(['history', '3'])).out).toContain('from      Temporal');
  const { workflowId, runId } = workflow;
  await lineages.client.workflowService.deleteWorkflowExecution({
    namespace: server.namespace,
    workflowExecution: { workflowId, runId },
  });
  await until(async () => (await statusOf(workflowId, runId)) === undefined);
  for (const what of ['3', 'c2', workflowId]) {
    const { code, out } = await errata(['history', what]);
    expect(code).toBe(0);
    expect(out).toContain('Temporal no longer has it');
    expect(out).toMatch(/planBatch +completed/);
    expect(out).toMatch(/runProbes +completed/);
  }
  const after = await errata(['history', '3', '--json']);
  expect(JSON.parse(after.out)).toEqual(JSON.parse(before.out));
  const history = JSON.parse(after.out) as object;
  const replay = {
    workflowBundle: await bundleWorkflows(undefined, payloadConverter(KEYS)),
    dataConverter: payloadConverter(KEYS),
  };
  await Worker.runReplayHistory(replay, history, workflowId);
  const alone = await errata(['history', '3'], { ERRATA_TEMPORAL_ADDRESS: undefined });
  expect(alone.code).toBe(0);
  expect(alone.out).toContain('Temporal was not asked');
  expect((await errata(['history', 'edit-batch/none/3'])).code).toBe(2);
  expect((await errata(['history', 'never'])).err).toContain('never decided');
});

it('histories of failed runs show the failure and its reason', async () => {
  const archive = versions.histories(LINEAGE);
  const runIds = await archive.runIds(batchWorkflowId(LINEAGE, FAILING));
  for (const runId of runIds) {
    const { history, status } = (await archive.get({
      workflowId: batchWorkflowId(LINEAGE, FAILING),
      runId,
    }))!;
    if (status !== 'FAILED') continue;
    const steps = await timelineOf(historyOf(history!), payloadConverter(KEYS));
    expect(steps.map(({ event }) => event)).toEqual([
      'workflow started',
      'activity',
      'workflow failed',
    ]);
    const { out } = await errata(['history', batchWorkflowId(LINEAGE, FAILING), '--run', runId]);
    expect(out).toMatch(/planBatch +failed/);
    expect(out).toContain('VersionLogDamaged: ');
    expect(out).toContain('a disk was taken out');
  }
});

it('lost histories are reported once', async () => {
  const version = 1;
  const { workflowId, runId } = (await versions.log(LINEAGE).entry(version)).entry.workflow;
  const nothing = new HistoryArchiver({
    lineages: [LINEAGE],
    runs: { list: async function* () {}, describe: async () => null, history: async () => null },
    shelf: (lineage) => ({
      ...shelfOf(versions, lineage),
      has: async (run) => run.runId !== runId,
    }),
    logger,
  });
  expect(await nothing.catchUp(LINEAGE)).toEqual({ archived: 0, lost: 1 });
  expect(await nothing.catchUp(LINEAGE)).toEqual({ archived: 0, lost: 1 });
  expect(warnings).toEqual([{ lineage: LINEAGE, version, workflowId, runId }]);
});
