/**
 * Finds the rows whose token ends a corrected subject's name. A spelling of a name is a sequence of
 * tokens: the name alone, after a space, and as in the correction's own prompt. Only tokens up to
 * the row count, including those of the past, so the result does not depend on how a text is cut.
 */
import { FILLER, type TokenRows, type Sequences } from '../network/token-rows.ts';
import type { AttentionPast } from '../network/attention-past.ts';

/** A row, and the subjects whose longest spelling ends there. */
interface Naming {
  row: number;
  subjects: readonly string[];
}

export class SubjectNames {
  /** Keyed by last token; longest first. */
  readonly #spellings = new Map<number, { tokens: readonly number[]; subjects: string[] }[]>();

  /** `spellings[i]` belong to `subjects[i]`. A subject may appear several times. */
  constructor(subjects: readonly string[], spellings: readonly Sequences[]) {
    subjects.forEach((subject, i) => spellings[i]!.forEach((tokens) => this.#add(tokens, subject)));
    for (const ending of this.#spellings.values())
      ending.sort((a, b) => b.tokens.length - a.tokens.length);
  }

  /** Returns the namings that end in these rows, ascending. */
  in(rows: TokenRows, past: AttentionPast | null): Naming[] {
    const namings: Naming[] = [];
    for (let b = 0; b < rows.sequences; b++) {
      for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++) {
        const longest = this.#spellings
          .get(rows.tokens[row]!)
          ?.find(({ tokens }) => endsWith(tokens, { rows, past, b, row }));
        if (longest !== undefined) namings.push({ row, subjects: longest.subjects });
      }
    }
    return namings;
  }

  #add(tokens: readonly number[], subject: string): void {
    const last = tokens.at(-1);
    if (last === undefined) return;
    const ending = this.#spellings.get(last) ?? [];
    this.#spellings.set(last, ending);
    const same = ending.find(
      (one) =>
        one.tokens.length === tokens.length && one.tokens.every((token, t) => token === tokens[t]),
    );
    if (same === undefined) ending.push({ tokens, subjects: [subject] });
    else if (!same.subjects.includes(subject)) same.subjects.push(subject);
  }
}

/** Tests whether the tokens of sequence b up to `row` end with the wanted ones. */
function endsWith(
  wanted: readonly number[],
  { rows, past, b, row }: { rows: TokenRows; past: AttentionPast | null; b: number; row: number },
): boolean {
  let left = wanted.length;
  for (let at = row; left > 0 && at >= rows.starts[b]!; at--)
    if (rows.tokens[at] !== wanted[--left]) return false;
  for (let slot = (past?.length ?? 0) - 1; left > 0 && slot >= 0; slot--) {
    const token = past!.tokens[b * past!.length + slot]!;
    if (token !== FILLER && token !== wanted[--left]) return false;
  }
  return left === 0;
}
