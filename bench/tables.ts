/** Tables of numbers: Markdown for readers, CSV for programs. */

type Cell = number | string | null;

export interface Column<Row> {
  name: string;
  /** Null if it was not measured. */
  of: (row: Row) => Cell;
  /** How Markdown shows a number; CSV always has it in full. */
  as?: (value: number) => string;
}

/** A fraction as a percentage with one digit. */
export const percent = (value: number): string => (100 * value).toFixed(1);

export function digits(count: number): (value: number) => string {
  return (value) => (Math.abs(value) >= 1e6 ? value.toExponential(2) : value.toFixed(count));
}

export function markdownTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => shown(column.of(row), column.as)));
  const widths = columns.map((column, i) =>
    Math.max(column.name.length, 3, ...cells.map((line) => line[i]!.length)),
  );
  const line = (values: readonly string[]) =>
    `| ${values.map((value, i) => value.padEnd(widths[i]!)).join(' | ')} |\n`;
  const head = [columns.map(({ name }) => name), widths.map((width) => '-'.repeat(width))];
  return [...head, ...cells].map(line).join('');
}

/** RFC 4180. */
export function csvTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const field = (value: Cell) => {
    const text = value === null ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [
    columns.map(({ name }) => field(name)),
    ...rows.map((row) => columns.map((column) => field(column.of(row)))),
  ];
  return lines.map((line) => `${line.join(',')}\r\n`).join('');
}

function shown(value: Cell, as: (value: number) => string = String): string {
  if (value === null) return '-';
  return typeof value === 'number' ? as(value) : value.replaceAll('|', '\\|');
}
