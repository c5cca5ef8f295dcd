import { readTokens } from '../../../serving/access/tokens-file.ts';
import { EXIT, type CommandSpecification } from '../../session/command.ts';

/** `errata token list`: what each token may do. */
const list: CommandSpecification<object> = {
  usage: 'list',
  summary: 'list the tokens and what each may do',
  description:
    'Lists the tokens by name, with roles and bounds. The tokens themselves are not kept, so they are not shown.',
  examples: [
    ['token list', 'all tokens'],
    ['token list --json', 'the same for a program'],
  ],
  operation: 'list the tokens',
  options: () => {},
  async run(session) {
    const { tokensPath } = session.configuration().serve;
    const tokens = readTokens(tokensPath);
    const { dim, red } = session.output.colours;
    const now = Date.now();
    const shown = (tokens ?? []).map(({ sha256: _, ...record }) => record);
    const row = ({
      name,
      roles,
      lineages,
      subjects,
      createdAt,
      expiresAt,
    }: (typeof shown)[number]): string[] => [
      name,
      roles.join(', '),
      lineages?.join(', ') ?? 'all',
      roles.includes('submit') ? (subjects?.join(', ') ?? 'all') : '–',
      createdAt.slice(0, 10),
      expiresAt === undefined
        ? 'never'
        : Date.parse(expiresAt) <= now
          ? red(`${expiresAt.slice(0, 10)}, expired`)
          : expiresAt.slice(0, 10),
    ];
    session.output.result({ path: tokensPath, asked: tokens !== null, tokens: shown }, () =>
      tokens === null
        ? `There is no ${tokensPath}: \`serve\` asks nobody, and binds loopback only. \`errata token create\` makes the first token.`
        : tokens.length === 0
          ? `There are no tokens in ${tokensPath}: \`serve\` lets nobody in.`
          : `${session.output.table(['name', 'roles', 'lineages', 'subjects', 'made', 'expires'], shown.map(row))}\n${dim(tokensPath)}`,
    );
    return EXIT.ok;
  },
};

export default list;
