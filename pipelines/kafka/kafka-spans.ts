/** Reads spans of a topic, each record once. */
import { positionKey, type Positions } from './kafka-reader.ts';
import type {
  ConsumedRecord,
  PartitionBatch,
  PartitionExtent,
  RecordReader,
  RecordSpan,
} from './records.ts';

/**
 * Silence after which the rest of a span is considered missing (a partition may end in transaction
 * markers). Forming a group takes much less.
 */
const SPAN_WAIT_MS = 30_000;
/** Longer than any reading of spans. */
const PAUSE_MS = 86_400_000;

interface Span {
  from: bigint;
  through: bigint;
}

export class SpanReading {
  /** Remaining spans by partition, ascending. */
  readonly #ahead: Map<number, Span[]>;
  readonly positions: Positions;
  #batchesInHand = 0;
  #quiet: NodeJS.Timeout | undefined;
  #finish: () => void = () => undefined;
  #fail: (fault: unknown) => void = () => undefined;
  readonly #finished = new Promise<void>((resolve, reject) => {
    [this.#finish, this.#fail] = [resolve, reject];
  });

  constructor(
    private readonly topic: string,
    spans: readonly RecordSpan[],
    extents: ReadonlyMap<number, PartitionExtent>,
    private readonly onRecords: (records: ConsumedRecord[]) => Promise<void> | void,
  ) {
    this.#ahead = spansWithin(spans, extents);
    this.positions = new Map(
      [...extents].map(([partition, { end }]) => {
        const offset = String(this.#ahead.get(partition)?.[0]?.from ?? end);
        return [positionKey({ topic, partition }), { topic, partition, offset }];
      }),
    );
  }

  get isDone(): boolean {
    return this.#ahead.size === 0;
  }

  /** Resolves when all records of the spans that Kafka still has were read. */
  async finished(reader: RecordReader): Promise<void> {
    try {
      this.#watchSilence();
      await Promise.race([this.#finished, reader.ended.then((reason) => Promise.reject(reason))]);
    } finally {
      await reader.stop();
      clearTimeout(this.#quiet);
    }
  }

  async take(batch: PartitionBatch): Promise<void> {
    try {
      this.#batchesInHand += 1;
      this.#watchSilence();
      await this.#read(batch);
      if (this.isDone) this.#finish();
    } catch (fault) {
      this.#fail(fault);
    } finally {
      this.#batchesInHand -= 1;
      this.#watchSilence();
    }
  }

  async #read(batch: PartitionBatch): Promise<void> {
    const { partition, records } = batch;
    const spans = this.#ahead.get(partition) ?? [];
    const wanted = records.filter(({ offset }) =>
      spans.some(({ from, through }) => BigInt(offset) >= from && BigInt(offset) <= through),
    );
    if (wanted.length > 0) await this.onRecords(wanted);
    const last = BigInt(records.at(-1)!.offset);
    while (spans.length > 0 && spans[0]!.through <= last) spans.shift();
    await batch.done(String(last));
    const next = spans[0];
    if (next === undefined) {
      this.#ahead.delete(partition);
      // The rest is not needed; other partitions may take their time.
      batch.pauseForMs(PAUSE_MS);
    } else if (next.from > last + 1n) {
      const position = { topic: this.topic, partition, offset: String(next.from) };
      this.positions.set(positionKey(position), position);
      batch.seek(position.offset);
    }
  }

  /** Watches for silence; a batch being handled does not count as silence. */
  #watchSilence(): void {
    clearTimeout(this.#quiet);
    if (this.#batchesInHand === 0) this.#quiet = setTimeout(() => this.#finish(), SPAN_WAIT_MS);
  }
}

/** Returns the parts of the spans that Kafka still has, by partition. */
function spansWithin(
  spans: readonly RecordSpan[],
  extents: ReadonlyMap<number, PartitionExtent>,
): Map<number, Span[]> {
  const within = new Map<number, Span[]>();
  for (const { partition, ...span } of spans) {
    const extent = extents.get(partition);
    if (extent === undefined) continue;
    const [beginning, end] = [BigInt(extent.beginning), BigInt(extent.end)];
    const from = BigInt(span.from) > beginning ? BigInt(span.from) : beginning;
    const through = BigInt(span.through) < end ? BigInt(span.through) : end - 1n;
    if (from <= through)
      within.set(partition, [...(within.get(partition) ?? []), { from, through }]);
  }
  return within;
}
