/** What an operator asks to be undone. It is done by a version of its own, which passes the probes like any other. */
import { z } from 'zod';

/**
 * `version`: what that version added goes and what it removed comes back, as far as nothing later stands in its place.
 * `correction`: the same for one correction or retraction of a version. `rollback`: exactly the corrections of that
 * version hold again.
 */
const undoTargetSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('version'), version: z.number().int().positive() }),
  z.object({ kind: z.literal('correction'), id: z.string().min(1) }),
  z.object({ kind: z.literal('rollback'), version: z.number().int().nonnegative() }),
]);

export const undoRequestSchema = z.object({
  /** Chosen by who asks: asked twice it is done once. Of the form of a segment of an object's name. */
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,63}$/),
  target: undoTargetSchema,
  reason: z.string().max(1_000),
  requestedBy: z.string().max(200),
  /** Milliseconds since 1970. */
  requestedAt: z.number().int().nonnegative(),
});

export type UndoTarget = z.infer<typeof undoTargetSchema>;
export type UndoRequest = z.infer<typeof undoRequestSchema>;
