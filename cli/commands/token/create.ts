import { InvalidArgumentError } from 'commander';
import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { changeTokens } from '../../../serving/access/tokens-file.ts';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import {
  digestOf,
  newToken,
  ROLES,
  TOKEN_LIMITS,
  TOKEN_NAME,
  type Role,
  type TokenRecord,
} from '../../../serving/access/access.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { collected, EXIT, type CommandSpecification } from '../../session/command.ts';

interface Options {
  name: string;
  role: Role[];
  lineage?: string[];
  subject?: string[];
  /** Milliseconds from now. */
  expires?: number;
}

/** `errata token create`: a new token, shown this once. */
const create: CommandSpecification<Options> = {
  usage: 'create',
  summary: 'make a token, which is shown this once',
  description: `Makes a token and prints it; only its SHA-256 is kept, so it cannot be shown again.
Roles: read (answers, versions and lineages), submit (corrections), operate (metrics and the operation). None contains another. What a token submits bears its name in its source. The first token makes \`serve\` ask everybody for one.`,
  examples: [
    ['token create --name reader --role read', 'a token for asking'],
    [
      "token create --name mira-desk --role submit --role read --lineage news --subject 'Mira *' --expires 90d",
      'one that corrects facts about some subjects of one lineage, for 90 days',
    ],
    ['token create --name monitor --role operate > token', 'into a file, for ERRATA_TOKEN_FILE'],
  ],
  operation: 'make the token',
  options: (command) =>
    command
      .requiredOption(
        '--name <name>',
        'whose it is: 1 to 64 letters, digits and . _ @ -',
        nameNamed,
      )
      .requiredOption(
        '--role <role>',
        `${ROLES.join(', ')} (repeatable)`,
        (value: string, before: Role[] | undefined) => [...(before ?? []), roleNamed(value)],
      )
      .option(
        '--lineage <name>',
        'for this lineage only (repeatable)',
        (value: string, before: string[] | undefined) => collected(lineageNamed(value), before),
      )
      .option(
        '--subject <pattern>',
        'corrections of such subjects only; * is any run of characters (repeatable)',
        (value: string, before: string[] | undefined) => collected(subjectNamed(value), before),
      )
      .option(
        '--expires <time>',
        'how long it is valid: a number and h, d or w (default: until it is revoked)',
        timeNamed,
      ),
  async run(session, options) {
    const { serve } = session.configuration();
    const unbounded = (why: string) => new CommandFailure(create.operation, why, null, EXIT.usage);
    if (options.subject !== undefined && !options.role.includes('submit'))
      throw unbounded(
        '--subject bounds what is submitted, and the role submit is not among the roles',
      );
    if (
      (options.lineage?.length ?? 0) > TOKEN_LIMITS.lineagesMax ||
      (options.subject?.length ?? 0) > TOKEN_LIMITS.subjectsMax
    )
      throw unbounded(
        `at most ${TOKEN_LIMITS.lineagesMax} lineages and ${TOKEN_LIMITS.subjectsMax} subjects are allowed`,
      );
    const token = newToken();
    const now = Date.now();
    const record: TokenRecord = {
      name: options.name,
      sha256: digestOf(token),
      roles: [...new Set(options.role)],
      ...(options.lineage === undefined ? {} : { lineages: [...new Set(options.lineage)] }),
      ...(options.subject === undefined ? {} : { subjects: [...new Set(options.subject)] }),
      createdAt: new Date(now).toISOString(),
      ...(options.expires === undefined
        ? {}
        : { expiresAt: new Date(now + options.expires).toISOString() }),
    };
    let first = false;
    await changeTokens(
      serve.tokensPath,
      (tokens) => {
        first = tokens === null;
        if (tokens?.some(({ name }) => name === record.name) === true)
          throw new CommandFailure(
            create.operation,
            `there is a token "${record.name}" already`,
            `\`errata token revoke ${record.name}\` ends it.`,
          );
        if ((tokens?.length ?? 0) >= TOKEN_LIMITS.tokensMax)
          throw new CommandFailure(
            create.operation,
            `there are ${TOKEN_LIMITS.tokensMax} tokens already`,
            '`errata token list` shows them.',
          );
        return [...(tokens ?? []), record];
      },
      holdExclusively,
    );
    if (first)
      session.output.note(`From now on \`serve\` asks for a token: ${serve.tokensPath} is there.`);
    session.output.note('The token is shown this once:');
    const { sha256: _, ...shown } = record;
    session.output.result({ token, ...shown }, () => token);
    return EXIT.ok;
  },
};

export default create;

const MS_OF = { h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
const VALID_MS_MAX = 3_650 * MS_OF.d;

function nameNamed(text: string): string {
  if (!TOKEN_NAME.test(text))
    throw new InvalidArgumentError(
      'It must be 1 to 64 letters, digits and . _ @ -, and begin with a letter or digit.',
    );
  return text;
}

function roleNamed(text: string): Role {
  if (!(ROLES as readonly string[]).includes(text))
    throw new InvalidArgumentError(
      `It must be ${ROLES.slice(0, -1).join(', ')} or ${ROLES.at(-1)!}.`,
    );
  return text as Role;
}

function lineageNamed(text: string): string {
  if (!LINEAGE_NAME.test(text))
    throw new InvalidArgumentError(`It must be of the form ${LINEAGE_NAME.source}.`);
  return text;
}

function subjectNamed(text: string): string {
  if (text.trim() === '' || text.length > TOKEN_LIMITS.subjectCharactersMax)
    throw new InvalidArgumentError(
      `It must have 1 to ${TOKEN_LIMITS.subjectCharactersMax} characters.`,
    );
  return text;
}

function timeNamed(text: string): number {
  const [, count, unit] = /^(\d{1,6})([hdw])$/.exec(text) ?? [];
  const ms = Number(count) * MS_OF[unit as keyof typeof MS_OF];
  if (!(ms > 0 && ms <= VALID_MS_MAX))
    throw new InvalidArgumentError('It must be like 12h, 90d or 8w, and at most 3650d.');
  return ms;
}
