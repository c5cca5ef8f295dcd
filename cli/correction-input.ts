/**
 * Corrections as people and programs write them, one JSON object a line or a CSV table, turned into records. Faults are
 * collected with their line numbers; nothing is sent while there are any, unless the caller says so.
 */
import { randomUUID } from 'node:crypto';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { faultsOf, type FactCorrection } from '../schemas/correction.ts';

export interface InputFault {
  /** From 1; 0: of no line. */
  line: number;
  reason: string;
}

export interface ReadCorrections {
  corrections: { line: number; correction: FactCorrection }[];
  faults: InputFault[];
}

/** Largest input, in bytes. */
export const INPUT_BYTES_MAX = 256 * 2 ** 20;

/** How lists stand in one cell of a CSV table. */
export const CSV_LIST_SEPARATOR = '|';

const texts = z.array(z.string());
const instant = z.union([z.number().int().nonnegative(), z.iso.datetime({ offset: true }).transform((text) => Date.parse(text))]);

/** `previous` and `neighbours` are read as well: they are the names of the flags. */
const fields = z.strictObject({
  id: z.string().optional(),
  lineage: z.string().optional(),
  subject: z.string(),
  relation: z.string().nullable().optional(),
  prompt: z.string(),
  target: z.string(),
  previousAnswer: z.string().nullable().optional(),
  previous: z.string().nullable().optional(),
  paraphrases: texts.optional(),
  neighbourhood: texts.optional(),
  neighbours: texts.optional(),
  source: z.string().optional(),
  issuedAt: instant.optional(),
});

export type CorrectionFields = z.input<typeof fields>;

export interface InputDefaults {
  lineage: string;
  source: string;
  /** Milliseconds since 1970. */
  now: number;
}

/** One correction; the faults in words, or the record. An id is made up where none is given. */
export function correctionFrom(value: unknown, defaults: InputDefaults): FactCorrection | string[] {
  const checked = fields.safeParse(value);
  if (!checked.success) return checked.error.issues.map((issue) => (issue.path.length > 0 ? `${issue.path.join('.')}: ${issue.message}` : issue.message));
  const given = checked.data;
  const correction: FactCorrection = {
    id: given.id ?? randomUUID(),
    lineage: given.lineage ?? defaults.lineage,
    subject: given.subject,
    relation: given.relation ?? null,
    prompt: given.prompt,
    target: given.target,
    previousAnswer: given.previousAnswer ?? given.previous ?? null,
    paraphrases: given.paraphrases ?? [],
    neighbourhood: given.neighbourhood ?? given.neighbours ?? [],
    source: given.source ?? defaults.source,
    issuedAt: given.issuedAt ?? defaults.now,
  };
  const faults = faultsOf(correction);
  return faults.length > 0 ? faults : correction;
}

/** A whole text in the format; blank lines are passed over. */
export function readCorrections(text: string, format: 'ndjson' | 'csv', defaults: InputDefaults): ReadCorrections {
  const result: ReadCorrections = { corrections: [], faults: [] };
  const rows = format === 'csv' ? csvRows(text, result.faults) : jsonRows(text, result.faults);
  // Within one text the order of the lines is the order of issue, also where a fact is given twice.
  rows.forEach(({ line, value }, i) => {
    const correction = correctionFrom(value, { ...defaults, now: defaults.now + i });
    if (Array.isArray(correction)) result.faults.push(...correction.map((reason) => ({ line, reason })));
    else result.corrections.push({ line, correction });
  });
  result.faults.sort((a, b) => a.line - b.line);
  return result;
}

/** By the file's name, else by how the text begins. */
export function formatOf(name: string, text: string): 'ndjson' | 'csv' {
  if (/\.csv$/i.test(name)) return 'csv';
  if (/\.(nd)?jsonl?$/i.test(name)) return 'ndjson';
  return text.trimStart().startsWith('{') ? 'ndjson' : 'csv';
}

interface Row {
  line: number;
  value: unknown;
}

function jsonRows(text: string, faults: InputFault[]): Row[] {
  return text.split('\n').flatMap((content, i) => {
    if (content.trim() === '') return [];
    try {
      return [{ line: i + 1, value: JSON.parse(content) as unknown }];
    } catch (error) {
      faults.push({ line: i + 1, reason: `no JSON: ${error instanceof Error ? error.message : String(error)}` });
      return [];
    }
  });
}

const LISTS = new Set(['paraphrases', 'neighbourhood', 'neighbours']);

function csvRows(text: string, faults: InputFault[]): Row[] {
  try {
    const parsed = parse(text, { columns: true, bom: true, info: true, skip_empty_lines: true, trim: true, relax_column_count: false }) as unknown as { info: { lines: number }; record: Record<string, string> }[];
    return parsed.map(({ info, record }) => ({ line: info.lines, value: fromCells(record) }));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    faults.push({ line: Number(error['lines'] ?? 0), reason: error.message });
    return [];
  }
}

/** An empty cell counts as absent, save for the fields that every correction needs. */
function fromCells(record: Record<string, string>): Record<string, unknown> {
  const cells = Object.entries(record).filter(([name, cell]) => cell !== '' || ['subject', 'prompt', 'target'].includes(name));
  return Object.fromEntries(
    cells.map(([name, cell]): [string, unknown] => {
      if (LISTS.has(name)) return [name, cell.split(CSV_LIST_SEPARATOR).map((part) => part.trim()).filter((part) => part !== '')];
      if (name === 'issuedAt' && /^\d+$/.test(cell)) return [name, Number(cell)];
      return [name, cell];
    }),
  );
}
