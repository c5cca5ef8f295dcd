/**
 * A name for a version of a lineage, which can be moved: `stable` is what is served where a request
 * names no version.
 */
import { z } from 'zod';

export const STABLE_ALIAS = 'stable';

/** `base` and `head` are names of versions already. */
export const ALIAS_NAME = /^(?!(base|head)$)[a-z][a-z0-9-]{0,31}$/;

export const aliasWordSchema = z.object({
  alias: z.string().regex(ALIAS_NAME),
  /** Null: it follows HEAD. 0 is the base model. */
  version: z.number().int().nonnegative().nullable(),
  reason: z.string().max(1_000),
  by: z.string().max(200),
  /** Milliseconds since 1970. */
  at: z.number().int().nonnegative(),
  /** Chosen by who moves it: said twice it is said once. */
  id: z.string().min(1).max(200),
});

/** One move of an alias; the last one of an alias says where it stands. */
export type AliasWord = z.infer<typeof aliasWordSchema>;

export type AliasMove = Omit<AliasWord, 'at'> & {
  /**
   * The id of an earlier word on the alias that this one takes back: where another came since, that
   * one stands.
   */
  takesBack?: string;
};

export type AliasMoved =
  | { kind: 'moved'; word: AliasWord }
  /** Somebody moved the alias since the word that was to be taken back. */
  | { kind: 'stands'; word: AliasWord | null }
  /** An alias can only name a version that there is, and has a name of its own form. */
  | { kind: 'refused'; reason: string };
