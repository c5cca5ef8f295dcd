/**
 * Decides who may do what over HTTP. Tokens have roles, and may be limited to lineages and to
 * subjects. `tokens-file.ts` stores the tokens; each route declares its requirements
 * (`admission.ts`).
 *
 * Only the SHA-256 of a token is stored. A slow hash is unnecessary: unlike a password, 256 random
 * bits cannot be guessed.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { LINEAGE_NAME, normalisedText, type FactCorrection } from '../../schemas/correction.ts';
import { Refusal } from './refusals.ts';

/**
 * `read`: answers and versions. `submit`: corrections. `operate`: viewing and changing the state of
 * lineages. No role contains another.
 */
export const ROLES = ['read', 'submit', 'operate'] as const;
export type Role = (typeof ROLES)[number];

export const TOKEN_LIMITS = {
  tokensMax: 1_000,
  lineagesMax: 100,
  subjectsMax: 100,
  subjectCharactersMax: 400,
} as const;

/** A name is followed by `: ` in a correction's source, so it contains neither character. */
export const TOKEN_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

const TOKEN_FORM = /^errata_[A-Za-z0-9_-]{43}$/;

/** A stored token. Strict, so that a misspelt limit is not taken for a missing one. */
const tokenRecord = z.strictObject({
  name: z.string().regex(TOKEN_NAME),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  roles: z.array(z.enum(ROLES)).min(1),
  /** If absent, every lineage. */
  lineages: z.array(z.string().regex(LINEAGE_NAME)).max(TOKEN_LIMITS.lineagesMax).optional(),
  /** Patterns for the subjects of permitted submissions; if absent, every subject. */
  subjects: z
    .array(z.string().min(1).max(TOKEN_LIMITS.subjectCharactersMax))
    .max(TOKEN_LIMITS.subjectsMax)
    .optional(),
  createdAt: z.iso.datetime({ offset: true }),
  /** When the token expires; if absent, never. */
  expiresAt: z.iso.datetime({ offset: true }).optional(),
});

export type TokenRecord = z.infer<typeof tokenRecord>;

/** The tokens file, in which names and digests are unique. */
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

/** The current users. `unknown`: tokens are required but cannot be read, so nobody is admitted. */
export type Users =
  | { kind: 'open'; hosts: 'loopback' | 'any' }
  | { kind: 'tokens'; tokens: readonly TokenRecord[] }
  | { kind: 'unknown' };

export const OPEN: Users = { kind: 'open', hosts: 'any' };

/** The sender of a request and its permissions. */
export interface Caller {
  /** The token's name; null if tokens are not required, or none was sent. */
  name: string | null;
  roles: readonly Role[];
  /** Null for every lineage, or subject. */
  lineages: readonly string[] | null;
  subjects: readonly string[] | null;
}

export const ANYBODY: Caller = { name: null, roles: ROLES, lineages: null, subjects: null };
export const NOBODY: Caller = { name: null, roles: [], lineages: [], subjects: [] };

/** Makes a token: 256 random bits after a prefix that scanners for leaked secrets recognise. */
export function newToken(): string {
  return `errata_${randomBytes(32).toString('base64url')}`;
}

export function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/**
 * Identifies the caller by its Authorization header; `now` is in milliseconds since 1970. Every
 * token is compared, in constant time.
 */
export function identify(
  tokens: readonly TokenRecord[],
  authorization: string | undefined,
  now: number,
): Caller | Refusal {
  if (authorization === undefined) return NO_TOKEN;
  const [, presented] = /^Bearer +(\S+) *$/i.exec(authorization) ?? [];
  if (presented === undefined || !TOKEN_FORM.test(presented)) return MALFORMED;
  const digest = Buffer.from(digestOf(presented), 'hex');
  let found: TokenRecord | null = null;
  for (const token of tokens)
    if (timingSafeEqual(digest, Buffer.from(token.sha256, 'hex'))) found = token;
  if (found === null) return UNKNOWN_TOKEN;
  if (found.expiresAt !== undefined && Date.parse(found.expiresAt) <= now)
    return new Refusal('expired_token', `The token expired at ${found.expiresAt}.`);
  const { name, roles, lineages, subjects } = found;
  return { name, roles, lineages: lineages ?? null, subjects: subjects ?? null };
}

const NO_TOKEN = new Refusal('no_token', 'Send a token: "Authorization: Bearer <token>".');
const MALFORMED = new Refusal(
  'malformed_token',
  'This is not a token: one is sent as "Authorization: Bearer errata_…", with 43 characters ' +
    'behind the "_".',
);
const UNKNOWN_TOKEN = new Refusal(
  'unknown_token',
  'The token is unknown; it may have been revoked.',
);

export function mayUse(caller: Caller, lineage: string): boolean {
  return caller.lineages === null || caller.lineages.includes(lineage);
}

/**
 * Returns why a caller may not submit this correction; null if it may. The whole subject must match
 * a pattern, case-sensitively, in which `*` is any run of characters. Subject and pattern are both
 * normalised as in the fact's key.
 */
export function submissionFault(
  { name, subjects }: Caller,
  correction: Pick<FactCorrection, 'subject' | 'id'>,
  idGiven: boolean,
): string | null {
  if (subjects === null) return null;
  const subject = normalisedText(correction.subject);
  if (!subjects.some((pattern) => matches(normalisedText(pattern), subject))) {
    const patterns = subjects.map((pattern) => `"${pattern}"`).join(', ');
    return (
      `The token "${name ?? ''}" is for the subjects ${patterns}; ` +
      `"${correction.subject.slice(0, 100)}" is not one of them.`
    );
  }
  // The first correction with an id counts. Without this check a submitter could use other
  // submitters' ids, and their corrections would be dropped as duplicates.
  if (idGiven && !correction.id.startsWith(`${name ?? ''}:`))
    return `The ids that the token "${name ?? ''}" may choose begin with "${name ?? ''}:".`;
  return null;
}

/** Returns the recorded source, prefixed with the submitter's name if there is one. */
export function sourceOf({ name }: Caller, source: string): string {
  return name === null ? source : `${name}: ${source}`;
}

/** Tells whether the host is only reachable from this machine: localhost, 127.0.0.0/8 or ::1. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (bare === 'localhost') return true;
  const version = isIP(bare);
  return version !== 0 && LOOPBACK.check(bare, version === 4 ? 'ipv4' : 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Matches in time proportional to at most the product of both lengths. */
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
