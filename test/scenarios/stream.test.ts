/**
 * The whole stream on a real broker and a real Temporal server, with the processes of ingest and of
 * the workflows as they are in production; only the edit worker has an engine without a model.
 */
import { beforeAll, expect, test } from 'vitest';
import type { RecordPosition } from '../../pipelines/kafka/records.ts';
import { submitRetractions } from '../../pipelines/kafka/submit.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { factKeyOf, type FactCorrection } from '../../schemas/correction.ts';
import { factCorrection } from '../harness/corrections.ts';
import { MISBEHAVING } from '../harness/fake-engine.ts';
import type { HeardOutcomes } from '../harness/heard-outcomes.ts';
import type { OurProcess } from '../harness/our-process.ts';
import { startTestKafka, startTestTemporal } from '../harness/servers/local.ts';
import { TestSystem } from '../harness/test-system.ts';
import { until } from '../harness/until.ts';

const LINEAGE = 'stream';
// Each kill costs a session of the consumer group or a task's timeout; a loaded machine multiplies
// them.
const TIMEOUT = { timeout: 600_000 };

let system: TestSystem;
let outcomes: HeardOutcomes;
let ingest: OurProcess;
let workflows: OurProcess;
/** The first forty corrections, which are committed. */
let committed: RecordPosition[];

beforeAll(async () => {
  system = await TestSystem.start({
    lineages: [LINEAGE],
    settings: () => ({ ERRATA_BATCH_EDITS_MAX: '8', ERRATA_BUFFER_EDITS_MAX: '16' }),
  });
  ({ outcomes } = system);
  ingest = system.process('ingest');
  workflows = system.process('workflow-worker');
  await system.startEditWorker();
});

const correction = (id: string, more: Partial<FactCorrection> = {}): FactCorrection => {
  const subject = more.subject ?? `Subject ${id}.`;
  return factCorrection(id, {
    lineage: LINEAGE,
    subject,
    paraphrases: [`One finds ${subject} in`],
    neighbourhood: [`Neighbour of ${id} is in`],
    ...more,
  });
};

const corrections = (prefix: string, count: number): FactCorrection[] =>
  Array.from({ length: count }, (_, i) => correction(`${prefix}${i}`));

function expectOutcomes(positions: RecordPosition[], ...expected: string[]): void {
  for (const position of positions)
    expect(outcomes.of(position)).toEqual(
      expected.map((outcome): unknown => expect.stringMatching(new RegExp(`^${outcome}`))),
    );
}

test('each record gets one outcome, whichever process is killed', TIMEOUT, async () => {
  await workflows.start();
  await ingest.start();
  committed = await system.submit(corrections('a', 40));
  const unsound = await system.submit(
    [correction('b0', { prompt: 'names no subject' }), correction('b1', { target: ' ' })],
    { unsound: 'send' },
  );
  const undecodable = await system.sender.send(topicsOf(LINEAGE).corrections, [
    { key: 'x|y', value: Buffer.from('{"id": 1}') },
    { key: null, value: null },
    { key: 'k', value: Buffer.alloc(70_000, 1) },
  ]);
  const refused = await system.submit([
    correction('i0', { target: MISBEHAVING.ineffective }),
    correction('i1', { target: MISBEHAVING.gibberish }),
  ]);
  await outcomes.untilRecords(20);

  await ingest.kill();
  const withoutIngest = await system.submit(corrections('c', 40));
  await ingest.start();
  await outcomes.untilRecords(60);

  await workflows.kill();
  const withoutWorkflows = await system.submit(corrections('d', 20));
  await workflows.start();
  await outcomes.untilRecords(100);
  await Promise.all([ingest.kill(), workflows.kill()]);
  await Promise.all([workflows.start(), ingest.start()]);
  await outcomes.untilRecords(107);

  expectOutcomes([...committed, ...withoutIngest, ...withoutWorkflows], 'COMMITTED \\d+$');
  expectOutcomes(refused, 'QUARANTINED$');
  expectOutcomes(unsound, 'DEAD UnsoundCorrection$');
  expect(undecodable.map((position) => outcomes.of(position))).toEqual([
    ['DEAD UndecodableRecord'],
    ['DEAD UnsoundKey'],
    ['DEAD RecordTooLarge'],
  ]);
});

