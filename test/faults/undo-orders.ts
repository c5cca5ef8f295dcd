/**
 * An operator's orders, made by the calls of `revert`, `rollback` and `alias`. Every ordered undo
 * is recorded, even if the order failed, and its end is queried.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { UndoProgress, UndoTaken } from '../../pipelines/temporal/temporal-client.ts';
import { rollbackMoveId, type UndoOrder } from '../../pipelines/workflows/contract.ts';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import type { UndoTarget } from '../../schemas/undo.ts';
import { versionsInFolder } from '../../versions/versions.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { LINEAGE, SETTINGS, type System } from './system/system.ts';

/** An undo as ordered and as ended. */
export interface OrderedUndo {
  id: string;
  target: UndoTarget;
  /** Whether an alias was moved first, which the undo releases when done. */
  movedAlias: boolean;
  end: UndoProgress;
}

const BY = 'the operator of the fault run';
/** Share of the orders that are given twice; each must have its effect once. */
const TWICE_SHARE = 0.2;
const BELOW_HEAD_MAX = 4;
const ASK_EVERY_MS = 300;
const END_WAIT_MS = 120_000;
/** Limit of final retries of orders that were refused because too many were waiting. */
const AGAIN_MAX = 20;

export class UndoOrders {
  readonly #temporal: System['temporal'];
  readonly #log: VersionLog;
  /** Called before an alias is moved to a version. */
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

  /** Reverts one of all versions; resolves to a description, or null without a version. */
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

  /** Reverts a correction or a retraction of one of the versions. */
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

  /** Rolls back to a version a few below HEAD: first the alias, then the lineage by an undo. */
  async rollBack(random: () => number): Promise<string | null> {
    const { head } = await this.#log.read();
    const version = head.version - 1 - Math.floor(random() * BELOW_HEAD_MAX);
    if (version < 0) return null;
    return await this.#order({ kind: 'rollback', version }, STABLE_ALIAS, random);
  }

  /** Repeats orders that did not arrive, and resolves to the end of each. */
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

  /** Releases the alias if a refused rollback left it on its version. */
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
    const what = `${id}: ${describe(target)}`;
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
      const answer = taken.kind === 'refused' ? `refused, ${taken.message}` : taken.kind;
      return `${what}${twice ? ', ordered twice' : ''}: ${answer}`;
    } catch (error) {
      return `${what}: without an answer (${String(error)})`;
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

function describe(target: UndoTarget): string {
  switch (target.kind) {
    case 'rollback':
      return `rollback to version ${target.version}`;
    case 'version':
      return `revert of version ${target.version}`;
    case 'correction':
      return `revert of correction ${target.id}`;
  }
}
