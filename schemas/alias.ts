/**
 * A movable name for a version of a lineage. `stable` is served when a request names no version.
 */
import { z } from 'zod';

export const STABLE_ALIAS = 'stable';

/** `base` and `head` already name versions. */
export const ALIAS_NAME = /^(?!(base|head)$)[a-z][a-z0-9-]{0,31}$/;

export const aliasRecordSchema = z.object({
  alias: z.string().regex(ALIAS_NAME),
  /** Null means that the alias follows HEAD; 0 is the base model. */
  version: z.number().int().nonnegative().nullable(),
  reason: z.string().max(1_000),
  by: z.string().max(200),
  /** Milliseconds since 1970. */
  at: z.number().int().nonnegative(),
  /** Chosen by the caller; repeating a move with the same id has no effect. */
  id: z.string().min(1).max(200),
});

/** One move of an alias. The last record of an alias is current. */
export type AliasRecord = z.infer<typeof aliasRecordSchema>;

export type AliasMove = Omit<AliasRecord, 'at'> & {
  /** The id of the record that this move undoes, unless the alias has moved since. */
  takesBack?: string;
};

export type AliasMoved =
  | { kind: 'moved'; record: AliasRecord }
  /** The alias has moved since the record that should be undone. */
  | { kind: 'overtaken'; record: AliasRecord | null }
  /** The version does not exist, or the name is malformed. */
  | { kind: 'refused'; reason: string };
