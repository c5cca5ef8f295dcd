// Regression: records that a reset or a termination removed from a workflow were already committed
// in Kafka, and so were lost.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type AcceptAnswer } from '../../../pipelines/ingest/ingest.ts';
import type { PartitionBatch } from '../../../pipelines/kafka/records.ts';
import { type Carried, type RevisionChunk } from '../../../pipelines/workflows/contract.ts';
import { LineageState } from '../../../pipelines/workflows/lineage-state.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import { LINEAGE, TOPIC } from '../../harness/corrections.ts';
import { deadLettersTo, FakePartition, ingestWith, record } from './fake-partition.ts';

const { batch } = DEFAULT_LINEAGE_SETTINGS;
const settings = { ...DEFAULT_LINEAGE_SETTINGS, batch: { ...batch, bufferEditsMax: 1_000 } };
const stateFrom = (carried: Carried | null) =>
  new LineageState({ lineage: LINEAGE, settings, carried: structuredClone(carried) });

/** A workflow that can return to an earlier state, with the ingest process that feeds it. */
class ForgetfulWorkflow {
  readonly partition: FakePartition;
  readonly deadLetters: string[] = [];
  readonly #beginning: string;
  #state = stateFrom(null);
  readonly #earlier: Carried[] = [structuredClone(this.#state.carried().carried)];
  #ingest: ReturnType<typeof ingestWith>;

  constructor(log: ReturnType<typeof record>[], beginning = '0') {
    this.partition = new FakePartition(log);
    this.partition.position = BigInt(beginning);
    this.#beginning = beginning;
    this.#ingest = this.#newIngest();
  }

  restartIngest(): void {
    this.#ingest = this.#newIngest();
    this.partition.position = this.partition.committed + 1n;
  }

  /** Returns to the state before the last `changes` accepted chunks, modulo their number. */
  forget(changes: number): void {
    this.#state = stateFrom(this.#earlier.at(-1 - (changes % this.#earlier.length))!);
  }

  forgetAll(): void {
    this.#state = stateFrom(null);
  }

  async lookBack(): Promise<void> {
    const seek = ({ offset }: { offset: string }) => this.partition.batch().seek(offset);
    await this.#ingest.lookBack({ owns: () => true, seek });
  }

  /** Delivers a batch that was fetched before ingest sought another offset. */
  async takeLate(fetched: PartitionBatch): Promise<void> {
    const done = async (through: string) => {
      this.partition.committed = BigInt(through);
      this.partition.position = BigInt(through) + 1n;
    };
    if (fetched.records.length > 0) await this.#ingest.take({ ...fetched, done });
  }

  async read(): Promise<void> {
    // Each take may end with a seek; the next one reads from the new offset.
    for (let takes = 0; this.partition.left > 0; takes++) {
      if (takes > 5) throw new Error('it reads in a circle');
      await this.#ingest.take(this.partition.batch());
    }
  }

  offsets(): string[] {
    return this.#state.carried().carried.waiting.map(({ revision }) => revision.position.offset);
  }

  #newIngest() {
    return ingestWith((chunk) => this.#accept(chunk), {
      deadLetters: deadLettersTo((letters) =>
        this.deadLetters.push(
          ...letters.map(({ headers }) => String(headers!['__connect.errors.offset'])),
        ),
      ),
      beginning: async () => this.#beginning,
      progress: async () => {
        const { committed } = this.partition;
        return [
          {
            partition: 0,
            beginning: this.#beginning,
            committed: committed < 0n ? null : String(committed + 1n),
            throughOffset: this.#state.status().highWater[`${TOPIC}-0`] ?? '-1',
          },
        ];
      },
    });
  }

  #accept(chunk: RevisionChunk): AcceptAnswer {
    const refusal = this.#state.refusalOf(chunk, 'run');
    if (refusal !== null)
      return refusal.throughOffset === undefined
        ? { kind: 'refused', ...refusal }
        : { kind: 'behind', throughOffset: refusal.throughOffset };
    const acceptance = { ...this.#state.accept(chunk, 0), run: 'run' };
    this.#earlier.push(structuredClone(this.#state.carried().carried));
    return { kind: 'accepted', acceptance };
  }
}

const kinds = fc.array(fc.constantFrom<'sound' | 'garbage'>('sound', 'garbage'), {
  minLength: 1,
  maxLength: 24,
});
const happenings = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom('look back' as const, 'restart' as const, 'late batch' as const),
    },
    fc.record({ arrive: fc.integer({ min: 1, max: 8 }) }),
    fc.record({ forget: fc.nat(6) }),
  ),
  { maxLength: 24 },
);
type Happening = 'look back' | 'restart' | 'late batch' | { arrive: number } | { forget: number };

async function happen(
  step: Happening,
  workflow: ForgetfulWorkflow,
  records: ReturnType<typeof record>[],
): Promise<void> {
  const { partition } = workflow;
  if (step === 'look back') return await workflow.lookBack();
  if (step === 'restart') return workflow.restartIngest();
  if (step === 'late batch') {
    const fetched = partition.batch();
    await workflow.lookBack();
    return await workflow.takeLate(fetched);
  }
  if ('forget' in step) return workflow.forget(step.forget);
  partition.log.push(...records.slice(partition.log.length, partition.log.length + step.arrive));
  if (step.arrive % 2 === 0) await workflow.read();
}

it('returns every lost record to a workflow in order, and sends no dead letter twice', async () => {
  await fc.assert(
    fc.asyncProperty(kinds, happenings, async (all, steps) => {
      const records = all.map((kind, i) => record(2 * i, kind));
      const offsetsOf = (kind: string) =>
        records.filter((_, i) => all[i] === kind).map(({ offset }) => offset);
      const workflow = new ForgetfulWorkflow([]);
      const { partition } = workflow;
      for (const step of steps) await happen(step, workflow, records);
      partition.log.push(...records.slice(partition.log.length));
      await workflow.lookBack();
      await workflow.read();
      expect(workflow.offsets()).toEqual(offsetsOf('sound'));
      // Without new records only the look back can find the loss.
      workflow.forgetAll();
      await workflow.lookBack();
      await workflow.read();
      expect(workflow.offsets()).toEqual(offsetsOf('sound'));
      expect(workflow.deadLetters).toEqual(offsetsOf('garbage'));
      const before = partition.committed;
      await workflow.lookBack();
      await workflow.read();
      await workflow.lookBack();
      expect(partition.committed).toBe(before);
    }),
  );
});

it('does not mistake a batch fetched before the seek for the lost records', async () => {
  const workflow = new ForgetfulWorkflow([record(0), record(1)]);
  const { partition } = workflow;
  await workflow.read();
  partition.log.push(record(2), record(3));
  const fetched = partition.batch();
  workflow.forgetAll();
  await workflow.lookBack();
  await workflow.takeLate(fetched);
  await workflow.read();
  expect(workflow.offsets()).toEqual(['0', '1', '2', '3']);
});

it('does not wait for records that Kafka no longer has', async () => {
  const workflow = new ForgetfulWorkflow([record(5), record(6)], '5');
  await workflow.read();
  expect(workflow.offsets()).toEqual(['5', '6']);
});
