/**
 * Ingest's place in each partition, and the offset from which it has left out no revision. The
 * workflow's high-water mark decides which records were taken; the group's offset only says where
 * to begin. Each chunk therefore names its predecessor, and ingest goes back where the workflow has
 * less (after a reset or a termination).
 */
interface Place {
  /** The offset after the last handled record. */
  next: bigint;
  /** From this offset to `next` there are only dead letters; the workflow has everything before. */
  readFrom: bigint;
  /** Dead letters before this offset are in their topic. */
  lettersSentTo: bigint;
  /** Reading resumes at `at`. Kafka has no records left between `readFrom` and `at`. */
  sought: { at: bigint; readFrom: bigint } | null;
}

export class PartitionPlaces {
  readonly #places = new Map<string, Place>();

  /** Notes that records from this offset on arrived. */
  begin(partition: string, fromOffset: string): void {
    const from = BigInt(fromOffset);
    const fresh: Place = { next: from, readFrom: from, lettersSentTo: from, sought: null };
    const place = this.#places.get(partition) ?? fresh;
    const { sought } = place;
    const isSought = sought?.at === from;
    // Records that were fetched before a seek follow no known place, and the workflow reports it.
    const readFrom = isSought ? sought.readFrom : from === place.next ? place.readFrom : from;
    const lettersSentTo = isSought ? place.lettersSentTo : later(place.lettersSentTo, from);
    this.#places.set(partition, { next: from, readFrom, lettersSentTo, sought: null });
  }

  readFrom(partition: string): string {
    return String(this.#places.get(partition)!.readFrom);
  }

  isLetterSent(partition: string, offset: string): boolean {
    return BigInt(offset) < this.#places.get(partition)!.lettersSentTo;
  }

  /** Notes that the workflow has everything through this offset. */
  handed(partition: string, throughOffset: string): void {
    this.#pass(partition, throughOffset).readFrom = BigInt(throughOffset) + 1n;
  }

  /** Notes that the dead-letter topic has the rest through this offset. */
  buried(partition: string, throughOffset: string): void {
    this.#pass(partition, throughOffset);
  }

  /**
   * Returns the offset at which to read again, or null if no revision can be missing. The workflow
   * has everything through `throughOffset` (-1: nothing), Kafka has everything from `beginning` on,
   * and the group has committed `committed`, if that is known.
   */
  goBack(
    partition: string,
    at: { throughOffset: string; beginning: string; committed?: string },
  ): string | null {
    const next = BigInt(at.throughOffset) + 1n;
    const known = this.#places.get(partition);
    if (at.committed !== undefined) {
      if (next >= BigInt(at.committed)) return null;
      if (known !== undefined && (known.sought?.readFrom ?? known.readFrom) <= next) return null;
    }
    const place = known ?? { next, readFrom: next, lettersSentTo: next };
    const resumeAt = later(next, BigInt(at.beginning));
    this.#places.set(partition, {
      ...place,
      lettersSentTo: later(place.lettersSentTo, BigInt(at.committed ?? next)),
      sought: { at: resumeAt, readFrom: next },
    });
    return String(resumeAt);
  }

  #pass(partition: string, throughOffset: string): Place {
    const place = this.#places.get(partition)!;
    place.next = BigInt(throughOffset) + 1n;
    place.lettersSentTo = later(place.lettersSentTo, place.next);
    return place;
  }
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
