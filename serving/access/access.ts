/**
 * Who may do what over HTTP: tokens with roles, perhaps limited to lineages and to subjects. It
 * decides and nothing else: where tokens are kept is `serving/access/tokens-file.ts`, which request
 * needs what is told by its route (`admission.ts`).
 *
 * Of a token only its SHA-256 is known. That is enough for 256 random bits, which nobody can guess;
 * a slow hash is for passwords.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { LINEAGE_NAME, normalisedText, type FactCorrection } from '../../schemas/correction.ts';

/**
 * `read`: answers and versions. `submit`: corrections. `operate`: what shows or changes the
 * operation. None contains another.
 */
export const ROLES = ['read', 'submit', 'operate'] as const;
export type Role = (typeof ROLES)[number];

export const TOKEN_LIMITS = {
  tokensMax: 1_000,
  lineagesMax: 100,
  subjectsMax: 100,
  subjectCharactersMax: 400,
} as const;

/** Names stand before `: ` in a correction's source, so they hold neither. */
export const TOKEN_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

const TOKEN_FORM = /^errata_[A-Za-z0-9_-]{43}$/;

/** What is kept of a token. Strict, so that a misspelt limit is no missing one. */
export const tokenRecord = z.strictObject({
  name: z.string().regex(TOKEN_NAME),
  /** Of the whole token, in hexadecimal. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  roles: z.array(z.enum(ROLES)).min(1),
  /** Absent: every lineage. */
  lineages: z.array(z.string().regex(LINEAGE_NAME)).max(TOKEN_LIMITS.lineagesMax).optional(),
  /** Patterns for the subjects of the corrections that may be submitted; absent: every subject. */
  subjects: z
    .array(z.string().min(1).max(TOKEN_LIMITS.subjectCharactersMax))
    .max(TOKEN_LIMITS.subjectsMax)
    .optional(),
  createdAt: z.iso.datetime({ offset: true }),
  /** From then on it is refused; absent: never. */
  expiresAt: z.iso.datetime({ offset: true }).optional(),
});

export type TokenRecord = z.infer<typeof tokenRecord>;

/** The whole file: names and digests occur once. */
export const tokensFile = z
  .strictObject({ tokens: z.array(tokenRecord).max(TOKEN_LIMITS.tokensMax) })
  .superRefine(({ tokens }, context) => {
    for (const field of ['name', 'sha256'] as const) {
      const seen = new Set<string>();
      for (const [i, token] of tokens.entries()) {
        if (seen.has(token[field]))
          context.addIssue({ code: 'custom', path: ['tokens', i, field], message: 'occurs twice' });
        seen.add(token[field]);
      }
    }
  });

/**
 * What is known of the users at this moment. `unknown`: tokens are asked for and cannot be read, so
 * nobody is let in.
 */
export type Users =
  | { kind: 'open'; hosts: 'loopback' | 'any' }
  | { kind: 'tokens'; tokens: readonly TokenRecord[] }
  | { kind: 'unknown' };

export const OPEN: Users = { kind: 'open', hosts: 'any' };

/** Who asks, as far as that matters. */
export interface Caller {
  /** The token's name; null where no tokens are asked for, and for a caller without one. */
  name: string | null;
  roles: readonly Role[];
  /** Null: every lineage, or subject. */
  lineages: readonly string[] | null;
  subjects: readonly string[] | null;
}

export const ANYBODY: Caller = { name: null, roles: ROLES, lineages: null, subjects: null };
export const NOBODY: Caller = { name: null, roles: [], lineages: [], subjects: [] };

export type Unidentified =
  { kind: 'no-token' | 'malformed' | 'unknown-token' } | { kind: 'expired'; expiresAt: string };

/** 256 random bits behind a prefix that people and scanners for leaked secrets know again. */
export function newToken(): string {
  return `errata_${randomBytes(32).toString('base64url')}`;
}

export function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/**
 * Whose token the Authorization header bears, `now` being milliseconds since 1970. Every token is
 * compared, in constant time.
 */
export function identify(
  tokens: readonly TokenRecord[],
  authorization: string | undefined,
  now: number,
): { kind: 'caller'; caller: Caller } | Unidentified {
  if (authorization === undefined) return { kind: 'no-token' };
  const [, presented] = /^Bearer +(\S+) *$/i.exec(authorization) ?? [];
  if (presented === undefined || !TOKEN_FORM.test(presented)) return { kind: 'malformed' };
  const digest = Buffer.from(digestOf(presented), 'hex');
  let found: TokenRecord | null = null;
  for (const token of tokens)
    if (timingSafeEqual(digest, Buffer.from(token.sha256, 'hex'))) found = token;
  if (found === null) return { kind: 'unknown-token' };
  if (found.expiresAt !== undefined && Date.parse(found.expiresAt) <= now)
    return { kind: 'expired', expiresAt: found.expiresAt };
  const { name, roles, lineages, subjects } = found;
  return {
    kind: 'caller',
    caller: { name, roles, lineages: lineages ?? null, subjects: subjects ?? null },
  };
}

export function mayUse(caller: Caller, lineage: string): boolean {
  return caller.lineages === null || caller.lineages.includes(lineage);
}

/**
 * Why a caller may not submit this correction; null where it may. The whole subject must match a
 * pattern, case sensitive, `*` being any run of characters, both normalised as subjects are for the
 * fact's key.
 */
export function submissionFault(
  { name, subjects }: Caller,
  correction: Pick<FactCorrection, 'subject' | 'id'>,
  idGiven: boolean,
): string | null {
  if (subjects === null) return null;
  if (
    !subjects.some((pattern) =>
      matches(normalisedText(pattern), normalisedText(correction.subject)),
    )
  ) {
    return `The token "${name ?? ''}" is for the subjects ${subjects.map((pattern) => `"${pattern}"`).join(', ')}; "${correction.subject.slice(0, 100)}" is none of them.`;
  }
  // Whose id comes first counts: without this, ids of other submitters could be taken, and their
  // corrections dropped as duplicates.
  if (idGiven && !correction.id.startsWith(`${name ?? ''}:`))
    return `The ids that the token "${name ?? ''}" may choose begin with "${name ?? ''}:".`;
  return null;
}

/** The source as it is recorded: with the submitter's name before it, where there is one. */
export function sourceOf({ name }: Caller, source: string): string {
  return name === null ? source : `${name}: ${source}`;
}

/**
 * Whether only this machine reaches the host: `localhost`, 127.0.0.0/8 or ::1, as a name or as a
 * URL writes it.
 */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (bare === 'localhost') return true;
  const version = isIP(bare);
  return version !== 0 && LOOPBACK.check(bare, version === 4 ? 'ipv4' : 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Takes time proportional to the product of both lengths at most, whatever the pattern. */
function matches(pattern: string, text: string): boolean {
  const [first, ...rest] = pattern.split('*') as [string, ...string[]];
  const last = rest.pop();
  if (last === undefined) return text === first;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last))
    return false;
  let from = first.length;
  const end = text.length - last.length;
  for (const part of rest) {
    const at = text.indexOf(part, from);
    if (at === -1 || at + part.length > end) return false;
    from = at + part.length;
  }
  return true;
}
