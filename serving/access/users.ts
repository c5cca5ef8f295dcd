/**
 * The users that `serve` currently knows: those in the tokens file, or anybody if it may be open.
 */
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { messageOf } from '../../schemas/failures.ts';
import { isLoopback, type Users } from './access.ts';
import { readTokens, TokensUnreadable } from './tokens-file.ts';

export interface AccessSettings {
  host: string;
  /** Absolute; the file need not exist. */
  tokensPath: string;
  /** True if the operator named the tokens file, which must then exist. */
  tokensRequired: boolean;
  /** True if a reverse proxy authenticates the users. */
  open: boolean;
}

/**
 * Tells whether a missing tokens file means that anybody may connect. This requires that the
 * operator did not name one, and either set `open` or binds the loopback interface.
 */
export function mayBeOpen({ tokensRequired, open, host }: AccessSettings): boolean {
  return !tokensRequired && (open || isLoopback(host));
}

/**
 * Returns a function that returns the current users. Each call checks the file and reads it if it
 * changed, so that a revoked token is refused at once. If a file that existed is gone or
 * unreadable, nobody is admitted.
 */
export function knownUsers(
  settings: AccessSettings,
  log: Pick<Logger, 'info' | 'warn' | 'error'>,
): () => Users {
  const { host, tokensPath: path } = settings;
  let open = mayBeOpen(settings);
  let signature: string | null = null;
  let users: Users = { kind: 'unknown' };
  const look = (): Users => {
    try {
      const tokens = readTokens(path);
      if (tokens === null && open) {
        log.warn({ path, host }, 'Requests need no token');
        return { kind: 'open', hosts: settings.open ? 'any' : 'loopback' };
      }
      open = false;
      if (tokens === null) throw new TokensUnreadable(path, 'the file does not exist');
      log.info({ path, tokens: tokens.length }, 'Requests need a token');
      return { kind: 'tokens', tokens };
    } catch (fault) {
      open = false;
      log.error({ reason: messageOf(fault) }, 'All requests are refused');
      return { kind: 'unknown' };
    }
  };
  return () => {
    const now = signatureOf(path);
    if (now !== signature) users = look();
    signature = now;
    return users;
  };
}

/**
 * Changes whenever the file does, even if two writes fall into one tick of a coarse clock: each
 * write makes a new file.
 */
function signatureOf(path: string): string {
  try {
    const { dev, ino, size, mode, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mode, mtimeNs, ctimeNs].join(' ');
  } catch (fault) {
    return (fault as NodeJS.ErrnoException).code ?? String(fault);
  }
}
