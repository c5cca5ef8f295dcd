import type { CommandGroup } from '../../session/command.ts';
import create from './create.ts';
import list from './list.ts';
import revoke from './revoke.ts';

/** `errata token`: who may do what over HTTP. */
const token: CommandGroup = {
  name: 'token',
  summary: 'say who may do what over HTTP',
  description:
    'Makes, lists and revokes the tokens that `serve` asks for (docs/access.md). They are kept as SHA-256 in tokens.json of the data folder, or where ERRATA_TOKENS says; a running `serve` goes by the file as it is. Where there is no such file, `serve` asks nobody, and binds loopback only.',
  commands: [create, list, revoke],
};

export default token;
