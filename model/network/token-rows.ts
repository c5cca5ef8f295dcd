export type Sequences = readonly (readonly number[])[];

/**
 * The tokens of several sequences, row after row, without padding. Linear layers work on [R, ...]
 * without computing fillers, and a sequence's numbers do not depend on its neighbours' lengths.
 * Only attention needs the padded form [B, T, ...]; the index lists convert between the two.
 */
export interface TokenRows {
  /** R: total number of tokens. */
  readonly count: number;
  /** B: number of sequences. */
  readonly sequences: number;
  /** T: length of the longest sequence in tokens. */
  readonly longest: number;
  /** [R] token ids. */
  readonly tokens: Int32Array;
  /** [R] position of each token in its whole sequence, the past included. */
  readonly positions: Int32Array;
  /** [B + 1] first row of each sequence; the last element is R. */
  readonly starts: Int32Array;
  /** [R] row -> slot b * T + t of the padded form. */
  readonly slotOfRow: Int32Array;
  /** [B * T] slot -> row. Fillers point to the sequence's first row and are masked. */
  readonly rowOfSlot: Int32Array;
  /** True if the padded form equals the rows. */
  readonly dense: boolean;
}

/** Id of a padding slot, which has no token. */
export const FILLER = -1;

/**
 * Lays out the sequences. `firstPositions` are the positions of their first tokens (default 0).
 * Some may be empty; throws RangeError if all are.
 */
export function layOutRows(sequences: Sequences, firstPositions?: readonly number[]): TokenRows {
  const count = sequences.reduce((sum, sequence) => sum + sequence.length, 0);
  const longest = sequences.reduce((most, sequence) => Math.max(most, sequence.length), 0);
  const tokens = new Int32Array(count);
  const positions = new Int32Array(count);
  const starts = new Int32Array(sequences.length + 1);
  const slotOfRow = new Int32Array(count);
  const rowOfSlot = new Int32Array(sequences.length * longest);
  if (count === 0) throw new RangeError('there are no tokens to lay out');
  let row = 0;
  sequences.forEach((sequence, b) => {
    starts[b] = row;
    rowOfSlot.fill(Math.min(row, count - 1), b * longest, (b + 1) * longest);
    const first = firstPositions?.[b] ?? 0;
    sequence.forEach((token, t) => {
      tokens[row] = token;
      positions[row] = first + t;
      slotOfRow[row] = b * longest + t;
      rowOfSlot[b * longest + t] = row;
      row++;
    });
  });
  starts[sequences.length] = row;
  return {
    count,
    sequences: sequences.length,
    longest,
    tokens,
    positions,
    starts,
    slotOfRow,
    rowOfSlot,
    dense: count === sequences.length * longest,
  };
}

export function lastRow(rows: TokenRows, b: number): number {
  return rows.starts[b + 1]! - 1;
}
