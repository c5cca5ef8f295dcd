import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type AcceptAnswer } from '../../../pipelines/ingest/ingest.ts';
import { type Carried, type RevisionChunk } from '../../../pipelines/workflows/contract.ts';
import { LineageState } from '../../../pipelines/workflows/lineage-state.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { LINEAGE, TOPIC } from '../../harness/corrections.ts';

import { record, FakePartition, ingestWith, deadLettersTo } from './fake-partition.ts';

// Regression: what a reset or a termination takes from a workflow was committed in Kafka, and so it
// was lost.
const settings = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, bufferEditsMax: 1_000 },
};
const stateFrom = (carried: Carried | null) =>
  new LineageState({ lineage: LINEAGE, settings, carried: structuredClone(carried) });

it('hands it every record again, in order, and no dead letter twice', async () => {
  const kinds = fc.array(fc.constantFrom<'sound' | 'garbage'>('sound', 'garbage'), {
    minLength: 1,
    maxLength: 24,
  });
  const happenings = fc.array(
    fc.oneof(
      fc.constant('look back' as const),
      fc.constant('start anew' as const),
      fc.constant('on its way' as const),
      fc.record({ arrive: fc.integer({ min: 1, max: 8 }) }),
      fc.record({ forget: fc.nat(6) }),
    ),
    { maxLength: 24 },
  );
  await fc.assert(
    fc.asyncProperty(kinds, happenings, async (all, steps) => {
      const records = all.map((kind, i) => record(2 * i, kind));
      const partition = new FakePartition([]);
      let state = stateFrom(null);
      const earlier = [structuredClone(state.carried().carried)];
      const buried: string[] = [];
      const accept = (chunk: RevisionChunk): AcceptAnswer => {
        const refusal = state.refusalOf(chunk, 'run');
        if (refusal !== null)
          return refusal.throughOffset === undefined
            ? { kind: 'refused', ...refusal }
            : { kind: 'behind', throughOffset: refusal.throughOffset };
        const acceptance = { ...state.accept(chunk, 0), run: 'run' };
        earlier.push(structuredClone(state.carried().carried));
        return { kind: 'accepted', acceptance };
      };
      const newIngest = () =>
        ingestWith(accept, {
          deadLetters: deadLettersTo((letters) =>
            buried.push(
              ...letters.map(({ headers }) => String(headers!['__connect.errors.offset'])),
            ),
          ),
          progress: async () => [
            {
              partition: 0,
              beginning: '0',
              committed: partition.committed < 0n ? null : String(partition.committed + 1n),
              throughOffset: state.status().highWater[`${TOPIC}-0`] ?? '-1',
            },
          ],
        });
      let ingest = newIngest();
      const lookBack = () =>
        ingest.lookBack({
          owns: () => true,
          seek: ({ offset }) => partition.batch().seek(offset),
        });
      const read = async () => {
        // Each take may end with a seek; the next one reads from there.
        for (let takes = 0; partition.left > 0; takes++) {
          if (takes > 5) throw new Error('it reads in a circle');
          await ingest.take(partition.batch());
        }
      };
      for (const step of steps) {
        if (step === 'look back') await lookBack();
        else if (step === 'on its way') {
          // A batch that was fetched before another place was sought, and is handed out after it.
          const fetched = partition.batch();
          await lookBack();
          if (fetched.records.length > 0)
            await ingest.take({
              ...fetched,
              done: async (through) => (
                (partition.committed = BigInt(through)),
                void (partition.position = BigInt(through) + 1n)
              ),
            });
        } else if (step === 'start anew') {
          ingest = newIngest();
          partition.position = partition.committed + 1n;
        } else if ('arrive' in step) {
          partition.log.push(
            ...records.slice(partition.log.length, partition.log.length + step.arrive),
          );
          if (step.arrive % 2 === 0) await read();
        } else state = stateFrom(earlier.at(-1 - (step.forget % earlier.length))!);
      }
      partition.log.push(...records.slice(partition.log.length));
      await lookBack();
      await read();
      const taken = () =>
        state.carried().carried.waiting.map(({ revision }) => revision.position.offset);
      const due = records.filter((_, i) => all[i] === 'sound').map(({ offset }) => offset);
      expect(taken()).toEqual(due);
      // Where nothing new comes, it is the look back that finds out.
      state = stateFrom(earlier[0]!);
      await lookBack();
      await read();
      expect(taken()).toEqual(due);
      expect(buried).toEqual([
        ...new Set(records.filter((_, i) => all[i] === 'garbage').map(({ offset }) => offset)),
      ]);
      const before = partition.committed;
      await lookBack();
      await read();
      await lookBack();
      expect(partition.committed).toBe(before);
    }),
  );
});

it('what was fetched before ingest went back does not pass for what it went back to', async () => {
  const partition = new FakePartition([record(0), record(1)]);
  let state = new LineageState({
    lineage: LINEAGE,
    settings: DEFAULT_LINEAGE_SETTINGS,
    carried: null,
  });
  const accept = (chunk: RevisionChunk): AcceptAnswer => {
    const refusal = state.refusalOf(chunk, 'run');
    return refusal === null
      ? { kind: 'accepted', acceptance: { ...state.accept(chunk, 0), run: 'run' } }
      : { kind: 'behind', throughOffset: refusal.throughOffset! };
  };
  const ingest = ingestWith(accept, {
    progress: async () => [{ partition: 0, beginning: '0', committed: '2', throughOffset: '-1' }],
  });
  await ingest.take(partition.batch());
  partition.log.push(record(2), record(3));
  const fetched = partition.batch();
  state = new LineageState({ lineage: LINEAGE, settings: DEFAULT_LINEAGE_SETTINGS, carried: null });
  await ingest.lookBack({ owns: () => true, seek: ({ offset }) => partition.batch().seek(offset) });
  await ingest.take({
    ...fetched,
    done: async (through) => void (partition.position = BigInt(through) + 1n),
  });
  for (let takes = 0; takes < 3 && partition.left > 0; takes++)
    await ingest.take(partition.batch());
  expect(state.carried().carried.waiting.map(({ revision }) => revision.position.offset)).toEqual([
    '0',
    '1',
    '2',
    '3',
  ]);
});

it('what Kafka no longer has is not waited for', async () => {
  const partition = new FakePartition([record(5), record(6)]);
  partition.position = 5n;
  const state = new LineageState({
    lineage: LINEAGE,
    settings: DEFAULT_LINEAGE_SETTINGS,
    carried: null,
  });
  const ingest = ingestWith(
    (chunk) => {
      const refusal = state.refusalOf(chunk, 'run');
      return refusal === null
        ? { kind: 'accepted', acceptance: { ...state.accept(chunk, 0), run: 'run' } }
        : { kind: 'behind', throughOffset: refusal.throughOffset! };
    },
    { beginning: async () => '5' },
  );
  for (let takes = 0; takes < 3 && partition.left > 0; takes++)
    await ingest.take(partition.batch());
  expect(state.carried().carried.waiting.map(({ revision }) => revision.position.offset)).toEqual([
    '5',
    '6',
  ]);
});
