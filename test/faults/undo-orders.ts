/**
 * An operator's words, by the calls that `revert`, `rollback` and `alias` make: every undo that was
 * ordered is remembered, whatever happened to the order, and is asked for in the end.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { UndoProgress, UndoTaken } from '../../pipelines/temporal/temporal-client.ts';
import { rollbackMoveId, type UndoOrder } from '../../pipelines/workflows/contract.ts';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import type { UndoTarget } from '../../schemas/undo.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { LINEAGE, SETTINGS, type System } from './system.ts';

/** An undo as it was ordered and as it ended. */
export interface OrderedUndo {
  id: string;
  target: UndoTarget;
  /** An alias was moved first, and is to be let go when the undo is done. */
  movedAlias: boolean;
  end: UndoProgress;
}

const BY = 'the operator of the fault run';
/** Of the orders, those that are given once more at once: twice it is done once. */
const TWICE_SHARE = 0.2;
const BELOW_HEAD_MAX = 4;
const ASK_EVERY_MS = 300;
const END_WAIT_MS = 120_000;
/** Given again in the end at most so often, where too many waited. */
const AGAIN_MAX = 20;

export class UndoOrders {
  readonly #temporal: System['temporal'];
  readonly #log: VersionLog;
  /** Told before an alias is moved to a version. */
  readonly #movesTo: (version: number) => void;
  readonly #orders: { order: UndoOrder; accepted: boolean }[] = [];

  constructor(
    { temporal, versionsFolder }: Pick<System, 'temporal' | 'versionsFolder'>,
    movesTo: (version: number) => void,
  ) {
    this.#temporal = temporal;
    this.#log = versionsInFolder(versionsFolder).log(LINEAGE);
    this.#movesTo = movesTo;
  }

  /** Takes a version back, one of all there are. In words; null where there is none. */
  async revertVersion(random: () => number): Promise<string | null> {
    const { head } = await this.#log.read();
    return head.version === 0
      ? null
      : await this.#order(
          { kind: 'version', version: 1 + Math.floor(random() * head.version) },
          null,
          random,
        );
  }

  /** Takes a correction or a retraction back, of one of the versions. */
  async revertCorrection(random: () => number): Promise<string | null> {
    const { head } = await this.#log.read();
    if (head.version === 0) return null;
    const { added, retractions } = (await this.#log.entry(1 + Math.floor(random() * head.version)))
      .entry;
    const ids = [
      ...added.map(({ correctionId }) => correctionId),
      ...retractions.map(({ id }) => id),
    ];
    const id = ids[Math.floor(random() * ids.length)];
    return id === undefined ? null : await this.#order({ kind: 'correction', id }, null, random);
  }

  /**
   * Goes back to a version a few below HEAD: the alias at once, the lineage by an undo that lets it
   * go.
   */
  async rollBack(random: () => number): Promise<string | null> {
    const { head } = await this.#log.read();
    const version = head.version - 1 - Math.floor(random() * BELOW_HEAD_MAX);
    if (version < 0) return null;
    return await this.#order({ kind: 'rollback', version }, STABLE_ALIAS, random);
  }

  /**
   * What an operator does when all is healed: gives the orders again that did not arrive, and asks
   * how each ended.
   */
  async ended(): Promise<OrderedUndo[]> {
    const ended: OrderedUndo[] = [];
    for (const given of this.#orders) {
      const { request, releaseAlias } = given.order;
      for (let again = 0; !given.accepted && again < AGAIN_MAX; again++) {
        given.accepted = (await this.#give(given.order)).kind !== 'refused';
        if (!given.accepted) await delay(ASK_EVERY_MS);
      }
      ended.push({
        id: request.id,
        target: request.target,
        movedAlias: releaseAlias !== null,
        end: await this.#endOf(request.id),
      });
    }
    return ended;
  }

  /** Lets the alias go where a rollback was refused and left it on its version. */
  async letGo(): Promise<void> {
    const standing = (await this.#log.aliases()).current.get(STABLE_ALIAS);
    if ((standing?.version ?? null) !== null)
      await this.#log.moveAlias({
        alias: STABLE_ALIAS,
        version: null,
        reason: 'the rollback was refused',
        by: BY,
        id: 'let-go',
      });
  }

  /** The version that answers are to come from in the end. */
  async head(): Promise<number> {
    return (await this.#log.read()).head.version;
  }

  async #order(
    target: UndoTarget,
    releaseAlias: string | null,
    random: () => number,
  ): Promise<string | null> {
    const id = `fault-${this.#orders.length + 1}`;
    const order: UndoOrder = {
      request: { id, target, reason: 'fault run', requestedBy: BY, requestedAt: Date.now() },
      releaseAlias,
    };
    const words = `${id}: ${target.kind === 'rollback' ? `rollback to version ${target.version}` : `revert of ${target.kind} ${target.kind === 'version' ? target.version : target.id}`}`;
    if (releaseAlias !== null && target.kind === 'rollback') {
      this.#movesTo(target.version);
      const moved = await this.#log.moveAlias({
        alias: releaseAlias,
        version: target.version,
        reason: 'fault run',
        by: BY,
        id: rollbackMoveId(id),
      });
      if (moved.kind !== 'moved')
        throw new Error(`the alias did not move: ${JSON.stringify(moved)}`);
    }
    const given = { order, accepted: false };
    this.#orders.push(given);
    const twice = random() < TWICE_SHARE;
    try {
      const taken = await this.#give(order);
      given.accepted = taken.kind !== 'refused';
      if (twice) await this.#give(order);
      return `${words}${twice ? ', ordered twice' : ''}: ${taken.kind === 'refused' ? `refused, ${taken.message}` : taken.kind}`;
    } catch (error) {
      return `${words}: not told whether it was taken (${error instanceof Error ? error.message : String(error)})`;
    }
  }

  async #give(order: UndoOrder): Promise<UndoTaken> {
    return await this.#temporal.undo(LINEAGE, SETTINGS, order);
  }

  async #endOf(id: string): Promise<UndoProgress> {
    for (const until = Date.now() + END_WAIT_MS; ; await delay(ASK_EVERY_MS)) {
      const progress = await this.#temporal.undoProgress(LINEAGE, id);
      if (progress.kind === 'ended' || progress.kind === 'failed' || Date.now() > until)
        return progress;
    }
  }
}
