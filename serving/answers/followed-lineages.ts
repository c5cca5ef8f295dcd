/**
 * Follows the version logs and serves each new HEAD once its hook is built. Until then the previous
 * version answers, and a request ends on the version it began with. If the alias `stable` names a
 * version, that one is served instead of HEAD. If a log is damaged, its last sound version is
 * served, and the fault is reported.
 */
import type { FastifyBaseLogger } from 'fastify';
import type { Engine } from '../../model/engine/engine.ts';
import { SWAP_PRIORITY } from '../../model/engine/model-queue.ts';
import { STABLE_ALIAS, type AliasRecord } from '../../schemas/alias.ts';
import { messageOf } from '../../schemas/failures.ts';
import { BlobMissing, VersionLogDamaged, VersionUnknown } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { requireSameBase } from '../../versions/log/same-base.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';

type Logger = Pick<FastifyBaseLogger, 'info' | 'error'>;

export interface FollowedLineage {
  readonly lineage: string;
  readonly log: VersionLog;
  /** The version that answers; null before the first read of the log. */
  readonly served: History | null;
  /** The newest readable version; null before the first read of the log. */
  readonly head: History | null;
  /** The current record of each alias. */
  readonly aliases: ReadonlyMap<string, AliasRecord>;
  /** Why the last read of the log, the aliases or a hook failed; null if it succeeded. */
  readonly fault: string | null;
}

/** Returns the alias record that pins a version, whatever HEAD is; null if HEAD is served. */
export function pinOf({
  aliases,
}: Pick<FollowedLineage, 'aliases'>): (AliasRecord & { version: number }) | null {
  const record = aliases.get(STABLE_ALIAS);
  if (record === undefined || record.version === null) return null;
  return { ...record, version: record.version };
}

/** Returns the state of a lineage as shown by every route. */
export function lineageState(followed: FollowedLineage) {
  const { lineage, served, head, fault } = followed;
  const pin = pinOf(followed);
  const held = pin && {
    alias: pin.alias,
    version: pin.version,
    reason: pin.reason,
    by: pin.by,
    since: new Date(pin.at).toISOString(),
  };
  const version = served?.head.version ?? null;
  return { lineage, version, head: head?.head.version ?? null, held, fault };
}

type Mutable = { -readonly [Name in keyof FollowedLineage]: FollowedLineage[Name] };

export class FollowedLineages {
  readonly #followed = new Map<string, Mutable>();
  readonly #dependencies: { engine: Engine; versions: Versions; logger: Logger };
  readonly #pollEveryMs: number;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #closed = false;

  /** Reads the logs every `pollEveryMs`, and on each notification. */
  constructor(
    dependencies: { engine: Engine; versions: Versions; logger: Logger },
    { lineages, pollEveryMs }: { lineages: readonly string[]; pollEveryMs: number },
  ) {
    this.#dependencies = dependencies;
    this.#pollEveryMs = pollEveryMs;
    for (const lineage of lineages)
      this.#followed.set(lineage, {
        lineage,
        log: dependencies.versions.log(lineage),
        served: null,
        head: null,
        aliases: new Map(),
        fault: null,
      });
  }

  get(lineage: string): FollowedLineage | undefined {
    return this.#followed.get(lineage);
  }

  all(): FollowedLineage[] {
    return [...this.#followed.values()];
  }

  /** Reads the logs now. A call during a read makes it read once more. */
  look(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#lookAgain = true;
    this.#looking ??= this.#lookUntilStill().finally(() => {
      this.#looking = null;
      if (!this.#closed) this.#timer = setTimeout(() => void this.look(), this.#pollEveryMs);
    });
    return this.#looking;
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#looking;
  }

  async #lookUntilStill(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    while (this.#lookAgain && !this.#closed) {
      this.#lookAgain = false;
      for (const followed of this.#followed.values()) await this.#lookAt(followed);
    }
  }

  async #lookAt(followed: Mutable): Promise<void> {
    const { lineage } = followed;
    try {
      const { history: head, damage } = await followed.log.readSound();
      const { aliases, damage: aliasesDamage } = await followed.log.readAliases();
      followed.head = head;
      followed.aliases = aliases.current;
      const { version: newest } = head.head;
      const pinned = pinOf(followed)?.version ?? newest;
      const due = Math.min(pinned, newest);
      // If damage keeps an older version served, the due one is tried again.
      const hookFault =
        due === followed.served?.head.version
          ? null
          : await this.#swapIn(followed, due === newest ? head : await followed.log.at(due));
      const missing = pinned > newest ? new VersionUnknown(lineage, pinned, newest) : null;
      this.#report(followed, damage ?? aliasesDamage ?? missing ?? hookFault);
    } catch (fault) {
      this.#report(followed, fault);
    }
  }

  /**
   * Serves a version. If one of its blobs is damaged or missing and nothing is served yet, serves
   * the last version before that blob and returns the damage.
   */
  async #swapIn(followed: Mutable, due: History): Promise<unknown> {
    const { engine } = this.#dependencies;
    const { log } = followed;
    let first: unknown = null;
    // Each round tries a lower version.
    for (let history = due; ;) {
      try {
        const { model, parameters } = await engine.describe();
        requireSameBase(history, { base: model, parameters });
        const ready = history;
        await engine.queue.run(async () => {
          await ensureHook(engine, log, ready.active.values());
          // Done within the turn, so that this version already answers the next request.
          this.#serve(followed, ready);
        }, SWAP_PRIORITY);
        return first;
      } catch (fault) {
        const damaged = blobOf(fault);
        const since = [...history.active.values()]
          .filter(({ pairs }) => pairs.sha256 === damaged)
          .map(({ version }) => version);
        if (followed.served !== null || since.length === 0) throw fault;
        first ??= fault;
        history = await log.at(Math.min(...since) - 1);
      }
    }
  }

  #serve(followed: Mutable, history: History): void {
    const pin = pinOf(followed);
    this.#dependencies.logger.info(
      {
        lineage: followed.lineage,
        version: history.head.version,
        before: followed.served?.head.version ?? null,
        head: followed.head?.head.version ?? null,
        heldBy: pin === null ? null : `${pin.alias} (${pin.reason})`,
        corrections: history.active.size,
      },
      'A version is served',
    );
    followed.served = history;
  }

  #report(followed: Mutable, fault: unknown): void {
    const { lineage, served } = followed;
    const reason = fault === null ? null : messageOf(fault);
    if (reason !== null && reason !== followed.fault)
      this.#dependencies.logger.error(
        { lineage, served: served?.head.version ?? null, reason },
        'The version log cannot be followed',
      );
    followed.fault = reason;
  }
}

/** Returns the damaged or missing blob. */
function blobOf(fault: unknown): string | null {
  if (fault instanceof BlobMissing) return String(fault.facts['sha256']);
  if (fault instanceof VersionLogDamaged)
    return (
      /\/blobs\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(String(fault.facts['objectName']))?.[1] ?? null
    );
  return null;
}
