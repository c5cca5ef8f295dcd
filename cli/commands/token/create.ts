import { holdExclusively } from '../../../infra/setup/exclusive.mjs';
import { changeTokens } from '../../../serving/access/tokens-file.ts';
import { LINEAGE_NAME } from '../../../schemas/correction.ts';
import {
  digestOf,
  newToken,
  ROLES,
  TOKEN_LIMITS,
  TOKEN_NAME,
  type TokenRecord,
} from '../../../serving/access/access.ts';
import { matching, oneOf, parser, timeSpan } from '../../input/option-values.ts';
import { command, option, repeated, required } from '../../session/command.ts';
import { failed, misused } from '../../terminal/command-failure.ts';

const UNITS_MS = { h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const VALID_MS_MAX = 3_650 * UNITS_MS.d;

const role = repeated('--role <role>', ROLES.join(', '), oneOf(...ROLES));

/** `errata token create`: makes a new token and shows it once. */
export default command({
  usage: 'create',
  summary: 'make a token, which is shown once',
  description: `Makes a token and prints it. Only its SHA-256 is kept, so it cannot be shown again.
Roles: read (answers, versions and lineages), submit (corrections), operate (metrics and operating
the lineages). No role includes another. The name of the token is in the source of the corrections
that it submits. From the first token on, \`serve\` asks every request for one.`,
  examples: `
token create --name mira-desk --role submit --role read \
--lineage news --subject 'Mira *' --expires 90d
  a token for correcting some subjects of one lineage, for 90 days
token create --name monitor --role operate > token  into a file, for ERRATA_TOKEN_FILE`,
  operation: 'make the token',
  options: {
    name: required(
      '--name <name>',
      'whose token it is: 1 to 64 letters, digits and . _ @ -',
      matching(
        TOKEN_NAME,
        '1 to 64 letters, digits and . _ @ -, beginning with a letter or a digit',
      ),
    ),
    role: { ...role, required: true },
    lineage: repeated(
      '--lineage <name>',
      'only this lineage',
      matching(LINEAGE_NAME, `a name of the form ${LINEAGE_NAME.source}`),
    ),
    subject: repeated(
      '--subject <pattern>',
      'only corrections of such subjects; * is any run of characters',
      parser(`1 to ${TOKEN_LIMITS.subjectCharactersMax} characters`, (text) =>
        text.trim() === '' || text.length > TOKEN_LIMITS.subjectCharactersMax ? undefined : text,
      ),
    ),
    expires: option(
      '--expires <time>',
      'how long it is valid: a number and h, d or w (default: until it is revoked)',
      parser('a time such as 12h, 90d or 8w, at most 3650d', (text) => {
        const ms = timeSpan(text, UNITS_MS) ?? 0;
        return ms > 0 && ms <= VALID_MS_MAX ? ms : undefined;
      }),
    ),
  },
  async run(session, { name, role: roles, lineage, subject, expires }) {
    const { lineagesMax, subjectsMax } = TOKEN_LIMITS;
    if (subject.length > 0 && !roles.includes('submit'))
      throw misused('--subject limits what is submitted, so it needs the role submit');
    if (lineage.length > lineagesMax || subject.length > subjectsMax)
      throw misused(`at most ${lineagesMax} lineages and ${subjectsMax} subjects are allowed`);
    const { tokensPath } = session.configuration().serve;
    const token = newToken();
    const now = Date.now();
    const shown = {
      name,
      roles: [...new Set(roles)],
      ...(lineage.length > 0 && { lineages: [...new Set(lineage)] }),
      ...(subject.length > 0 && { subjects: [...new Set(subject)] }),
      createdAt: new Date(now).toISOString(),
      ...(expires !== undefined && { expiresAt: new Date(now + expires).toISOString() }),
    };
    const first = await addToken(tokensPath, { ...shown, sha256: digestOf(token) });
    if (first) session.output.note(`From now on \`serve\` asks for a token: ${tokensPath} exists.`);
    session.output.note('The token is shown only now:');
    session.output.result({ token, ...shown }, () => token);
  },
});

/** Returns whether this is the first token. */
async function addToken(tokensPath: string, record: TokenRecord): Promise<boolean> {
  let first = false;
  const add = (tokens: TokenRecord[] | null): TokenRecord[] => {
    first = tokens === null;
    if (tokens?.some(({ name }) => name === record.name) === true)
      throw failed(
        `there is a token "${record.name}" already`,
        `\`errata token revoke ${record.name}\` revokes it.`,
      );
    if ((tokens?.length ?? 0) >= TOKEN_LIMITS.tokensMax)
      throw failed(
        `there are ${TOKEN_LIMITS.tokensMax} tokens already`,
        '`errata token list` shows them.',
      );
    return [...(tokens ?? []), record];
  };
  await changeTokens(tokensPath, add, holdExclusively);
  return first;
}
