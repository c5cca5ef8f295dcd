/**
 * Follows the version logs and swaps each new HEAD in when its hook is built: until then the
 * version before it answers, and a request that has begun ends on the version it began with. Where
 * the alias `stable` names a version, that one answers instead of HEAD, as soon as the word is read
 * and for as long as it stands. Of a damaged log the last sound version answers, and the damage is
 * told.
 */
import type { Engine } from '../../model/engine/engine.ts';
import { SWAP_PRIORITY } from '../../model/engine/model-queue.ts';
import { STABLE_ALIAS, type AliasRecord } from '../../schemas/alias.ts';
import { BlobMissing, VersionLogDamaged, VersionUnknown } from '../../versions/log/failures.ts';
import type { History } from '../../versions/log/history.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { requireSameBase } from '../../versions/log/same-base.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';

/** What the server logs with; pino's own order of arguments. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface FollowerOptions {
  lineages: readonly string[];
  /** How often the logs are asked for news, whatever is notified. */
  pollEveryMs: number;
}

export interface FollowedLineage {
  readonly lineage: string;
  readonly log: VersionLog;
  /** The version that answers; null before the log was read for the first time. */
  readonly served: History | null;
  /** The newest version that can be read; null before the log was read for the first time. */
  readonly head: History | null;
  /** The last word on each alias. */
  readonly aliases: ReadonlyMap<string, AliasRecord>;
  /**
   * Why the log, the aliases or the hook that is due could not be read the last time; null where
   * they could.
   */
  readonly fault: string | null;
}

/** The word that has a version served whatever HEAD is; null where HEAD is. */
export function heldBy({
  aliases,
}: Pick<FollowedLineage, 'aliases'>): (AliasRecord & { version: number }) | null {
  const word = aliases.get(STABLE_ALIAS);
  return word === undefined || word.version === null ? null : { ...word, version: word.version };
}

/** What is told of a lineage wherever its state is shown. */
export function standingOf({ lineage, served, head, aliases, fault }: FollowedLineage) {
  const held = heldBy({ aliases });
  return {
    lineage,
    version: served?.head.version ?? null,
    head: head?.head.version ?? null,
    held:
      held === null
        ? null
        : {
            alias: held.alias,
            version: held.version,
            reason: held.reason,
            by: held.by,
            since: new Date(held.at).toISOString(),
          },
    fault,
  };
}

type Following = { -readonly [Name in keyof FollowedLineage]: FollowedLineage[Name] };

export class FollowedLineages {
  readonly #followed = new Map<string, Following>();
  readonly #dependencies: { engine: Engine; versions: Versions; logger: Logger };
  readonly #pollEveryMs: number;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #closed = false;

  constructor(
    dependencies: { engine: Engine; versions: Versions; logger: Logger },
    options: FollowerOptions,
  ) {
    this.#dependencies = dependencies;
    this.#pollEveryMs = options.pollEveryMs;
    for (const lineage of options.lineages)
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

  /**
   * Looks for the first time; resolves when every lineage was looked at, whether it could be read
   * or not.
   */
  async start(): Promise<void> {
    await this.look();
  }

  /**
   * Looks for news now: after a notification, or by the clock. While it looks, further calls make
   * it look once more.
   */
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

  async #lookAt(followed: Following): Promise<void> {
    try {
      const { history: head, damage } = await followed.log.readSound();
      const { aliases, damage: aliasesDamage } = await followed.log.readAliases();
      followed.head = head;
      followed.aliases = aliases.current;
      const held = heldBy(followed)?.version ?? null;
      const due = Math.min(held ?? head.head.version, head.head.version);
      // Where another version is still served, for want of a part of this one, it is tried again.
      const hookFault =
        due === followed.served?.head.version
          ? null
          : await this.#swapIn(
              followed,
              due === head.head.version ? head : await followed.log.at(due),
            );
      const missing =
        held === null || held <= head.head.version
          ? null
          : new VersionUnknown(followed.lineage, held, head.head.version);
      this.#tell(followed, damage ?? aliasesDamage ?? missing ?? hookFault);
    } catch (fault) {
      this.#tell(followed, fault);
    }
  }

  /**
   * Serves a version. Where a blob of it is damaged or gone, and nothing is served yet, the last
   * version before the blob came in is, and the damage is returned.
   */
  async #swapIn(followed: Following, due: History): Promise<unknown> {
    const { engine } = this.#dependencies;
    const { log } = followed;
    let first: unknown = null;
    // Each turn has a version below the one before.
    for (let history = due; ;) {
      try {
        const { model, parameters } = await engine.describe();
        requireSameBase(history, { base: model, parameters });
        const ready = history;
        await engine.queue.run(async () => {
          await ensureHook(engine, log, ready.active.values());
          // Within the turn, so that the next request is already answered by this version.
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

  #serve(followed: Following, history: History): void {
    const held = heldBy(followed);
    this.#dependencies.logger.info(
      {
        lineage: followed.lineage,
        version: history.head.version,
        before: followed.served?.head.version ?? null,
        head: followed.head?.head.version ?? null,
        heldBy: held === null ? null : `${held.alias} (${held.reason})`,
        corrections: history.active.size,
      },
      'A version is served',
    );
    followed.served = history;
  }

  #tell(followed: Following, fault: unknown): void {
    const reason =
      fault === null
        ? null
        : fault instanceof Error
          ? fault.message
          : 'something was thrown that is no error';
    if (reason !== null && reason !== followed.fault)
      this.#dependencies.logger.error(
        { lineage: followed.lineage, served: followed.served?.head.version ?? null, reason },
        'The version log cannot be followed',
      );
    followed.fault = reason;
  }
}

/** The blob that is damaged or gone. */
function blobOf(fault: unknown): string | null {
  if (fault instanceof BlobMissing) return String(fault.facts['sha256']);
  if (fault instanceof VersionLogDamaged)
    return (
      /\/blobs\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(String(fault.facts['objectName']))?.[1] ?? null
    );
  return null;
}
