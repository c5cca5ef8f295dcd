import type { CommandGroup } from '../../session/command.ts';
import create from './create.ts';
import list from './list.ts';
import revoke from './revoke.ts';

/** `errata token`: controls who may do what over HTTP. */
const token: CommandGroup = {
  name: 'token',
  summary: 'manage the tokens for HTTP',
  description: `Makes, lists and revokes the tokens that \`serve\` asks for (docs/access.md). Their
SHA-256 is kept in tokens.json of the data folder, or where ERRATA_TOKENS says; a running \`serve\`
follows every change. Where there is no such file, \`serve\` asks for no token and binds loopback
only.`,
  commands: [create, list, revoke],
};

export default token;
