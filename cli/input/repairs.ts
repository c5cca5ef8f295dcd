/** Repairs of records that are sent again: `--set` for all of them, or a file with one for each. */
import { InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Repair } from '../../schemas/resubmit.ts';
import {
  factMembers,
  INPUT_LIMITS,
  issueText,
  listIn,
  type InputFault,
} from './correction-input.ts';
import { jsonLines } from './read-input.ts';

export type NamedRepair = Repair & { id?: string };

const repair = z.strictObject({
  ...factMembers,
  subject: z.string().optional(),
  prompt: z.string().optional(),
  target: z.string().optional(),
});

/** `lineage` is ignored, so that adding `replayOf` turns a correction into a repair. */
const line = repair.extend({
  replayOf: z.string().min(1),
  id: z.string().optional(),
  lineage: z.string().optional(),
});

const MEMBERS = Object.keys(repair.shape);

/** Parses `--set member=value` and adds it to the earlier ones. */
export function setNamed(text: string, before: Repair | undefined): Repair {
  const [, name, value] = /^(\w+)=(.*)$/su.exec(text) ?? [];
  if (name === undefined || value === undefined || !MEMBERS.includes(name))
    throw new InvalidArgumentError(
      `Expected <member>=<value>; the members are ${MEMBERS.join(', ')}.`,
    );
  const read = repair.safeParse({ [name]: valueOf(name, value) });
  if (!read.success) throw new InvalidArgumentError(`${name}: ${read.error.issues[0]!.message}`);
  return { ...before, ...(read.data as Repair) };
}

function valueOf(name: string, value: string): unknown {
  if (name === 'paraphrases' || name === 'neighbourhood') return listIn(value);
  if (name === 'issuedAt')
    return value === 'now' ? Date.now() : /^\d+$/.test(value) ? Number(value) : value;
  return value === '' && (name === 'relation' || name === 'previousAnswer') ? null : value;
}

/** Parses a file of repairs, keyed by the record that each repairs. */
export function readRepairs(text: string): {
  repairs: Map<string, NamedRepair>;
  faults: InputFault[];
} {
  const repairs = new Map<string, NamedRepair>();
  const faults: InputFault[] = [];
  for (const read of jsonLines(text, INPUT_LIMITS.lineCharactersMax)) {
    const fault = 'fault' in read ? read.fault : addRepair(repairs, read.value);
    if (fault !== null)
      faults.push({ line: read.line, reason: onOneLine(fault, INPUT_LIMITS.reasonCharactersMax) });
    if (faults.length === INPUT_LIMITS.faultsMax) break;
  }
  return { repairs, faults };
}

/** Returns null, or the fault in the repair. */
function addRepair(repairs: Map<string, NamedRepair>, value: unknown): string | null {
  const read = line.safeParse(value);
  if (!read.success) return read.error.issues.map(issueText).join('; ');
  const { replayOf, lineage: _lineage, ...rest } = read.data;
  if (repairs.has(replayOf)) return `"${replayOf}" is repaired twice`;
  repairs.set(replayOf, rest as NamedRepair);
  return null;
}
