import { readTokens } from '../../../serving/access/tokens-file.ts';
import type { TokenRecord } from '../../../serving/access/access.ts';
import { command } from '../../session/command.ts';
import { dim, red } from '../../terminal/colours.ts';
import { table } from '../../terminal/text.ts';

/** `errata token list`: shows the permissions of each token. */
export default command({
  usage: 'list',
  summary: 'list the tokens and what each may do',
  description: `Lists the tokens by name, with roles and limits. The tokens themselves are not kept,
so they are not shown.`,
  examples: `
token list         all tokens
token list --json  the same for a program`,
  operation: 'list the tokens',
  async run(session) {
    const { output } = session;
    const { tokensPath: path } = session.configuration().serve;
    const stored = readTokens(path);
    const tokens = (stored ?? []).map(({ sha256: _, ...record }) => record);
    output.result({ path, asked: stored !== null, tokens }, () => {
      if (stored === null)
        return (
          `There is no ${path}: \`serve\` asks for no token, and binds loopback only. ` +
          '`errata token create` makes the first token.'
        );
      if (tokens.length === 0)
        return `There are no tokens in ${path}: \`serve\` refuses every request.`;
      const rows = tokens.map((token) => rowOf(token));
      const head = ['name', 'roles', 'lineages', 'subjects', 'made', 'expires'];
      return `${table(head, rows)}\n${dim(path)}`;
    });
  },
});

function rowOf(token: Omit<TokenRecord, 'sha256'>): string[] {
  const { name, roles, lineages, subjects, createdAt, expiresAt } = token;
  const expired = expiresAt !== undefined && Date.parse(expiresAt) <= Date.now();
  const end = expiresAt?.slice(0, 10) ?? 'never';
  return [
    name,
    roles.join(', '),
    lineages?.join(', ') ?? 'all',
    roles.includes('submit') ? (subjects?.join(', ') ?? 'all') : '–',
    createdAt.slice(0, 10),
    expired ? red(`${end}, expired`) : end,
  ];
}
