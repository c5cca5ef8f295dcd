/**
 * A name for a version of a lineage, which can be moved: `stable` is what is served where a request
 * names no version.
 */
import { z } from 'zod';

export const STABLE_ALIAS = 'stable';

/** `base` and `head` are names of versions already. */
export const ALIAS_NAME = /^(?!(base|head)$)[a-z][a-z0-9-]{0,31}$/;

export const aliasRecordSchema = z.object({
  alias: z.string().regex(ALIAS_NAME),
  /** Null: it follows HEAD. 0 is the base model. */
  version: z.number().int().nonnegative().nullable(),
  reason: z.string().max(1_000),
  by: z.string().max(200),
  /** Milliseconds since 1970. */
  at: z.number().int().nonnegative(),
  /** Chosen by the caller; repeating a move with the same id has no effect. */
  id: z.string().min(1).max(200),
});

/** One move of an alias; an alias's last record is current. */
export type AliasRecord = z.infer<typeof aliasRecordSchema>;

export type AliasMove = Omit<AliasRecord, 'at'> & {
  /** The id of the record that this one withdraws, unless the alias has moved since. */
  takesBack?: string;
};

export type AliasMoved =
  | { kind: 'moved'; record: AliasRecord }
  /** The alias has moved since the record that was to be withdrawn. */
  | { kind: 'overtaken'; record: AliasRecord | null }
  /** The version does not exist, or the name is malformed. */
  | { kind: 'refused'; reason: string };
