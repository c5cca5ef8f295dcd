/**
 * Follows the version logs and swaps each new HEAD in when its hook is built: until then the version before it answers,
 * and a request that has begun ends on the version it began with.
 */
import type { Engine } from '../model/engine.ts';
import type { History } from '../versions/history.ts';
import { ensureHook } from '../versions/hook-pairs.ts';
import { requireSameBase } from '../versions/same-base.ts';
import type { VersionLog } from '../versions/version-log.ts';
import type { Versions } from '../versions/versions.ts';
import type { Turns } from './turns.ts';

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
  /** Why the log or the hook of its HEAD could not be read the last time; null where they could. */
  readonly fault: string | null;
}

export class FollowedLineages {
  readonly #followed = new Map<string, { lineage: string; log: VersionLog; served: History | null; fault: string | null }>();
  readonly #dependencies: { engine: Engine; versions: Versions; turns: Turns; logger: Logger };
  readonly #pollEveryMs: number;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #closed = false;

  constructor(dependencies: { engine: Engine; versions: Versions; turns: Turns; logger: Logger }, options: FollowerOptions) {
    this.#dependencies = dependencies;
    this.#pollEveryMs = options.pollEveryMs;
    for (const lineage of options.lineages) this.#followed.set(lineage, { lineage, log: dependencies.versions.log(lineage), served: null, fault: null });
  }

  get(lineage: string): FollowedLineage | undefined {
    return this.#followed.get(lineage);
  }

  all(): FollowedLineage[] {
    return [...this.#followed.values()];
  }

  /** Looks for the first time; resolves when every lineage was looked at, whether it could be read or not. */
  async start(): Promise<void> {
    await this.look();
  }

  /** Looks for news now: after a notification, or by the clock. While it looks, further calls make it look once more. */
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

  async #lookAt(followed: { lineage: string; log: VersionLog; served: History | null; fault: string | null }): Promise<void> {
    const { engine, turns, logger } = this.#dependencies;
    const { lineage, log } = followed;
    try {
      const history = await log.read();
      if (history.head.version !== followed.served?.head.version) {
        const { model, parameters } = await engine.describe();
        requireSameBase(history, { base: model, parameters });
        await turns.takeAlways(() => ensureHook(engine, log, history.active.values()));
        logger.info({ lineage, version: history.head.version, before: followed.served?.head.version ?? null, corrections: history.active.size }, 'A version is served');
        followed.served = history;
      }
      followed.fault = null;
    } catch (fault) {
      const reason = fault instanceof Error ? fault.message : String(fault);
      if (reason !== followed.fault) logger.error({ lineage, served: followed.served?.head.version ?? null, reason }, 'The version log cannot be followed');
      followed.fault = reason;
    }
  }
}
