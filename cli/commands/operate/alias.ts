import { randomUUID } from 'node:crypto';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { moveAlias } from '../../../operations/alias.ts';
import { ALIAS_NAME, STABLE_ALIAS, type AliasRecord } from '../../../schemas/alias.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  authorship,
  BY_OPTION,
  REASON_OPTION,
  type OperatorOptions,
} from '../../session/operator.ts';
import { shortened, type Output } from '../../terminal/output.ts';

/** `errata alias`: names for versions, read from and written to the version log. */
const alias: CommandSpecification<OperatorOptions> = {
  usage: 'alias [name] [version]',
  summary: 'list or move the names of versions',
  description:
    'Without arguments lists the aliases of the lineage and their versions; with a name the ' +
    'history of that alias; with a version moves it: a number, `base` or 0 for the base model, ' +
    `\`head\` to follow HEAD. \`serve\` answers with the alias \`${STABLE_ALIAS}\` where a ` +
    'request names no version, and follows a move within a second. No system needs to run.',
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
        `"${name}" is not a valid name for an alias`,
        'A name is a letter a-z and at most 31 of a-z, 0-9 and -, and not base or head.',
        EXIT.usage,
      );
    const log = openVersions(configuration).log(lineage);
    if (name === undefined || version === undefined) {
      const { current, records } = await log.aliases();
      const shown =
        name === undefined
          ? [...current.values()]
          : records.filter((record) => record.alias === name).reverse();
      output.result({ lineage, aliases: shown }, () => listed(output, lineage, name, shown));
      return EXIT.ok;
    }
    const moved = await moveAlias(log, {
      alias: name,
      version: versionNamed(version),
      ...authorship(options),
      id: randomUUID(),
    });
    if (moved.kind === 'refused')
      throw new CommandFailure('move the alias', moved.reason, '`errata log` lists the versions.');
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
  records: readonly AliasRecord[],
): string {
  if (records.length === 0) {
    const served = name === undefined || name === STABLE_ALIAS ? ': HEAD is served.' : '.';
    return name === undefined
      ? `Lineage ${lineage} has no aliases${served}`
      : `Alias ${name} of ${lineage} was never moved${served}`;
  }
  return output.table(
    ['alias', 'on', 'since (UTC)', 'by', 'reason'],
    records.map((record) => [
      record.alias,
      whereOf(record),
      new Date(record.at).toISOString().slice(0, 16).replace('T', ' '),
      shortened(record.by, 16),
      shortened(record.reason, output.columns - REASON_COLUMNS_LESS),
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
      `"${text}" is not a version`,
      'A version is its number, `base`, or `head`.',
      EXIT.usage,
    );
  return version;
}
