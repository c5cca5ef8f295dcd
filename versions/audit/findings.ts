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

  /** Returns what the work returns; null where it throws, which is a finding. */
  attempt<Result>(object: string, work: () => Result, about = ''): Result | null {
    try {
      return work();
    } catch (fault) {
      this.add(object, `${about}${messageOf(fault)}`);
      return null;
    }
  }

  /** All findings, the last one counting those that were not kept. */
  list(whole: string): Finding[] {
    const more = { object: whole, problem: `and ${this.#more} more` };
    return this.#more === 0 ? this.#list : [...this.#list, more];
  }
}
