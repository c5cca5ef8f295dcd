/**
 * Where ingest stands in each partition, and since where it left no revision out. The workflow's
 * high-water mark is the truth about what was taken; the group's offset in Kafka only says where to
 * begin. So each chunk says what it follows, and where the workflow has less (after a reset, or in
 * place of one that was terminated) ingest goes back.
 */
interface Place {
  /** Offset behind the last one dealt with. */
  next: bigint;
  /**
   * From here to `next` there are dead letters at most: everything before is the workflow's, as far
   * as ingest knows.
   */
  readFrom: bigint;
  /** Dead letters before this offset are in their topic. */
  lettersSentTo: bigint;
  /** Reading begins again at `at`, and between `readFrom` and that Kafka has nothing any more. */
  sought: { at: bigint; readFrom: bigint } | null;
}

export class PartitionPlaces {
  readonly #places = new Map<string, Place>();

  /** Records from this offset on came in; what they follow, by offset. */
  begin(partition: string, fromOffset: string): void {
    const from = BigInt(fromOffset);
    const place = this.#places.get(partition) ?? {
      next: from,
      readFrom: from,
      lettersSentTo: from,
      sought: null,
    };
    const found = place.sought?.at === from;
    if (found) place.readFrom = place.sought!.readFrom;
    // Also what was on its way when another place was sought: it follows nothing, and the workflow
    // will say so.
    else if (from !== place.next) place.readFrom = from;
    this.#places.set(partition, {
      ...place,
      next: from,
      lettersSentTo: found ? place.lettersSentTo : later(place.lettersSentTo, from),
      sought: null,
    });
  }

  readFrom(partition: string): string {
    return String(this.#places.get(partition)!.readFrom);
  }

  isLetterSent(partition: string, offset: string): boolean {
    return BigInt(offset) < this.#places.get(partition)!.lettersSentTo;
  }

  /** The workflow has everything up to this offset. */
  handed(partition: string, throughOffset: string): void {
    this.#passed(partition, throughOffset).readFrom = BigInt(throughOffset) + 1n;
  }

  /** The dead-letter topic has everything up to this offset that is not the workflow's. */
  buried(partition: string, throughOffset: string): void {
    this.#passed(partition, throughOffset);
  }

  /**
   * The workflow has everything up to `throughOffset` (-1: nothing), Kafka everything from
   * `beginning` on, and the group's offset is `committed`, where that is known. The offset at which
   * to read again, or null where nothing between the two can be a revision.
   */
  goBack(
    partition: string,
    throughOffset: string,
    beginning: string,
    committed: string | null = null,
  ): string | null {
    const next = BigInt(throughOffset) + 1n;
    const known = this.#places.get(partition);
    if (committed !== null) {
      if (next >= BigInt(committed)) return null;
      if (known !== undefined && (known.sought?.readFrom ?? known.readFrom) <= next) return null;
    }
    const place = known ?? { next, readFrom: next, lettersSentTo: next, sought: null };
    this.#places.set(partition, {
      ...place,
      lettersSentTo: later(place.lettersSentTo, BigInt(committed ?? next)),
      sought: { at: later(next, BigInt(beginning)), readFrom: next },
    });
    return String(later(next, BigInt(beginning)));
  }

  #passed(partition: string, throughOffset: string): Place {
    const place = this.#places.get(partition)!;
    place.next = BigInt(throughOffset) + 1n;
    place.lettersSentTo = later(place.lettersSentTo, place.next);
    return place;
  }
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
