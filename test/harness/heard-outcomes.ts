/** What became of every record of a lineage, as an outsider hears it from the topics. */
import type { LineageEvent } from '../../pipelines/kafka/tail.ts';

export class Fates {
  /**
   * By record (`<topic>-<partition>-<offset>`): what was told of it, each thing once, in the order
   * heard.
   */
  readonly #told = new Map<string, string[]>();
  readonly versions = new Set<number>();
  readonly #listeners = new Set<() => void>();

  readonly hear = (announcement: LineageEvent): void => {
    if (announcement.kind === 'outcome') {
      const { outcome } = announcement;
      this.#note(
        nameOf(outcome.position),
        `${outcome.status}${outcome.version === null ? '' : ` ${outcome.version}`}`,
      );
    } else if (announcement.kind === 'dead-letter')
      this.#note(nameOf(announcement.origin), `DEAD ${announcement.className}`);
    else if (announcement.kind === 'version') this.versions.add(announcement.version.version);
    else throw new Error(`unreadable announcement: ${announcement.message}`);
    for (const listener of this.#listeners) listener();
  };

  of(position: { topic: string; partition: number; offset: string }): string[] {
    return [...(this.#told.get(nameOf(position)) ?? [])].sort();
  }

  get recordsTold(): number {
    return this.#told.size;
  }

  /** Resolves when so many records have a fate. */
  async records(count: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const listener = (): void => {
        if (this.#told.size < count) return;
        this.#listeners.delete(listener);
        resolve();
      };
      this.#listeners.add(listener);
      listener();
    });
  }

  /** The same thing told twice (a retried announcement) is one fate. */
  #note(record: string, fate: string): void {
    const fates = this.#told.get(record) ?? [];
    if (!fates.includes(fate)) fates.push(fate);
    this.#told.set(record, fates);
  }
}

function nameOf({
  topic,
  partition,
  offset,
}: {
  topic: string;
  partition: number;
  offset: string;
}): string {
  return `${topic}-${partition}-${offset}`;
}
