/** UTF-8 bytes of the rewritten text, each with its range of UTF-16 units in the original. */
interface Alignment {
  bytes: Uint8Array;
  /** Offset where the character of byte `at` begins; the text's length past the end. */
  start(at: number): number;
  /** Offset just after the character of byte `at`. */
  end(at: number): number;
}

/** A tokeniser's changes to a text before it looks up bytes. */
export interface Rewriting {
  normalForm: 'NFC' | null;
  /** The letter that replaces a space. */
  spaceLetter: string;
  /** Bytes without a token, such as some control characters in SmolLM2. */
  droppedBytes: ReadonlySet<number>;
}

/**
 * Aligns the rewritten text's bytes to the text. Characters that normalisation joins count as one.
 */
export function alignBytes(text: string, rewriting: Rewriting): Alignment {
  const { normalForm, spaceLetter, droppedBytes } = rewriting;
  const groups =
    normalForm === null || text.normalize(normalForm) === text
      ? characters(text)
      : clusters(text, normalForm);
  const bytes: number[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  for (const { written, start, end } of groups)
    for (const byte of encoder.encode(written.replaceAll(' ', spaceLetter))) {
      if (droppedBytes.has(byte)) continue;
      bytes.push(byte);
      starts.push(start);
      ends.push(end);
    }
  return {
    bytes: Uint8Array.from(bytes),
    start: (index) => starts[Math.max(0, index)] ?? text.length,
    end: (index) => ends[Math.max(0, index)] ?? text.length,
  };
}

interface Group {
  written: string;
  start: number;
  end: number;
}

const encoder = new TextEncoder();

/** Splits into code points. Half a surrogate pair counts as one, encoded as U+FFFD. */
function characters(text: string, offset = 0): Group[] {
  let start = offset;
  return Array.from(text, (written) => {
    const group = { written, start, end: start + written.length };
    start = group.end;
    return group;
  });
}

/**
 * Splits into normalised grapheme clusters, or one group if normalisation crosses a cluster's edge.
 */
function clusters(text: string, form: 'NFC'): Group[] {
  const segments = new Intl.Segmenter('en', { granularity: 'grapheme' }).segment(text);
  const groups = [...segments].flatMap(({ segment, index }) => {
    const written = segment.normalize(form);
    return written === segment
      ? characters(segment, index)
      : [{ written, start: index, end: index + segment.length }];
  });
  const whole = text.normalize(form);
  return groups.map(({ written }) => written).join('') === whole
    ? groups
    : [{ written: whole, start: 0, end: text.length }];
}
