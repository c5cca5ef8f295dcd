/** Waits for the outcomes of records: a decision or a dead letter. */
import type { KafkaPosition } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { endsOfAnnouncements, tail, type LineageEvent } from '../../pipelines/kafka/tail.ts';
import { failed } from '../terminal/command-failure.ts';
import type { Clients } from './clients.ts';
import { within } from './within.ts';

/** The final result of a record. */
export type RecordOutcome =
  | { kind: 'outcome'; outcome: Outcome }
  | { kind: 'dead-letter'; className: string; message: string };

/** A sent record. A retraction has no id. */
export interface SentRecord {
  id: string | null;
  position: KafkaPosition;
}

/** Watches announcements from now on. */
export class OutcomeWatch {
  readonly #byId = new Map<string, RecordOutcome>();
  readonly #byPosition = new Map<string, RecordOutcome>();
  readonly #waiting = new Set<{ record: SentRecord; resolve: (outcome: RecordOutcome) => void }>();
  readonly #heard: (event: LineageEvent) => void;
  #reader!: Awaited<ReturnType<typeof tail>>;

  private constructor(heard: (event: LineageEvent) => void) {
    this.#heard = heard;
  }

  /** Starts watching; `heard` is called with every event, in order. */
  static async start(
    { cluster, format }: Clients,
    lineages: readonly string[],
    heard: (event: LineageEvent) => void = () => {},
  ): Promise<OutcomeWatch> {
    const watch = new OutcomeWatch(heard);
    const from = await endsOfAnnouncements(cluster, lineages);
    watch.#reader = await tail(cluster, lineages, { from, deadLetters: true, format }, (event) =>
      watch.#hear(event),
    );
    return watch;
  }

  /** Resolves with the first outcome of the record; never rejects. */
  outcomeOf(record: SentRecord): Promise<RecordOutcome> {
    return new Promise((resolve) => {
      const known = this.#known(record);
      if (known !== undefined) resolve(known);
      else this.#waiting.add({ record, resolve });
    });
  }

  /**
   * Resolves with the outcomes of all records, and reports each. Throws `CommandFailure` after the
   * wait, or the cause if the topics can no longer be read.
   */
  async outcomesOf(
    records: readonly SentRecord[],
    timeoutSeconds: number,
    decided: (outcome: RecordOutcome, i: number) => void,
  ): Promise<RecordOutcome[]> {
    let count = 0;
    const outcomes = records.map(async (record, i) => {
      const outcome = await this.outcomeOf(record);
      count += 1;
      decided(outcome, i);
      return outcome;
    });
    const broken = this.#reader.ended.then((error) => Promise.reject(error));
    const late = () =>
      failed(
        `${records.length - count} of ${records.length} are undecided after ${timeoutSeconds} s`,
        'They are not lost: `errata status` shows what waits, `errata watch` what is decided.',
      );
    return await within(
      timeoutSeconds * 1_000,
      Promise.race([Promise.all(outcomes), broken]),
      late,
    );
  }

  async stop(): Promise<void> {
    await this.#reader.stop();
  }

  #hear(event: LineageEvent): void {
    if (event.kind === 'outcome') {
      const { outcome } = event;
      keepFirst(this.#byId, outcome.revisionId, { kind: 'outcome', outcome });
      keepFirst(this.#byPosition, keyOf(outcome.position), { kind: 'outcome', outcome });
    } else if (event.kind === 'dead-letter') {
      const { kind, className, message } = event;
      keepFirst(this.#byPosition, keyOf(event.origin), { kind, className, message });
    }
    this.#heard(event);
    for (const one of this.#waiting) {
      const outcome = this.#known(one.record);
      if (outcome === undefined) continue;
      this.#waiting.delete(one);
      one.resolve(outcome);
    }
  }

  #known({ id, position }: SentRecord): RecordOutcome | undefined {
    return this.#byPosition.get(keyOf(position)) ?? (id === null ? undefined : this.#byId.get(id));
  }
}

/** A later outcome (superseded) comes from a later revision. */
function keepFirst(map: Map<string, RecordOutcome>, key: string, outcome: RecordOutcome): void {
  if (!map.has(key)) map.set(key, outcome);
}

function keyOf({ topic, partition, offset }: KafkaPosition): string {
  return `${topic}-${partition}@${offset}`;
}
