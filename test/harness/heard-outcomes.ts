/** The outcomes of every record of a lineage, as a consumer of the topics sees them. */
import type { LineageEvent } from '../../pipelines/kafka/tail.ts';

interface Position {
  topic: string;
  partition: number;
  offset: string;
}

export class HeardOutcomes {
  /** Announced version numbers. */
  readonly versions = new Set<number>();
  /** Reasons of dead letters, by `<topic>-<partition>-<offset>` of the record. */
  readonly #letters = new Map<string, string>();
  readonly #outcomes = new Map<string, Set<string>>();
  readonly #listeners = new Set<() => void>();

  readonly hear = (event: LineageEvent): void => {
    switch (event.kind) {
      case 'outcome': {
        const { position, status, version } = event.outcome;
        this.#add(position, version === null ? status : `${status} ${version}`);
        break;
      }
      case 'dead-letter':
        this.#letters.set(nameOf(event.origin), event.message);
        this.#add(event.origin, `DEAD ${event.className}`);
        break;
      case 'version':
        this.versions.add(event.version.version);
        break;
      case 'unreadable':
        throw new Error(`unreadable announcement: ${event.message}`);
    }
    for (const listener of this.#listeners) listener();
  };

  /** `<status> <version>` of each outcome of a record; a repeated outcome counts once. */
  of(position: Position): string[] {
    return [...(this.#outcomes.get(nameOf(position)) ?? [])].sort();
  }

  letterOf(position: Position): string | undefined {
    return this.#letters.get(nameOf(position));
  }

  get deadLetters(): number {
    return this.#letters.size;
  }

  /** The number of records with an outcome. */
  get records(): number {
    return this.#outcomes.size;
  }

  /** Resolves when this many records have an outcome. */
  async untilRecords(count: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const listener = (): void => {
        if (this.records < count) return;
        this.#listeners.delete(listener);
        resolve();
      };
      this.#listeners.add(listener);
      listener();
    });
  }

  #add(position: Position, outcome: string): void {
    const name = nameOf(position);
    this.#outcomes.set(name, (this.#outcomes.get(name) ?? new Set()).add(outcome));
  }
}

function nameOf({ topic, partition, offset }: Position): string {
  return `${topic}-${partition}-${offset}`;
}
