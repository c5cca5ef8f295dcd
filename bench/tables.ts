/** Number tables: Markdown for people, CSV for programs. */

type Cell = number | string | null;

type MemberOf<Row> = { [K in keyof Row]: Row[K] extends Cell ? K : never }[keyof Row];

/**
 * A column's name, a field or function of a row (null if not measured), and the number format for
 * Markdown. CSV always has full precision.
 */
export type Column<Row> = readonly [
  name: string,
  of: MemberOf<Row> | ((row: Row) => Cell),
  as?: (value: number) => string,
];

export const percent = (value: number): string => (100 * value).toFixed(1);

export const share = (value: number | null): string =>
  value === null ? '-' : `${percent(value)} %`;

export function digits(count: number): (value: number) => string {
  return (value) => (Math.abs(value) >= 1e6 ? value.toExponential(2) : value.toFixed(count));
}

export function markdownTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const names = columns.map(([name]) => name);
  const cells = rows.map((row) => columns.map((column) => shown(cellOf(column, row), column[2])));
  const widths = names.map((name, i) =>
    Math.max(name.length, 3, ...cells.map((line) => line[i]!.length)),
  );
  const line = (values: readonly string[]) =>
    `| ${values.map((value, i) => value.padEnd(widths[i]!)).join(' | ')} |\n`;
  return [names, widths.map((width) => '-'.repeat(width)), ...cells].map(line).join('');
}

/** RFC 4180. */
export function csvTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const field = (value: Cell) => {
    const text = value === null ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const cells = rows.map((row) => columns.map((column) => cellOf(column, row)));
  return [columns.map(([name]) => name), ...cells]
    .map((line) => `${line.map(field).join(',')}\r\n`)
    .join('');
}

function cellOf<Row>([, of]: Column<Row>, row: Row): Cell {
  return typeof of === 'function' ? of(row) : (row[of] as Cell);
}

function shown(value: Cell, as: (value: number) => string = String): string {
  if (value === null) return '-';
  return typeof value === 'number' ? as(value) : value.replaceAll('|', '\\|');
}
