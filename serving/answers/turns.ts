/**
 * One request at a time reaches the model; the others wait their turn in a queue with a bound. Past
 * it a request is refused at once, which its sender can act on, instead of waiting for longer than
 * it would.
 */
export interface TurnLimits {
  /** Requests that may wait. */
  waitingMax: number;
}

export const DEFAULT_TURN_LIMITS: TurnLimits = { waitingMax: 32 };

export type Turn<Result> =
  { kind: 'done'; result: Result } | { kind: 'full'; waiting: number } | { kind: 'gone' };

export class Turns {
  readonly #limits: TurnLimits;
  readonly #queue: (() => Promise<void>)[] = [];
  #running: Promise<void> | null = null;

  constructor(limits: TurnLimits = DEFAULT_TURN_LIMITS) {
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * Runs the work when its turn comes; 'gone' where `wanted` says by then that nobody waits for it
   * any more.
   */
  async take<Result>(
    work: () => Promise<Result>,
    wanted: () => boolean = () => true,
  ): Promise<Turn<Result>> {
    if (this.#queue.length >= this.#limits.waitingMax)
      return { kind: 'full', waiting: this.#queue.length };
    return this.#join(work, wanted);
  }

  /**
   * For our own affairs (a hook to be swapped in), of which there are few: they wait, but are never
   * refused.
   */
  async takeAlways<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = await this.#join(work, () => true);
    if (turn.kind !== 'done') throw new Error(`a turn that cannot be refused was ${turn.kind}`);
    return turn.result;
  }

  /** When nothing runs or waits. */
  async drained(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  #join<Result>(work: () => Promise<Result>, wanted: () => boolean): Promise<Turn<Result>> {
    return new Promise((resolve, reject) => {
      this.#queue.push(async () => {
        if (!wanted()) return resolve({ kind: 'gone' });
        await work().then((result) => resolve({ kind: 'done', result }), reject);
      });
      this.#running ??= this.#run();
    });
  }

  async #run(): Promise<void> {
    // Begins later, so that `#running` is set before the first turn ends.
    await Promise.resolve();
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift())
      await next();
    this.#running = null;
  }
}
