import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { changeTokens } from '../../../serving/access/tokens-file.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';

/** `errata token revoke <name>`: the end of a token. */
const revoke: CommandSpecification<object> = {
  usage: 'revoke <name>',
  summary: 'end a token',
  description:
    'Ends a token: `serve` refuses it from then on, without a restart. What it submitted stays. After the last one `serve` lets nobody in; it asks nobody again only when its tokens file is gone and it was started anew.',
  examples: [['token revoke mira-desk', 'ends that token']],
  operation: 'revoke the token',
  options: () => {},
  async run(session, _, [named]) {
    const { tokensPath } = session.configuration().serve;
    let left = 0;
    await changeTokens(
      tokensPath,
      (tokens) => {
        const kept = (tokens ?? []).filter(({ name }) => name !== named);
        if (tokens === null || kept.length === tokens.length)
          throw new CommandFailure(
            revoke.operation,
            `there is no token "${named ?? ''}"`,
            tokens === null
              ? `There is no ${tokensPath}.`
              : '`errata token list` shows those there are.',
          );
        left = kept.length;
        return kept;
      },
      holdExclusively,
    );
    if (left === 0) session.output.note('It was the last one: `serve` lets nobody in.');
    session.output.result({ revoked: named, left }, () => `"${named ?? ''}" is revoked.`);
    return EXIT.ok;
  },
};

export default revoke;
