import { randomUUID } from 'node:crypto';
import { moveAlias } from '../../../operations/alias.ts';
import { ALIAS_NAME, STABLE_ALIAS, type AliasRecord } from '../../../schemas/alias.ts';
import { versionNamed } from '../../input/option-values.ts';
import { command, LINEAGE } from '../../session/command.ts';
import { BY, REASON } from '../../session/operator.ts';
import { failed, misused } from '../../terminal/command-failure.ts';
import type { Output } from '../../terminal/output.ts';
import { shortened, table } from '../../terminal/text.ts';

/** `errata alias`: names versions, in the version log itself. */
export default command({
  usage: 'alias [name] [version]',
  summary: 'list or move the names of versions',
  description: `Without arguments lists the aliases of the lineage; with a name the history of
that alias; with a version moves it: a number, \`base\` or 0 for the base model, \`head\` to
follow HEAD. Where a request names no version, \`serve\` answers with the alias
\`${STABLE_ALIAS}\`, and follows a move within a second. Nothing needs to run.`,
  examples: `
alias stable 41 --reason "42 is suspicious"  answers come from version 41
alias stable head                            answers follow HEAD again
alias canary 42                              a name for requests: \`default@canary\``,
  operation: 'read or move the alias',
  options: { lineage: LINEAGE, reason: REASON, by: BY },
  async run(session, { lineage: lineageName, reason, by }, [name, version]) {
    const { output } = session;
    const { lineage, log } = session.open(lineageName);
    if (name !== undefined && !ALIAS_NAME.test(name))
      throw misused(
        `"${name}" is not a valid name for an alias`,
        'A name is a letter a-z and at most 31 of a-z, 0-9 and -, but not base or head.',
      );
    if (name === undefined || version === undefined) {
      const { current, records } = await log.aliases();
      const aliases =
        name === undefined
          ? [...current.values()]
          : records.filter(({ alias }) => alias === name).reverse();
      return output.result({ lineage, aliases }, () => listText(output, lineage, name, aliases));
    }
    const move = { alias: name, version: versionNamed(version), reason, by, id: randomUUID() };
    const moved = await moveAlias(log, move);
    if (moved.kind === 'refused') throw failed(moved.reason, '`errata log` lists the versions.');
    const { record } = moved;
    output.result(
      { lineage, ...record },
      () => `Alias ${name} of ${lineage} is on ${placeText(record)}.`,
    );
  },
});

/** Width of all columns except the reason. */
const FIXED_COLUMNS = 60;

function listText(
  output: Output,
  lineage: string,
  name: string | undefined,
  records: readonly AliasRecord[],
): string {
  const served = name === undefined || name === STABLE_ALIAS ? ': HEAD is served.' : '.';
  if (records.length === 0)
    return name === undefined
      ? `Lineage ${lineage} has no aliases${served}`
      : `Alias ${name} of ${lineage} was never moved${served}`;
  const rows = records.map((record) => [
    record.alias,
    placeText(record),
    new Date(record.at).toISOString().slice(0, 16).replace('T', ' '),
    shortened(record.by, 16),
    shortened(record.reason, output.columns - FIXED_COLUMNS),
  ]);
  return table(['alias', 'on', 'since (UTC)', 'by', 'reason'], rows);
}

function placeText({ version }: AliasRecord): string {
  if (version === null) return 'HEAD';
  return version === 0 ? 'the base model' : `version ${version}`;
}
