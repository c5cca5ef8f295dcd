/**
 * Where a corrected subject is named: the rows whose token ends one of the subject's spellings. A
 * spelling is a sequence of tokens: the name by itself, behind a space, and as it stands in the
 * correction's own prompt. Only tokens up to the row are looked at, those of the past included, so
 * that what is found does not depend on how a text is read.
 */
import { FILLER, type TokenRows } from '../network/token-rows.ts';
import type { AttentionPast } from '../network/attention-past.ts';

/** A row, and the subjects of the longest spelling that ends there. */
export interface Naming {
  row: number;
  subjects: readonly string[];
}

export class SubjectNames {
  /** By last token; longest first. */
  readonly #spellings = new Map<number, { tokens: readonly number[]; subjects: string[] }[]>();

  /** `spellings[i]` are those of `subjects[i]`; a subject may come several times. */
  constructor(subjects: readonly string[], spellings: readonly (readonly (readonly number[])[])[]) {
    subjects.forEach((subject, i) => spellings[i]!.forEach((tokens) => this.#add(tokens, subject)));
    for (const of of this.#spellings.values()) of.sort((a, b) => b.tokens.length - a.tokens.length);
  }

  /** Namings that end in these rows, ascending. */
  in(rows: TokenRows, past: AttentionPast | null): Naming[] {
    const namings: Naming[] = [];
    for (let b = 0; b < rows.sequences; b++) {
      for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++) {
        const longest = this.#spellings
          .get(rows.tokens[row]!)
          ?.find(({ tokens }) => endsWith(tokens, rows, past, b, row));
        if (longest !== undefined) namings.push({ row, subjects: longest.subjects });
      }
    }
    return namings;
  }

  #add(tokens: readonly number[], subject: string): void {
    const last = tokens.at(-1);
    if (last === undefined) return;
    const of = this.#spellings.get(last) ?? [];
    this.#spellings.set(last, of);
    const same = of.find(
      (one) =>
        one.tokens.length === tokens.length && one.tokens.every((token, t) => token === tokens[t]),
    );
    if (same === undefined) of.push({ tokens, subjects: [subject] });
    else if (!same.subjects.includes(subject)) same.subjects.push(subject);
  }
}

/** Whether the tokens of sequence b up to `row` end with these. */
function endsWith(
  wanted: readonly number[],
  rows: TokenRows,
  past: AttentionPast | null,
  b: number,
  row: number,
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
