/**
 * What an operator asks to be undone. It is done by a version of its own, which passes the probes
 * like any other.
 */
import { z } from 'zod';
import type { CorrectionRevision } from './correction.ts';
import type { BlobReference, HeadReference, ProbeScores, Removal } from './editing.ts';

/**
 * `version`: what that version added goes and what it removed comes back, as far as nothing later
 * stands in its place. `correction`: the same for one correction or retraction of a version.
 * `rollback`: exactly the corrections of that version hold again.
 */
const undoTargetSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('version'), version: z.number().int().positive() }),
  z.object({ kind: z.literal('correction'), id: z.string().min(1) }),
  z.object({ kind: z.literal('rollback'), version: z.number().int().nonnegative() }),
]);

export const undoRequestSchema = z.object({
  /**
   * Chosen by who asks: asked twice it is done once. Of the form of a segment of an object's name.
   */
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,63}$/),
  target: undoTargetSchema,
  reason: z.string().max(1_000),
  requestedBy: z.string().max(200),
  /** Milliseconds since 1970. */
  requestedAt: z.number().int().nonnegative(),
});

export type UndoTarget = z.infer<typeof undoTargetSchema>;
export type UndoRequest = z.infer<typeof undoRequestSchema>;

/**
 * What an undo found to do, seen from HEAD. The plan itself may be large and is a staged blob, an
 * `UndoSteps` as canonical JSON.
 */
export interface UndoPlan {
  head: HeadReference;
  /**
   * The version that this undo already made, by an earlier run of it; then nothing is left to do
   * but to announce.
   */
  committed: { version: number; hash: string } | null;
  /** Null where there is nothing to do. */
  steps: BlobReference | null;
  removed: number;
  restored: number;
  kept: Kept[];
  /** Why there is nothing to do; null where there is something. */
  nothing: string | null;
}

/** As the revision that takes something out: `undo:<id>`. */
export function undoRevisionId({ id }: Pick<UndoRequest, 'id'>): string {
  return `undo:${id}`;
}

export interface UndoSteps {
  removals: Removal[];
  /**
   * Hold again, with the pairs they had: row `row` of the blob `pairs`. In the order in which they
   * were first added.
   */
  restored: {
    revision: CorrectionRevision;
    origin: { version: number; row: number };
    pairs: BlobReference;
    row: number;
  }[];
}

/** What the undo leaves as it is, since something later stands in its place; the first hundred. */
export interface Kept {
  correctionId: string;
  reason: string;
}

/**
 * `before` and `after` of an undo that an earlier run had done already are null: they stand in the
 * version's entry.
 */
export type UndoResult =
  | {
      kind: 'undone';
      version: number;
      hash: string;
      removed: number;
      restored: number;
      kept: Kept[];
      before: ProbeScores | null;
      after: ProbeScores | null;
    }
  | { kind: 'nothing'; reason: string; kept: Kept[] }
  | { kind: 'refused'; reasons: string[]; before: ProbeScores; after: ProbeScores };
