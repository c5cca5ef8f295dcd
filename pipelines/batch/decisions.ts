/** Decides on the edits of a batch after each step: pure functions without waiting. */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { ProbeReport, Refusal, StagedUpdate, TargetShard } from '../../schemas/editing.ts';

export type NextStep =
  | { kind: 'commit' }
  /** Stage again without the corrections that fail individually. */
  | { kind: 'drop'; refused: Refusal[] }
  /** Try each half separately. */
  | { kind: 'split' }
  /** Refuse a single revision that fails. */
  | { kind: 'quarantine' };

export function nextStepAfter(
  { verdict }: ProbeReport,
  edits: readonly CorrectionRevision[],
  undecided: readonly FactRevision[],
): NextStep {
  if (verdict.pass) return { kind: 'commit' };
  const ids = new Set(edits.map(revisionId));
  const refused = verdict.failing.filter(({ id }) => ids.has(id));
  if (refused.length > 0) return { kind: 'drop', refused };
  return undecided.length > 1 ? { kind: 'split' } : { kind: 'quarantine' };
}

/** Splits items into parts of at most `itemsMax`, of nearly equal size, in order. */
export function partsOf<T>(items: readonly T[], itemsMax: number): T[][] {
  const count = Math.ceil(items.length / itemsMax);
  const startOf = (part: number): number => Math.floor((part * items.length) / count);
  return Array.from({ length: count }, (_, i) => items.slice(startOf(i), startOf(i + 1)));
}

/** Splits at least two items into two halves, neither empty. */
export function halvesOf<T>(items: readonly T[]): [T[], T[]] {
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}

/** Returns the edits for which some shard found a target. */
export function acceptedEdits(
  edits: readonly CorrectionRevision[],
  shards: readonly TargetShard[],
): CorrectionRevision[] {
  const accepted = new Set(shards.flatMap((shard) => shard.accepted.map(({ id }) => id)));
  return edits.filter((edit) => accepted.has(revisionId(edit)));
}

export function withoutRefused(
  edits: readonly CorrectionRevision[],
  refused: readonly { id: string }[],
): CorrectionRevision[] {
  const ids = new Set(refused.map(({ id }) => id));
  return edits.filter((edit) => !ids.has(revisionId(edit)));
}

/** Returns the corrections that the staged update lacks: refused, or missing without a reason. */
export function unstaged(
  edits: readonly CorrectionRevision[],
  { rows, refused }: StagedUpdate,
): Refusal[] {
  const staged = new Set(rows);
  const refusals = new Map(refused.map((refusal) => [refusal.id, refusal]));
  return edits
    .map(revisionId)
    .filter((id) => !staged.has(id) || refusals.has(id))
    .map((id) => refusals.get(id) ?? invalid(id, 'the update was staged without this correction'));
}

export function invalid(id: string, reason: string, measured: Refusal['measured'] = {}): Refusal {
  return { id, code: 'invalid', reason, measured };
}