test('a record about a committed fact is judged by its id and its time', TIMEOUT, async () => {
  const before = outcomes.records;
  const again = await system.submit([correction('a0')]);
  const later = await system.submit([
    correction('a1-later', { subject: 'Subject a1.', target: 'Oslo', issuedAt: 2_000 }),
  ]);
  await outcomes.untilRecords(before + 2);
  const older = await system.submit([
    correction('a1-older', { subject: 'Subject a1.', target: 'Bern', issuedAt: 1_500 }),
  ]);
  const [retracted, unknown] = await submitRetractions(system.sender, LINEAGE, [
    factKeyOf(correction('a2')),
    'never|submitted',
  ]);
  const refusedBefore = await system.submit([
    correction('i0', { target: MISBEHAVING.ineffective }),
  ]);
  // As old as the committed a3: neither is believed.
  const contradicting = await system.submit([
    correction('a3-denied', { subject: 'Subject a3.', target: 'Oslo' }),
  ]);
  await outcomes.untilRecords(before + 7);

  expectOutcomes(again, 'DUPLICATE \\d+$');
  expectOutcomes(later, 'COMMITTED');
  expectOutcomes([committed[1]!], 'COMMITTED', 'SUPERSEDED');
  expectOutcomes(older, 'SUPERSEDED');
  expectOutcomes([retracted!], 'RETRACTED');
  expectOutcomes([committed[2]!], 'COMMITTED', 'RETRACTED');
  expectOutcomes([unknown!], 'NOTHING_TO_RETRACT$');
  expectOutcomes(refusedBefore, 'DUPLICATE');
  expectOutcomes(contradicting, 'QUARANTINED$');
  expectOutcomes([committed[3]!], 'COMMITTED', 'QUARANTINED');
});

test('each correction is in one version, and every version was announced', async () => {
  const log = system.versions.log(LINEAGE);
  const entries = await log.entries(1, (await log.read()).head.version);
  const added = entries.flatMap(({ entry }) => entry.added.map(({ correctionId }) => correctionId));
  expect(added).toHaveLength(101);
  expect(new Set(added).size).toBe(101);
  const numbers = entries.map(({ entry }) => entry.version);
  expect([...outcomes.versions].sort((a, b) => a - b)).toEqual(numbers);
  expect(await system.lag()).toBe(0);
  expect((await system.temporal.status(LINEAGE))!.waiting).toBe(0);
});

test('records wait at a full buffer, keep their place, and flow on', TIMEOUT, async () => {
  const { temporal } = system;
  await temporal.freeze(LINEAGE, 'looking at it');
  const records = await system.submit(corrections('f', 60));
  // The buffer takes 16; the rest stays in Kafka, uncommitted.
  await until(async () => {
    const [lag, status] = [await system.lag(), (await temporal.status(LINEAGE))!];
    return status.waiting > 0 && lag > 0 && lag <= 60;
  });
  expect((await temporal.status(LINEAGE))!.waiting).toBeLessThanOrEqual(60);
  const before = outcomes.records;
  await ingest.kill();
  await ingest.start();
  expect(outcomes.records).toBe(before);
  await temporal.resume(LINEAGE);
  await outcomes.untilRecords(before + 60);
  expectOutcomes(records, 'COMMITTED');
  expect(await system.lag()).toBe(0);
});

test('the stream survives a Temporal that is killed, and a Kafka', TIMEOUT, async () => {
  const { servers } = system;
  const before = outcomes.records;
  process.kill(servers.temporal.pid, 'SIGKILL');
  const first = await system.submit(corrections('t', 12));
  await startTestTemporal(servers.folder);
  await outcomes.untilRecords(before + 12);
  process.kill(servers.kafka.pid, 'SIGKILL');
  const sending = system.submit(corrections('k', 12));
  await startTestKafka(servers.folder);
  const second = await sending;
  await outcomes.untilRecords(before + 24);
  expectOutcomes([...first, ...second], 'COMMITTED');
});

test('processes that are asked to stop end with exit code 0', async () => {
  expect(await ingest.stop()).toBe(0);
  expect(await workflows.stop()).toBe(0);
});
