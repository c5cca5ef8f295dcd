import { randomUUID } from 'node:crypto';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { ALIAS_NAME, STABLE_ALIAS, type AliasRecord } from '../../../schemas/alias.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { askedBy, BY_OPTION, REASON_OPTION, type OperatorOptions } from '../../session/operator.ts';
import { shortened, type Output } from '../../terminal/output.ts';

/** `errata alias`: names for versions, straight from and into the version log. */
const alias: CommandSpecification<OperatorOptions> = {
  usage: 'alias [name] [version]',
  summary: 'list or move the names of versions',
  description: `Without arguments lists the aliases of the lineage and where they stand, with a name what was said of it, with a version moves it: a number, \`base\` or 0 for the base model, \`head\` to follow HEAD. The alias \`${STABLE_ALIAS}\` is what \`serve\` answers with where a request names no version; a running \`serve\` follows within a second. Needs nothing that runs.`,
  examples: [
    ['alias', 'all aliases'],
    ['alias stable 41 --reason "42 under suspicion"', 'answers come from version 41'],
    ['alias stable head', 'answers follow HEAD again'],
    ['alias canary 42', 'a name that requests can ask for: `default@canary`'],
  ],
  operation: 'read or move the alias',
  options: (command) =>
    command
      .option(...LINEAGE_OPTION)
      .option(...REASON_OPTION)
      .option(...BY_OPTION),
  async run(session, options, [name, version]) {
    const configuration = session.configuration();
    const lineage = session.lineage(configuration, options.lineage);
    const { output } = session;
    if (name !== undefined && !ALIAS_NAME.test(name))
      throw new CommandFailure(
        'find the alias',
        `"${name}" is no name for an alias`,
        'A name is a letter a-z and at most 31 of a-z, 0-9 and -, and not base or head.',
        EXIT.usage,
      );
    const log = openVersions(configuration).log(lineage);
    if (name === undefined || version === undefined) {
      const { current: standing, records: words } = await log.aliases();
      const shown =
        name === undefined
          ? [...standing.values()]
          : words.filter((word) => word.alias === name).reverse();
      output.result({ lineage, aliases: shown }, () => listed(output, lineage, name, shown));
      return EXIT.ok;
    }
    const moved = await log.moveAlias({
      alias: name,
      version: versionNamed(version),
      ...askedBy(options),
      id: randomUUID(),
    });
    if (moved.kind !== 'moved')
      throw new CommandFailure(
        'move the alias',
        moved.kind === 'refused' ? moved.reason : 'another moved it meanwhile',
        '`errata log` lists the versions.',
      );
    output.result(
      { lineage, ...moved.record },
      () => `Alias ${name} of ${lineage} is on ${whereOf(moved.record)}.`,
    );
    return EXIT.ok;
  },
};

export default alias;

const REASON_COLUMNS_LESS = 60;

function listed(
  output: Output,
  lineage: string,
  name: string | undefined,
  words: readonly AliasRecord[],
): string {
  if (words.length === 0)
    return name === undefined
      ? `Lineage ${lineage} has no aliases: HEAD is served.`
      : `Nothing was said of alias ${name} of ${lineage}${name === STABLE_ALIAS ? ': HEAD is served' : ''}.`;
  return output.table(
    ['alias', 'on', 'since (UTC)', 'by', 'reason'],
    words.map((word) => [
      word.alias,
      whereOf(word),
      new Date(word.at).toISOString().slice(0, 16).replace('T', ' '),
      shortened(word.by, 16),
      shortened(word.reason, output.columns - REASON_COLUMNS_LESS),
    ]),
  );
}

function whereOf({ version }: AliasRecord): string {
  return version === null ? 'HEAD' : version === 0 ? 'the base model' : `version ${version}`;
}

function versionNamed(text: string): number | null {
  if (text === 'head') return null;
  if (text === 'base') return 0;
  const version = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(version))
    throw new CommandFailure(
      'move the alias',
      `"${text}" is no version`,
      'A version is its number, `base`, or `head`.',
      EXIT.usage,
    );
  return version;
}
