/** An operator's undo. It makes a version of its own, which is probed like any other. */
import { z } from 'zod';
import type { CorrectionRevision } from './correction.ts';
import type { BlobReference, HeadReference, ProbeScores, Removal } from './editing.ts';

/**
 * `version`: removes what that version added and restores what it removed, unless something later
 * replaced it. `correction`: the same for one correction or retraction of a version. `rollback`:
 * restores exactly the corrections of that version.
 */
const undoTargetSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('version'), version: z.number().int().positive() }),
  z.object({ kind: z.literal('correction'), id: z.string().min(1) }),
  z.object({ kind: z.literal('rollback'), version: z.number().int().nonnegative() }),
]);

export const undoRequestSchema = z.object({
  /** Chosen by the caller; a repeated request has no effect. It becomes part of object names. */
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,63}$/),
  target: undoTargetSchema,
  reason: z.string().max(1_000),
  requestedBy: z.string().max(200),
  /** Milliseconds since 1970. */
  requestedAt: z.number().int().nonnegative(),
});

export type UndoTarget = z.infer<typeof undoTargetSchema>;
export type UndoRequest = z.infer<typeof undoRequestSchema>;

/** A summary of the plan from HEAD. The plan itself may be large and is a staged blob. */
export interface UndoPlan {
  head: HeadReference;
  /** The version that an earlier run of this undo made. Then only the announcement is left. */
  committed: { version: number; hash: string } | null;
  /** `UndoSteps` as canonical JSON; null if there is nothing to do. */
  steps: BlobReference | null;
  removed: number;
  restored: number;
  kept: Kept[];
  /** The reason there is nothing to do, else null. */
  nothing: string | null;
}

/** Returns the id of an undo in its role as the revision that causes removals. */
export function undoRevisionId({ id }: Pick<UndoRequest, 'id'>): string {
  return `undo:${id}`;
}

export interface UndoSteps {
  removals: Removal[];
  /** In the order of their first addition, with their former pairs: row `row` of `pairs`. */
  restored: {
    revision: CorrectionRevision;
    origin: { version: number; row: number };
    pairs: BlobReference;
    row: number;
  }[];
}

/** The first hundred corrections that the undo skips, because something later replaced them. */
export interface Kept {
  correctionId: string;
  reason: string;
}

/** `before` and `after` are null if an earlier run made the version; its entry has them. */
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
