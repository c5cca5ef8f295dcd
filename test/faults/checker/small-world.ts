/** A world like the result of a run, made by the real steps of a batch; its topics are lists. */
import { announceActivities } from '../../../activities/announce.ts';
import { deadLetter } from '../../../pipelines/kafka/dead-letter.ts';
import { committedOutcomes, quarantined } from '../../../pipelines/batch/outcomes.ts';
import { recordCodec } from '../../../schemas/records/avro.ts';
import {
  revisionIssuedAt,
  type CorrectionRevision,
  type FactRevision,
  type RetractionRevision,
} from '../../../schemas/correction.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import { runUndo, undoRequest } from '../../harness/undo-run.ts';
import { correction, LINEAGE, retraction, TOPIC } from '../../harness/corrections.ts';
import { MISBEHAVING } from '../../harness/fake-engine.ts';
import { runBatch, testLineage } from '../../harness/test-lineage.ts';
import type { TopicRecord, World } from './world.ts';

/**
 * `undone`: an operator undoes version 2, undoes that undo, and moves an alias. `rolledBack`: the
 * operator then rolls back to version 1, the alias first.
 */
export async function smallWorld({
  undone = false,
  rolledBack = false,
}: { undone?: boolean; rolledBack?: boolean } = {}): Promise<World> {
  const lineage = new SmallLineage();
  const [a, b, c] = [correction('a'), correction('b'), correction('c')];
  const weak = correction('weak', { target: MISBEHAVING.ineffective });
  const a2 = correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 });
  await lineage.edit('batch-1', [a, b, c], [weak]);
  await lineage.edit('batch-2', [a2, retraction(b), correction('c')]);
  if (undone) {
    for (const version of [2, 3]) await lineage.undo(`u${version}`, { kind: 'version', version });
    await lineage.moveAlias('1', 2);
    await lineage.moveAlias('2', null);
  }
  if (rolledBack) {
    await lineage.moveAlias('rollback:u4', 1);
    await lineage.undo('u4', { kind: 'rollback', version: 1 });
    await lineage.moveAlias('release:u4', null, 'rollback:u4');
  }
  return lineage.end();
}

class SmallLineage {
  readonly #lineage = testLineage();
  readonly #world: World = {
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
  readonly #announcing = announceActivities({
    versions: this.#lineage.versions,
    announcer: {
      announceVersion: async (version) =>
        append(this.#world.versions, recordCodec('hook-version').encode(version)),
      announceOutcomes: async (_, outcomes) =>
        outcomes.forEach((outcome) =>
          append(this.#world.outcomes, recordCodec('correction-outcome').encode(outcome)),
        ),
    },
  });

  /** Runs a batch up to its commit and announces it; `refused` are quarantined beside it. */
  async edit(
    batchId: string,
    revisions: (CorrectionRevision | RetractionRevision)[],
    refused: CorrectionRevision[] = [],
  ): Promise<void> {
    this.#world.corrections.push(...[...revisions, ...refused].map(recordOf));
    const decision = { lineage: LINEAGE, batchId, decidedAt: 1 };
    const { plan, step, commit } = await runBatch(this.#lineage.activities, batchId, revisions);
    const committed = await commit();
    if (committed.kind !== 'committed') throw new Error('HEAD moved');
    const { version } = committed;
    const refusals = refused.map(({ correction: { id } }) => ({
      id,
      code: 'not-effective' as const,
      reason: 'it has no effect',
      measured: {},
    }));
    const outcomes: Outcome[] = [
      ...plan.settled,
      ...committedOutcomes(step.edits, plan, version, decision),
      ...quarantined(refused, refusals, decision),
    ];
    await this.#announcing.announce({ lineage: LINEAGE, outcomes, version });
  }

  async undo(id: string, target: Parameters<typeof undoRequest>[1]): Promise<void> {
    const { version } = await runUndo(this.#lineage.activities, undoRequest(id, target));
    await this.#announcing.announce({ lineage: LINEAGE, outcomes: [], version: version! });
  }

  async moveAlias(id: string, version: number | null, takesBack?: string): Promise<void> {
    const move = { alias: 'stable', version, reason: 'why', by: 'ops', id };
    await this.#lineage.log.moveAlias(takesBack === undefined ? move : { ...move, takesBack });
  }

  /** The world with an undecodable record and its dead letter. */
  end(): World {
    const world = this.#world;
    const garbage: TopicRecord = {
      partition: 1,
      offset: '0',
      timestamp: 0,
      key: Buffer.from('k'),
      value: Buffer.from('garbage'),
      headers: {},
    };
    world.corrections.push(garbage);
    const { headers = {} } = deadLetter(
      { ...garbage, topic: TOPIC, headers: {} },
      { className: 'UndecodableRecord', message: 'it is not Avro' },
    );
    const texts = Object.entries(headers).map(([name, value]) => [name, String(value)]);
    const letter = { ...garbage, partition: 0, headers: Object.fromEntries(texts) as object };
    world.deadLetters.push(letter as TopicRecord);
    const ends = world.corrections.filter(({ partition }) => partition === 0);
    const end = String(Math.max(...ends.map(({ offset }) => Number(offset) + 1)));
    world.offsets.push(
      { partition: 0, end, committed: end },
      { partition: 1, end: '1', committed: '1' },
    );
    const { objects } = this.#lineage.store;
    world.store = new Map([...objects].map(([name, bytes]) => [name, Buffer.from(bytes)]));
    return world;
  }
}

function append(topic: TopicRecord[], value: Buffer): void {
  const offset = String(topic.length);
  topic.push({ partition: 0, offset, timestamp: 0, key: null, value, headers: {} });
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
