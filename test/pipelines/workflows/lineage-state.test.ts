import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  BUFFER_FULL,
  CHUNK_REVISIONS_MAX,
  CHUNK_UNSOUND,
  RECORDS_MISSING,
  TOPIC_RECREATED,
  type RevisionChunk,
} from '../../../pipelines/workflows/contract.ts';
import { noOutcomes } from '../../../pipelines/batch/outcomes.ts';
import { LineageState } from '../../../pipelines/workflows/lineage-state.ts';
import { revisionId, type FactRevision } from '../../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS, type BatchSettings } from '../../../schemas/settings.ts';
import {
  collidingRevisions,
  correctionAt,
  factCorrection,
  LINEAGE,
  TOPIC,
} from '../../harness/corrections.ts';

function stateWith(batch: Partial<BatchSettings> = {}): LineageState {
  return new LineageState({
    lineage: LINEAGE,
    settings: {
      ...DEFAULT_LINEAGE_SETTINGS,
      batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, ...batch },
    },
    carried: null,
  });
}

function chunkOf(revisions: readonly FactRevision[]): RevisionChunk {
  const { partition, offset } = revisions[0]!.position;
  return {
    topic: TOPIC,
    partition,
    firstOffset: offset,
    throughOffset: revisions.at(-1)!.position.offset,
    endOffset: '99999999999999999999',
    readFrom: '0',
    run: RUN,
    revisions: [...revisions],
  };
}

const RUN = 'run';

const some = (from: number, count: number): FactRevision[] =>
  Array.from({ length: count }, (_, i) => correctionAt(from + i, factCorrection(`c${from + i}`)));
const nothing = { head: null, versions: [], outcomes: noOutcomes() };

it('each record goes into one batch, for any chunks, repetitions and continuations', () => {
  fc.assert(
    fc.property(
      collidingRevisions,
      fc.array(fc.nat(5), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 4 }),
      (revisions, cuts, editsMax) => {
        let state = stateWith({ batchEditsMax: editsMax, batchWaitMs: 0 });
        const seen: string[] = [];
        const drain = (): void => {
          while ((state.nextStep()?.dueAt ?? Infinity) <= 1e12) {
            const batch = state.startBatch(1);
            seen.push(
              ...batch.revisions.map(({ position }) => position.offset),
              ...batch.settled.map(({ position }) => position.offset),
            );
            state.batchSettled(nothing, 1);
          }
        };
        for (const partition of [0, 1, 2]) {
          const own = revisions.filter(({ position }) => position.partition === partition);
          let at = 0;
          for (const step of cuts) {
            // A chunk may start before the last accepted offset: a redelivery.
            const chunk = own.slice(Math.max(0, at - 2), at + step);
            if (chunk.length > 0 && state.refusalOf(chunkOf(chunk), RUN) === null) {
              state.accept(chunkOf(chunk), 0);
              at = Math.max(at, Math.min(own.length, at + step));
            }
            if (step % 2 === 0)
              state = new LineageState({
                lineage: LINEAGE,
                ...(JSON.parse(JSON.stringify(state.carried())) as ReturnType<
                  LineageState['carried']
                >),
              });
            if (step % 3 === 0) drain();
          }
          if (at < own.length) state.accept(chunkOf(own.slice(at)), 0);
        }
        drain();
        expect(seen.sort()).toEqual(revisions.map(({ position }) => position.offset).sort());
      },
    ),
  );
});

it('a chunk that would exceed a bound is refused, except with an empty buffer', () => {
  const state = stateWith({ bufferEditsMax: 3, batchEditsMax: 100 });
  expect(state.refusalOf(chunkOf(some(0, 5)), RUN)).toBeNull();
  state.accept(chunkOf(some(0, 2)), 0);
  expect(state.refusalOf(chunkOf(some(2, 1)), RUN)).toBeNull();
  expect(state.refusalOf(chunkOf(some(2, 2)), RUN)?.type).toBe(BUFFER_FULL);
  // Revisions accepted earlier do not count again.
  expect(state.refusalOf(chunkOf(some(0, 3)), RUN)).toBeNull();
  const tight = stateWith({ bufferBytesMax: 400 });
  tight.accept(chunkOf(some(0, 1)), 0);
  expect(tight.refusalOf(chunkOf(some(1, 1)), RUN)?.message).toMatch(/bytes would wait/);
});

