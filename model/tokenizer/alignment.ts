/**
 * UTF-8 bytes of a text as the tokeniser sees it, each with the range of the original's UTF-16
 * units it is from.
 */
export interface Alignment {
  bytes: Uint8Array;
  /** Offset at which the character of byte `at` begins; the text's length for `at` past the end. */
  start(at: number): number;
  /** Offset just after the character of byte `at`. */
  end(at: number): number;
}

/**
 * Aligns the bytes of `text`, in Unicode's normal form where one is given and with spaces written
 * as `spaceLetter`, to the text, leaving out the bytes that are dropped. A group of characters that
 * normalisation changes is one here.
 */
export function alignNormalised(
  text: string,
  form: 'NFC' | null,
  spaceLetter: string,
  dropped: ReadonlySet<number>,
): Alignment {
  const groups =
    form === null || text.normalize(form) === text ? [...characters(text)] : clusters(text, form);
  const encoded = groups.map(({ shown }) =>
    encoder.encode(shown.replaceAll(' ', spaceLetter)).filter((byte) => !dropped.has(byte)),
  );
  const count = encoded.reduce((sum, bytes) => sum + bytes.length, 0);
  const bytes = new Uint8Array(count);
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  let at = 0;
  groups.forEach(({ start, end }, index) => {
    const group = encoded[index]!;
    bytes.set(group, at);
    starts.fill(start, at, at + group.length);
    ends.fill(end, at, at + group.length);
    at += group.length;
  });
  return {
    bytes,
    start: (index) => starts[Math.max(0, index)] ?? text.length,
    end: (index) => ends[Math.max(0, index)] ?? text.length,
  };
}

interface Group {
  shown: string;
  start: number;
  end: number;
}

const encoder = new TextEncoder();

/**
 * Code points; half a surrogate pair by itself is one, and its bytes are those of U+FFFD, as
 * TextEncoder writes it.
 */
function* characters(text: string): Generator<Group> {
  let start = 0;
  for (const shown of text) {
    yield { shown, start, end: start + shown.length };
    start += shown.length;
  }
}

/**
 * Normalised grapheme clusters; the whole text as one where normalisation reaches across a
 * cluster's edge.
 */
function clusters(text: string, form: 'NFC'): Group[] {
  const groups: Group[] = [];
  for (const { segment, index } of new Intl.Segmenter('en', { granularity: 'grapheme' }).segment(
    text,
  )) {
    const shown = segment.normalize(form);
    if (shown === segment)
      groups.push(
        ...[...characters(segment)].map(({ shown, start, end }) => ({
          shown,
          start: index + start,
          end: index + end,
        })),
      );
    else groups.push({ shown, start: index, end: index + segment.length });
  }
  const whole = text.normalize(form);
  return groups.map(({ shown }) => shown).join('') === whole
    ? groups
    : [{ shown: whole, start: 0, end: text.length }];
}
