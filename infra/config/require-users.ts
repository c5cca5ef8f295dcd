import { readTokens, TokensUnreadable } from '../../serving/access/tokens-file.ts';
import { mayBeOpen } from '../../serving/access/users.ts';
import { ConfigurationError, type Configuration } from './configuration.ts';

/**
 * Throws `ConfigurationError` if `serve` would be open to other machines, or would refuse
 * everybody.
 */
export function requireUsers({ serve }: Pick<Configuration, 'serve'>): void {
  const refusal = (name: string, value: string, expected: string) =>
    new ConfigurationError([{ name, value, expected }]);
  const { tokensPath, tokensRequired, host } = serve;
  try {
    if (readTokens(tokensPath) !== null || mayBeOpen(serve)) return;
  } catch (fault) {
    if (!(fault instanceof TokensUnreadable)) throw fault;
    throw refusal(fault.path, fault.reason, 'a file that `errata token create` wrote');
  }
  throw tokensRequired
    ? refusal('ERRATA_TOKENS', tokensPath, 'an existing file; `errata token create` makes it')
    : refusal(
        'ERRATA_HOST',
        host,
        'a loopback address such as 127.0.0.1, because there are no tokens. To bind this ' +
          'address, make a token with `errata token create`, or set ERRATA_HTTP_OPEN=true if a ' +
          'proxy in front authenticates the users',
      );
}
