/**
 * Parses corrections from NDJSON or CSV into records. Faults are collected with their line numbers.
 */
import { randomUUID } from 'node:crypto';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import type { FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import { jsonLines } from './read-input.ts';

export interface InputFault {
  /** Starts at 1; 0 if the fault belongs to no line. */
  line: number;
  reason: string;
}

export interface ReadCorrections {
  corrections: { line: number; correction: FactCorrection }[];
  faults: InputFault[];
}

/** Bounds of one input; reading stops when one is exceeded. */
export const INPUT_LIMITS = {
  bytesMax: 256 * 2 ** 20,
  /** A line of NDJSON or a row of CSV; a record of 64 KiB is at most 394 KB of JSON. */
  lineCharactersMax: 2 ** 20,
  correctionsMax: 100_000,
  faultsMax: 1_000,
  faultsPerCorrectionMax: 10,
  reasonCharactersMax: 300,
} as const;

/** Separates list items in a CSV cell and on the command line. */
const LIST_SEPARATOR = '|';

const texts = z.array(z.string());

/** The fields that corrections and repairs share. */
export const factMembers = {
  relation: z.string().nullable().optional(),
  previousAnswer: z.string().nullable().optional(),
  paraphrases: texts.optional(),
  neighbourhood: texts.optional(),
  source: z.string().optional(),
  /** Milliseconds since 1970, or an ISO 8601 time. */
  issuedAt: z
    .union([
      z.number().int().nonnegative(),
      z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
    ])
    .optional(),
};

/** `previous` and `neighbours` are also accepted, as the flags have these names. */
const fields = z.strictObject({
  ...factMembers,
  id: z.string().optional(),
  lineage: z.string().optional(),
  subject: z.string(),
  prompt: z.string(),
  target: z.string(),
  previous: z.string().nullable().optional(),
  neighbours: texts.optional(),
  replayOf: z.string().nullable().optional(),
});

export interface InputDefaults {
  lineage: string;
  source: string;
  /** Milliseconds since 1970. */
  now: number;
}

/** Parses one correction, or returns the fault. A correction without an id gets a new one. */
export function correctionFrom(value: unknown, defaults: InputDefaults): FactCorrection | string[] {
  const checked = fields.safeParse(value);
  if (!checked.success) return checked.error.issues.map(issueText);
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
    ...(given.replayOf !== null && given.replayOf !== undefined && { replayOf: given.replayOf }),
  };
  const faults = faultsOf(correction);
  return faults.length > 0 ? faults : correction;
}

export function issueText({ path, message }: { path: PropertyKey[]; message: string }): string {
  return path.length > 0 ? `${path.join('.')}: ${message}` : message;
}

/**
 * Parses a whole text within INPUT_LIMITS; blank lines are skipped. If there are too many
 * corrections or faults, the last fault says that reading stopped there.
 */
export function readCorrections(
  text: string,
  format: 'ndjson' | 'csv',
  defaults: InputDefaults,
): ReadCorrections {
  const reading = new Reading(defaults);
  try {
    if (format === 'csv') readRows(text, reading);
    else
      for (const read of jsonLines(text, INPUT_LIMITS.lineCharactersMax)) {
        if ('fault' in read) reading.fault(read.line, read.fault);
        else reading.value(read.line, read.value);
      }
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
  }
  reading.faults.sort((a, b) => a.line - b.line);
  return { corrections: reading.corrections, faults: reading.faults };
}

/** Returns the format by the file name, else by how the text begins. */
export function formatOf(name: string, text: string): 'ndjson' | 'csv' {
  if (/\.csv$/i.test(name)) return 'csv';
  if (/\.(nd)?jsonl?$/i.test(name)) return 'ndjson';
  return text.trimStart().startsWith('{') ? 'ndjson' : 'csv';
}

export function listIn(text: string): string[] {
  return text
    .split(LIST_SEPARATOR)
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Thrown when a bound is exceeded. */
class Stopped extends Error {}

class Reading implements ReadCorrections {
  readonly corrections: ReadCorrections['corrections'] = [];
  readonly faults: InputFault[] = [];
  readonly #defaults: InputDefaults;
  #values = 0;

  constructor(defaults: InputDefaults) {
    this.#defaults = defaults;
  }

  value(line: number, value: unknown): void {
    // Issue times follow line order, even if a fact appears twice.
    const now = this.#defaults.now + this.#values++;
    const correction = correctionFrom(value, { ...this.#defaults, now });
    if (Array.isArray(correction)) {
      const { faultsPerCorrectionMax } = INPUT_LIMITS;
      const more = correction.length - faultsPerCorrectionMax;
      for (const reason of correction.slice(0, faultsPerCorrectionMax)) this.fault(line, reason);
      if (more > 0) this.fault(line, `and ${more} more faults`);
    } else if (this.corrections.length < INPUT_LIMITS.correctionsMax)
      this.corrections.push({ line, correction });
    else this.#stop(line, `there are more than ${INPUT_LIMITS.correctionsMax} corrections`);
  }

  fault(line: number, reason: string): void {
    this.faults.push({ line, reason: onOneLine(reason, INPUT_LIMITS.reasonCharactersMax) });
    if (this.faults.length >= INPUT_LIMITS.faultsMax)
      this.#stop(line, `there are ${this.faults.length} faults`);
  }

  #stop(line: number, why: string): never {
    this.faults.push({ line, reason: `${why}, so reading stopped here` });
    throw new Stopped();
  }
}

function readRows(text: string, reading: Reading): void {
  try {
    parse(text, {
      columns: true,
      bom: true,
      skip_empty_lines: true,
      trim: true,
      relax_column_count: false,
      max_record_size: INPUT_LIMITS.lineCharactersMax,
      on_record(record: Record<string, string>, { lines }) {
        reading.value(lines, fromCells(record));
        // Lets the parser discard the row.
        return null;
      },
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    reading.fault(Number(error['lines'] ?? 0), error.message);
  }
}

const NEEDED = new Set(['subject', 'prompt', 'target']);
const LISTS = new Set(['paraphrases', 'neighbourhood', 'neighbours']);

/** Drops empty cells, except for fields that every correction needs. */
function fromCells(record: Record<string, string>): Record<string, unknown> {
  const cells = Object.entries(record)
    .filter(([name, cell]) => cell !== '' || NEEDED.has(name))
    .map(([name, cell]): [string, unknown] => {
      if (LISTS.has(name)) return [name, listIn(cell)];
      return [name, name === 'issuedAt' && /^\d+$/.test(cell) ? Number(cell) : cell];
    });
  return Object.fromEntries(cells);
}
