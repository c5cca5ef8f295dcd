/**
 * A world as a run leaves it, made in a moment: the real steps of a batch on an engine without a
 * model, and topics that are lists.
 */
import { announceActivities } from '../../activities/announce.ts';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { deadLetter } from '../../pipelines/kafka/dead-letter.ts';
import { committedOutcomes, quarantined } from '../../pipelines/batch/outcomes.ts';
import { recordCodec } from '../../schemas/records/avro.ts';
import {
  revisionIssuedAt,
  type CorrectionRevision,
  type FactRevision,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/editing.ts';
import { Versions } from '../../versions/versions.ts';
import { correction, LINEAGE, retraction, TOPIC } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { runUndo, undoRequest } from '../activities/undo/undoing.ts';
import { FakeEngine, MISBEHAVING } from '../harness/fake-engine.ts';
import { MemoryStore } from '../versions/stores/memory-store.ts';
import type { TopicRecord, World } from './read-world.ts';

/**
 * `undone`: an operator undid the second version, and undid that, and moved an alias. `rolledBack`:
 * and went back to the first, alias first.
 */
export async function smallWorld({
  undone = false,
  rolledBack = false,
}: { undone?: boolean; rolledBack?: boolean } = {}): Promise<World> {
  const store = new MemoryStore();
  const versions = new Versions(store);
  const world: World = {
    lineage: LINEAGE,
    corrections: [],
    deadLetters: [],
    outcomes: [],
    versions: [],
    offsets: [],
    store: new Map(),
    undos: [],
    answers: null,
  };
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions }),
    ...createLedgerActivities({ versions }),
  };
  const append = (topic: TopicRecord[], value: Buffer): void =>
    void topic.push({
      partition: 0,
      offset: String(topic.length),
      timestamp: 0,
      key: null,
      value,
      headers: {},
    });
  const announcing = announceActivities({
    versions,
    announcer: {
      announceVersion: async (version) =>
        append(world.versions, recordCodec('hook-version').encode(version)),
      announceOutcomes: async (_, outcomes) =>
        outcomes.forEach((outcome) =>
          append(world.outcomes, recordCodec('correction-outcome').encode(outcome)),
        ),
    },
  });

  const edit = async (
    batchId: string,
    revisions: (CorrectionRevision | RetractionRevision)[],
    refused: CorrectionRevision[] = [],
  ): Promise<void> => {
    world.corrections.push(...[...revisions, ...refused].map(recordOf));
    const decision = { lineage: LINEAGE, batchId, decidedAt: 1 };
    const { plan, step, commit } = await runBatch(activities, batchId, revisions);
    const committed = await commit();
    if (committed.kind !== 'committed') throw new Error('HEAD moved');
    const outcomes: Outcome[] = [
      ...plan.settled,
      ...committedOutcomes(step.edits, plan, committed.version, decision),
      ...quarantined(
        refused,
        refused.map(({ correction: { id } }) => ({
          id,
          code: 'not-effective',
          reason: 'it does not hold',
          measured: {},
        })),
        decision,
      ),
    ];
    await announcing.announce({ lineage: LINEAGE, outcomes, version: committed.version });
  };

  const [a, b, c] = [correction('a'), correction('b'), correction('c')];
  await edit('batch-1', [a, b, c], [correction('weak', { target: MISBEHAVING.ineffective })]);
  await edit('batch-2', [
    correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }),
    retraction(b),
    correction('c'),
  ]);
  if (undone) {
    for (const version of [2, 3]) {
      await runUndo(activities, undoRequest(`u${version}`, { kind: 'version', version }));
      await announcing.announce({ lineage: LINEAGE, outcomes: [], version: version + 1 });
    }
    for (const [id, version] of [
      ['1', 2],
      ['2', null],
    ] as const)
      await versions
        .log(LINEAGE)
        .moveAlias({ alias: 'stable', version, reason: 'why', by: 'ops', id });
  }
  if (rolledBack) {
    await versions
      .log(LINEAGE)
      .moveAlias({ alias: 'stable', version: 1, reason: 'why', by: 'ops', id: 'rollback:u4' });
    await runUndo(activities, undoRequest('u4', { kind: 'rollback', version: 1 }));
    await announcing.announce({ lineage: LINEAGE, outcomes: [], version: 5 });
    await versions.log(LINEAGE).moveAlias({
      alias: 'stable',
      version: null,
      reason: 'why',
      by: 'ops',
      id: 'release:u4',
      takesBack: 'rollback:u4',
    });
  }
  const garbage: TopicRecord = {
    partition: 1,
    offset: '0',
    timestamp: 0,
    key: Buffer.from('k'),
    value: Buffer.from('garbage'),
    headers: {},
  };
  world.corrections.push(garbage);
  const letter = deadLetter(
    { ...garbage, topic: TOPIC, headers: {} },
    { className: 'UndecodableRecord', message: 'it is no Avro' },
  );
  world.deadLetters.push({
    ...garbage,
    partition: 0,
    headers: Object.fromEntries(
      Object.entries(letter.headers ?? {}).map(([name, value]) => [name, String(value)]),
    ),
  });
  const ends = world.corrections
    .filter(({ partition }) => partition === 0)
    .map(({ offset }) => Number(offset) + 1);
  world.offsets.push(
    { partition: 0, end: String(Math.max(...ends)), committed: String(Math.max(...ends)) },
    { partition: 1, end: '1', committed: '1' },
  );
  world.store = new Map([...store.objects].map(([name, bytes]) => [name, Buffer.from(bytes)]));
  return world;
}

function recordOf(revision: FactRevision): TopicRecord {
  const { partition, offset } = revision.position;
  const value =
    revision.kind === 'correction'
      ? recordCodec('fact-correction').encode(revision.correction)
      : null;
  return {
    partition,
    offset,
    timestamp: revisionIssuedAt(revision),
    key: Buffer.from(revision.factKey),
    value,
    headers: {},
  };
}