// Regression: a reset repeats the accepted chunks to the run; when it refused some for lack of
// room, its history could not be replayed.
it('a chunk whose sender knows another run is accepted, whatever is waiting', () => {
  const state = stateWith({ bufferEditsMax: 3 });
  state.accept(chunkOf(some(0, 3)), 0);
  expect(state.refusalOf(chunkOf(some(3, 3)), RUN)?.type).toBe(BUFFER_FULL);
  expect(state.refusalOf(chunkOf(some(3, 3)), 'the run after a reset')).toBeNull();
});

// Regression: after a reset without updates, or after a terminated lineage was replaced, records
// with committed offsets were lost.
it('a chunk that does not follow the last accepted offset is refused with that offset', () => {
  const state = stateWith();
  const behind = (from: number, readFrom: number) =>
    state.refusalOf({ ...chunkOf(some(from, 2)), readFrom: String(readFrom) }, RUN);
  expect(behind(4, 4)).toMatchObject({ type: RECORDS_MISSING, throughOffset: '-1' });
  expect(behind(4, 0)).toBeNull();
  state.accept({ ...chunkOf(some(4, 2)), readFrom: '0' }, 0);
  expect(behind(9, 7)).toMatchObject({ type: RECORDS_MISSING, throughOffset: '5' });
  expect(behind(9, 6)).toBeNull();
  expect(behind(4, 4)).toBeNull();
});

it('unsound chunks are refused', () => {
  const state = stateWith();
  const fault = (change: (chunk: RevisionChunk) => void): string | undefined => {
    const chunk = structuredClone(chunkOf(some(0, 3)));
    change(chunk);
    return state.refusalOf(chunk, RUN)?.type;
  };
  expect(fault(() => undefined)).toBeUndefined();
  expect(fault((chunk) => (chunk.topic = 'errata.other.corrections'))).toBe(CHUNK_UNSOUND);
  expect(fault((chunk) => chunk.revisions.reverse())).toBe(CHUNK_UNSOUND);
  expect(fault((chunk) => (chunk.throughOffset = '1'))).toBe(CHUNK_UNSOUND);
  expect(fault((chunk) => (chunk.revisions[1]!.position.partition = 4))).toBe(CHUNK_UNSOUND);
  expect(fault((chunk) => (chunk.revisions = some(0, CHUNK_REVISIONS_MAX + 1)))).toBe(
    CHUNK_UNSOUND,
  );
});

// Regression: records of a recreated topic start at offset 0 and were all treated as redelivered.
it('records of a recreated topic are refused until positions are forgotten', () => {
  const state = stateWith();
  state.accept(chunkOf(some(0, 5)), 0);
  const anew = { ...chunkOf(some(0, 2)), endOffset: '2' };
  expect(state.refusalOf(anew, RUN)?.type).toBe(TOPIC_RECREATED);
  expect(state.refusalOf({ ...anew, endOffset: '5' }, RUN)).toBeNull();
  state.forgetPositions();
  expect(state.refusalOf(anew, RUN)).toBeNull();
  expect(state.accept(anew, 0).accepted).toBe(2);
});

it('offsets beyond 2^53 are compared as numbers', () => {
  const state = stateWith();
  const at = (offset: string): FactRevision => ({
    ...some(0, 1)[0]!,
    position: { topic: TOPIC, partition: 0, offset },
  });
  expect(state.accept(chunkOf([at('9007199254740993')]), 0).accepted).toBe(1);
  expect(state.accept(chunkOf([at('9007199254740992')]), 0).accepted).toBe(0);
  expect(state.accept(chunkOf([at('10000000000000000')]), 0).accepted).toBe(1);
});

it('a failed batch is kept and retried unchanged, and finally freezes the lineage', () => {
  const state = stateWith({ batchEditsMax: 1 });
  state.accept(chunkOf(some(0, 1)), 0);
  const ids = new Set<string>();
  let now = 0;
  for (let attempt = 1; attempt <= DEFAULT_LINEAGE_SETTINGS.failures.batchAttemptsMax; attempt++) {
    now = Math.max(now, state.nextStep()!.dueAt);
    const batch = state.startBatch(now);
    expect(batch.attempts).toBe(attempt);
    expect(batch.revisions.map(revisionId)).toEqual(['c0']);
    ids.add(batch.batchId);
    state.batchFailed('out of order', now);
  }
  expect(ids.size).toBe(1);
  expect(state.status().frozen?.reason).toMatch(/failed 3 times: out of order/);
  expect(state.status().waiting).toBe(1);
  expect(state.nextStep()).toBeNull();
  state.resume();
  expect(state.nextStep()).toEqual({ kind: 'batch', dueAt: 0 });
  expect(state.startBatch(now).attempts).toBe(1);
});
