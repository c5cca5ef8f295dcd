/** Tests `errata failures`: each kind of failure in a lineage of its own, with its fix. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { workflowFailures } from '../../operations/failures/workflow-failures.ts';
import { deadLetter } from '../../pipelines/kafka/dead-letter.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import {
  batchWorkflowId,
  editTaskQueue,
  WORKFLOW_TASK_QUEUE,
} from '../../pipelines/workflows/contract.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import {
  servers,
  cluster,
  sender,
  lineages,
  versions,
  ill,
  errata,
  failuresOf,
  until,
  correction,
  accept,
  outcome,
} from './failing-lineages.ts';

test('finds nothing where nothing failed', async () => {
  expect(await failuresOf('quiet')).toEqual({
    code: 0,
    failures: [],
    unseen: [],
    more: 0,
    healed: 0,
  });
  expect((await errata('failures --lineage quiet')).out).toContain('No failure is open.');
});

test('lists open quarantined corrections, the newest first', async () => {
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
      cause: 'the model does not give it as its answer (verdict), in batch 000000-0000000000000000',
      measured: { efficacy: 0.25 },
      heal: "errata resubmit quarantined 'o'\\''brien' --lineage quarantined --set target=...",
    },
    expect.objectContaining({ subject: 'older' }),
  ]);
});

test('lists dead letters with their reason, unless their record was accepted since', async () => {
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
  // It came back because it was resubmitted unchanged.
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

test('lists corrections that no ingest reads', async () => {
  await submitCorrections(sender, SINGLE_OBJECT_FORMAT, [
    correction('waiting', 'a'),
    correction('waiting', 'b'),
  ]);
  expect((await failuresOf('waiting')).failures).toMatchObject([
    { kind: 'ingest', cause: '2 records wait, and no ingest reads them', heal: 'errata up' },
  ]);
});

test('lists a topic that was created again', async () => {
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

test('lists a frozen lineage with its batch, once, until it is resumed and settled', async () => {
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

test('lists an activity that keeps failing, with its fix', async () => {
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

test('lists a task queue without a worker', async () => {
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

test('lists a terminated batch until its corrections have other outcomes', async () => {
  await accept('terminated', 0, correction('terminated', 'a'));
  const batch = lineages.client.workflow.getHandle(batchWorkflowId('terminated', 0));
  await until(
    () => failuresOf('terminated'),
    ({ failures }) =>
      failures.some(
        ({ kind, cause }) => kind === 'activity' && cause.includes('the store is away'),
      ),
  );
  // The lineage would retry it; once its own workflow has ended, nothing does.
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

test('lists a terminated undo, and a workflow whose next step keeps failing', async () => {
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

test('lists a damaged version log', async () => {
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

test('names what could not be searched while Temporal and Kafka are down', async () => {
  const away = { ERRATA_TEMPORAL_ADDRESS: '127.0.0.1:1', ERRATA_KAFKA_BROKERS: undefined };
  const found = await failuresOf('quarantined', away);
  expect(found.failures).toHaveLength(2);
  expect(found.unseen).toMatchObject([
    expect.stringContaining('Kafka does not run here'),
    expect.stringContaining('Temporal does not answer'),
  ]);
  const nowhere = { ERRATA_TEMPORAL_ADDRESS: undefined, ERRATA_KAFKA_BROKERS: undefined };
  expect(await failuresOf('quiet', nowhere)).toMatchObject({ code: 3, failures: [] });
  const { out } = await errata('failures --lineage quiet', nowhere);
  expect(out).toMatch(/not searched: .*Kafka does not run here/);
});
