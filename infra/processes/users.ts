/**
 * Who is known to `serve`: the tokens of its file as it is now; where there is none, anybody on
 * this machine.
 */
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { isLoopback, type Users } from '../../serving/access/access.ts';
import { ConfigurationError, type Configuration } from '../config/configuration.ts';
import { readTokens, TokensUnreadable } from '../config/tokens-file.ts';

/** Throws `ConfigurationError` where `serve` would answer strangers, or nobody: see `mayBeOpen`. */
export function requireKnownUsers(configuration: Configuration): void {
  const { serve, given } = configuration;
  const refused = (name: string, value: string, expected: string) =>
    new ConfigurationError([{ name, value, expected }]);
  let there: boolean;
  try {
    there = readTokens(serve.tokensPath) !== null;
  } catch (fault) {
    if (!(fault instanceof TokensUnreadable)) throw fault;
    throw refused(fault.path, fault.reason, 'a file as `errata token create` writes it');
  }
  if (there || mayBeOpen(configuration)) return;
  if (given.has('serve.tokens'))
    throw refused(
      'ERRATA_TOKENS',
      serve.tokensPath,
      'a file that exists; `errata token create` makes it',
    );
  throw refused(
    'ERRATA_HOST',
    serve.host,
    'a loopback address such as 127.0.0.1, since nobody is asked for a token: `errata token create` makes the first one, or ERRATA_HTTP_OPEN=true says that something in front of `serve` knows the users',
  );
}

/**
 * The users at the moment of each call. The file is looked at every time and read when it changed,
 * so that a token that was revoked is refused from then on. A file that was there once and is gone,
 * or cannot be read, lets nobody in.
 */
export function knownUsers(
  configuration: Configuration,
  log: Pick<Logger, 'info' | 'warn' | 'error'>,
): () => Users {
  const { serve } = configuration;
  let open = mayBeOpen(configuration);
  let signature: string | null = null;
  let users: Users = { kind: 'unknown' };
  const look = (): Users => {
    try {
      const tokens = readTokens(serve.tokensPath);
      if (tokens === null && open) {
        log.warn({ path: serve.tokensPath, host: serve.host }, 'Nobody is asked for a token');
        return { kind: 'open', hosts: serve.open ? 'any' : 'loopback' };
      }
      if (tokens === null) throw new TokensUnreadable(serve.tokensPath, 'there is no such file');
      log.info({ path: serve.tokensPath, tokens: tokens.length }, 'Tokens are asked for');
      open = false;
      return { kind: 'tokens', tokens };
    } catch (fault) {
      open = false;
      log.error(
        { reason: fault instanceof Error ? fault.message : String(fault) },
        'Nobody is let in',
      );
      return { kind: 'unknown' };
    }
  };
  return () => {
    const now = signatureOf(serve.tokensPath);
    if (now !== signature) users = look();
    signature = now;
    return users;
  };
}

/**
 * Whether a missing file means that anybody may ask: not where other machines could, unless told
 * so, nor where one is named.
 */
function mayBeOpen({ serve, given }: Configuration): boolean {
  return !given.has('serve.tokens') && (serve.open || isLoopback(serve.host));
}

/**
 * Changes whenever the file does, also where two writes fall into one tick of a coarse clock: each
 * makes a new file.
 */
function signatureOf(path: string): string {
  try {
    const { dev, ino, size, mode, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mode, mtimeNs, ctimeNs].join(' ');
  } catch (fault) {
    return (fault as NodeJS.ErrnoException).code ?? String(fault);
  }
}
