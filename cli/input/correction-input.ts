/**
 * Corrections as people and programs write them, one JSON object a line or a CSV table, turned into
 * records. Faults are collected with their line numbers; nothing is sent while there are any,
 * unless the caller says so.
 */
import { randomUUID } from 'node:crypto';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { faultsOf, type FactCorrection } from '../../schemas/correction.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';

export interface InputFault {
  /** From 1; 0: of no line. */
  line: number;
  reason: string;
}

export interface ReadCorrections {
  corrections: { line: number; correction: FactCorrection }[];
  faults: InputFault[];
}

/**
 * What one input may hold: a larger one is refused, and more faults than these are not looked for.
 */
export const INPUT_LIMITS = {
  bytesMax: 256 * 2 ** 20,
  /** Of a line of NDJSON, or a row of CSV. A record of 64 KiB is at most 394 KB of JSON. */
  lineCharactersMax: 2 ** 20,
  correctionsMax: 100_000,
  faultsMax: 1_000,
  faultsPerCorrectionMax: 10,
  reasonCharactersMax: 300,
} as const;

/** A correction has some ten values and two lists of prompts. */
const JSON_LIMITS = { valuesMax: 1_000, depthMax: 8 };

/** How lists stand in one cell of a CSV table. */
export const CSV_LIST_SEPARATOR = '|';

const texts = z.array(z.string());
const instant = z.union([
  z.number().int().nonnegative(),
  z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
]);

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
  replayOf: z.string().nullable().optional(),
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
  if (!checked.success)
    return checked.error.issues.map((issue) =>
      issue.path.length > 0 ? `${issue.path.join('.')}: ${issue.message}` : issue.message,
    );
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
    ...(given.replayOf === undefined || given.replayOf === null
      ? {}
      : { replayOf: given.replayOf }),
  };
  const faults = faultsOf(correction);
  return faults.length > 0 ? faults : correction;
}

/**
 * A whole text in the format, within INPUT_LIMITS; blank lines are passed over. What is past a
 * limit is a fault of its line, and where there are too many corrections or faults the last fault
 * says that reading stopped there.
 */
export function readCorrections(
  text: string,
  format: 'ndjson' | 'csv',
  defaults: InputDefaults,
): ReadCorrections {
  const reading = new Reading(defaults);
  try {
    if (format === 'csv') readRows(text, reading);
    else readLines(text, reading);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
  }
  reading.faults.sort((a, b) => a.line - b.line);
  return { corrections: reading.corrections, faults: reading.faults };
}

/** By the file's name, else by how the text begins. */
export function formatOf(name: string, text: string): 'ndjson' | 'csv' {
  if (/\.csv$/i.test(name)) return 'csv';
  if (/\.(nd)?jsonl?$/i.test(name)) return 'ndjson';
  return text.trimStart().startsWith('{') ? 'ndjson' : 'csv';
}

/** Thrown when there is no sense in reading on. */
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
    // Within one text the order of the lines is the order of issue, also where a fact is given
    // twice.
    const correction = correctionFrom(value, {
      ...this.#defaults,
      now: this.#defaults.now + this.#values++,
    });
    if (Array.isArray(correction)) {
      const { faultsPerCorrectionMax } = INPUT_LIMITS;
      const more = correction.length - faultsPerCorrectionMax;
      for (const reason of correction.slice(0, faultsPerCorrectionMax)) this.fault(line, reason);
      if (more > 0) this.fault(line, `and ${more} faults more`);
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

function readLines(text: string, reading: Reading): void {
  const { lineCharactersMax } = INPUT_LIMITS;
  for (let line = 1, from = 0; from < text.length; line++) {
    const newLine = text.indexOf('\n', from);
    const end = newLine === -1 ? text.length : newLine;
    if (end - from > lineCharactersMax)
      reading.fault(
        line,
        `it has ${end - from} characters, at most ${lineCharactersMax} are allowed`,
      );
    else readLine(text.slice(from, end), line, reading);
    from = end + 1;
  }
}

function readLine(content: string, line: number, reading: Reading): void {
  if (content.trim() === '') return;
  let value: unknown;
  try {
    value = boundedJson(content, JSON_LIMITS);
  } catch (error) {
    if (!(error instanceof UnsoundJson)) throw error;
    return reading.fault(line, error.reason);
  }
  reading.value(line, value);
}

const LISTS = new Set(['paraphrases', 'neighbourhood', 'neighbours']);

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
        // Nothing is kept of a row but its correction.
        return null;
      },
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    reading.fault(Number(error['lines'] ?? 0), error.message);
  }
}

/** An empty cell counts as absent, save for the fields that every correction needs. */
function fromCells(record: Record<string, string>): Record<string, unknown> {
  const cells = Object.entries(record).filter(
    ([name, cell]) => cell !== '' || ['subject', 'prompt', 'target'].includes(name),
  );
  return Object.fromEntries(
    cells.map(([name, cell]): [string, unknown] => {
      if (LISTS.has(name))
        return [
          name,
          cell
            .split(CSV_LIST_SEPARATOR)
            .map((part) => part.trim())
            .filter((part) => part !== ''),
        ];
      if (name === 'issuedAt' && /^\d+$/.test(cell)) return [name, Number(cell)];
      return [name, cell];
    }),
  );
}
