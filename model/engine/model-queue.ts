/**
 * The queue for the model, which serves one turn at a time. A turn may make several calls to the
 * engine, so that no other turn evicts its hooks.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import PQueue from 'p-queue';

export type Answered<Result> =
  { kind: 'done'; result: Result } | { kind: 'full'; waiting: number } | { kind: 'gone' };

/** The priority of swapping in a version to be served, which precedes all requests. */
export const SWAP_PRIORITY = 1;

interface Turn {
  /** Settles when the turn's last call settles. */
  calls: Promise<unknown>;
}

export class ModelQueue {
  readonly #queue = new PQueue({ concurrency: 1 });
  readonly #turnOfCaller = new AsyncLocalStorage<Turn>();
  #running: Turn | null = null;

  get waiting(): number {
    return this.#queue.size;
  }

  /**
   * Runs a client's work in its turn. Refuses it as 'full' if `waitingMax` turns are waiting, and
   * as 'gone' if `signal` says that the client left before its turn came.
   */
  async ask<Result>(
    work: () => Promise<Result>,
    { waitingMax, signal }: { waitingMax: number; signal: AbortSignal },
  ): Promise<Answered<Result>> {
    if (this.waiting >= waitingMax) return { kind: 'full', waiting: this.waiting };
    const left = new AbortController();
    const leave = () => left.abort();
    if (signal.aborted) return { kind: 'gone' };
    signal.addEventListener('abort', leave, { once: true });
    const begin = () => {
      signal.removeEventListener('abort', leave);
      return work();
    };
    try {
      return { kind: 'done', result: await this.#take(begin, { signal: left.signal }) };
    } catch (fault) {
      if (left.signal.aborted) return { kind: 'gone' };
      throw fault;
    }
  }

  /** Runs work in its turn and never refuses it: first the highest priority, then the oldest. */
  run<Result>(work: () => Promise<Result>, priority = 0): Promise<Result> {
    return this.#take(work, { priority });
  }

  /** Runs one call of the engine, within the current turn or else in a turn of its own. */
  call<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#turnOfCaller.getStore();
    if (turn === undefined || turn !== this.#running) return this.run(work);
    const call = turn.calls.then(work);
    turn.calls = call.catch(() => undefined);
    return call;
  }

  /** Resolves when no turn runs or waits. */
  drained(): Promise<void> {
    return this.#queue.onIdle();
  }

  #take<Result>(
    work: () => Promise<Result>,
    options: { priority?: number; signal?: AbortSignal },
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      const turn: Turn = { calls: Promise.resolve() };
      // Runs in the caller's own context, not in that of the turn before.
      const begin = AsyncResource.bind(async () => this.#turnOfCaller.run(turn, work));
      const task = async () => {
        this.#running = turn;
        const working = begin();
        working.then(resolve, reject);
        // Abandoned work may have left a call behind, which the model finishes first.
        await working.catch(() => undefined);
        await turn.calls;
        this.#running = null;
      };
      this.#queue.add(task, options).catch(reject);
    });
  }
}
