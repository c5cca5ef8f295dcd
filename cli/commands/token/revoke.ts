import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import type { TokenRecord } from '../../../serving/access/access.ts';
import { changeTokens } from '../../../serving/access/tokens-file.ts';
import { command } from '../../session/command.ts';
import { failed } from '../../terminal/command-failure.ts';

/** `errata token revoke <name>`: revokes a token. */
export default command({
  usage: 'revoke <name>',
  summary: 'revoke a token',
  description: `Revokes a token: \`serve\` refuses it at once, without a restart. The corrections
that it submitted stay. After the last token is revoked \`serve\` refuses every request; it asks for
no token only when its tokens file is gone and it has been restarted.`,
  examples: `
token revoke mira-desk  revokes that token`,
  operation: 'revoke the token',
  async run(session, _, [name = '']) {
    const { tokensPath } = session.configuration().serve;
    let left = 0;
    const remove = (tokens: TokenRecord[] | null): TokenRecord[] => {
      const kept = (tokens ?? []).filter((token) => token.name !== name);
      if (tokens === null || kept.length === tokens.length)
        throw failed(
          `there is no token "${name}"`,
          tokens === null ? `There is no ${tokensPath}.` : '`errata token list` shows the tokens.',
        );
      left = kept.length;
      return kept;
    };
    await changeTokens(tokensPath, remove, holdExclusively);
    const { output } = session;
    if (left === 0) output.note('It was the last token: `serve` refuses every request.');
    output.result({ revoked: name, left }, () => `"${name}" is revoked.`);
  },
});
