/**
 * Repairs of what is replayed: members named by --set for one or all, or lines of a file that each
 * say what they repair.
 */
import { InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Repair } from '../../schemas/replay.ts';
import { CSV_LIST_SEPARATOR, INPUT_LIMITS, type InputFault } from './correction-input.ts';

/** As long lists of repairs as of corrections; one is a correction at most. */
const JSON_LIMITS = { valuesMax: 1_000, depthMax: 8 };

const instant = z.union([
  z.number().int().nonnegative(),
  z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
]);

const repair = z.strictObject({
  subject: z.string().optional(),
  relation: z.string().nullable().optional(),
  prompt: z.string().optional(),
  target: z.string().optional(),
  previousAnswer: z.string().nullable().optional(),
  paraphrases: z.array(z.string()).optional(),
  neighbourhood: z.array(z.string()).optional(),
  source: z.string().optional(),
  issuedAt: instant.optional(),
});

/**
 * `lineage` is taken and passed over: a correction that `submit` takes can be made a repair by
 * adding what it repairs.
 */
const line = repair.extend({
  replayOf: z.string().min(1),
  id: z.string().optional(),
  lineage: z.string().optional(),
});

const MEMBERS = Object.keys(repair.shape);
const LISTS = new Set(['paraphrases', 'neighbourhood']);

/**
 * For `--set name=value`, which may stand several times: null and an empty relation are the same;
 * lists are separated by a bar; `issuedAt=now` is the time of the call.
 */
export function setNamed(text: string, before: Repair | undefined): Repair {
  const [, name, value] = /^(\w+)=(.*)$/su.exec(text) ?? [];
  if (name === undefined || value === undefined || !MEMBERS.includes(name))
    throw new InvalidArgumentError(
      `It must be <member>=<value>, and the members are ${MEMBERS.join(', ')}.`,
    );
  const given = { [name]: valueOf(name, value) };
  const read = repair.safeParse(given);
  if (!read.success) throw new InvalidArgumentError(`${name}: ${read.error.issues[0]!.message}`);
  return { ...before, ...(read.data as Repair) };
}

function valueOf(name: string, value: string): unknown {
  if (LISTS.has(name))
    return value
      .split(CSV_LIST_SEPARATOR)
      .map((part) => part.trim())
      .filter((part) => part !== '');
  if (name === 'issuedAt')
    return value === 'now' ? Date.now() : /^\d+$/.test(value) ? Number(value) : value;
  return value === '' && (name === 'relation' || name === 'previousAnswer') ? null : value;
}

/**
 * By what each repairs. Every line is a JSON object with `replayOf`; the faults say which is not.
 */
export function readRepairs(text: string): {
  repairs: Map<string, Repair & { id?: string }>;
  faults: InputFault[];
} {
  const repairs = new Map<string, Repair & { id?: string }>();
  const faults: InputFault[] = [];
  const lines = text.split('\n');
  for (const [i, content] of lines.entries()) {
    if (content.trim() === '') continue;
    const fault = faultOf(content, repairs);
    if (fault !== null)
      faults.push({ line: i + 1, reason: onOneLine(fault, INPUT_LIMITS.reasonCharactersMax) });
    if (faults.length === INPUT_LIMITS.faultsMax) break;
  }
  return { repairs, faults };
}

function faultOf(content: string, repairs: Map<string, Repair & { id?: string }>): string | null {
  if (content.length > INPUT_LIMITS.lineCharactersMax)
    return `it has ${content.length} characters, at most ${INPUT_LIMITS.lineCharactersMax} are allowed`;
  let value: unknown;
  try {
    value = boundedJson(content, JSON_LIMITS);
  } catch (error) {
    if (error instanceof UnsoundJson) return error.reason;
    throw error;
  }
  const read = line.safeParse(value);
  if (!read.success)
    return read.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
  const { replayOf, lineage: _lineage, ...rest } = read.data;
  if (repairs.has(replayOf)) return `"${replayOf}" is repaired twice`;
  repairs.set(replayOf, rest as Repair & { id?: string });
  return null;
}
