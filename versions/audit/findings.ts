import { messageOf } from '../../schemas/failures.ts';

export interface Finding {
  object: string;
  problem: string;
}

/** Findings beyond this are counted, not kept. */
const FINDINGS_MAX = 1_000;

export class Findings {
  readonly #list: Finding[] = [];
  #more = 0;

  add(object: string, ...problems: string[]): void {
    for (const problem of problems)
      if (this.#list.length < FINDINGS_MAX) this.#list.push({ object, problem });
      else this.#more += 1;
  }

  /** Returns the work's result; records a finding and returns null where it throws. */
  attempt<Result>(object: string, work: () => Result, about = ''): Result | null {
    try {
      return work();
    } catch (fault) {
      this.add(object, `${about}${messageOf(fault)}`);
      return null;
    }
  }

  /** Returns all findings. The last one gives the number of those not kept. */
  list(whole: string): Finding[] {
    const more = { object: whole, problem: `and ${this.#more} more` };
    return this.#more === 0 ? this.#list : [...this.#list, more];
  }
}
