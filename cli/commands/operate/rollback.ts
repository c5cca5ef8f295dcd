import { InvalidArgumentError } from 'commander';
import { openVersions } from '../../../infra/config/open-versions.ts';
import { rollbackMoveId } from '../../../pipelines/workflows/contract.ts';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
import { CommandFailure, failureOf } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  askedBy,
  orderOf,
  tellFindings,
  tellResult,
  undoFlags,
  undone,
  withLineages,
  type UndoOptions,
} from '../../session/operator.ts';

type Options = UndoOptions & { to: number; freeze?: boolean; keepAlias?: boolean };

/**
 * `errata rollback`: serving goes back to a version at once, then the lineage does by a new
 * version.
 */
const rollback: CommandSpecification<Options> = {
  usage: 'rollback',
  summary: 'go back to an earlier version: serving at once, then the lineage',
  description: `First moves the alias \`${STABLE_ALIAS}\` to the version, in the version log itself: \`serve\` answers with it within a second, whatever else is down. Then asks the lineage for a new version in which exactly the corrections of that version hold, which passes the same probes as a batch, and lets the alias go, so that answers follow HEAD again.
If Temporal is away, or the probes refuse, serving stays on the version; the same command with the --id that is shown finishes it.`,
  examples: [
    [
      'rollback --to 41 --reason "bad feed since noon" --freeze',
      'back to version 41, and no batch until `errata resume`',
    ],
    ['rollback --to 41 --dry-run', 'what would go and come back'],
    [
      'rollback --to 0 --keep-alias',
      'the base model; it goes on to be served until `errata alias stable head`',
    ],
  ],
  operation: 'roll the lineage back',
  options: (command) =>
    undoFlags(
      command
        .requiredOption('--to <version>', 'the version; 0 is the base model', versionNumber)
        .option(...LINEAGE_OPTION)
        .option(
          '--freeze',
          'freeze the lineage first, so that nothing is edited meanwhile or afterwards',
        )
        .option('--keep-alias', 'leave the alias on the version when all is done'),
    ),
  async run(session, options) {
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    const { to: version } = options;
    const { reason, by } = askedBy(options);
    const { output } = session;
    const log = openVersions(own).log(lineage);
    const target = { kind: 'rollback', version } as const;
    if (options.dryRun === true) {
      const { undoOf } = await import('../../../versions/undo.ts');
      return tellFindings(output, await log.read(), await undoOf(log, { id: 'dry-run', target }));
    }
    const order = orderOf(target, options, options.keepAlias === true ? null : STABLE_ALIAS);
    const { id } = order.request;
    const moved = await log.moveAlias({
      alias: STABLE_ALIAS,
      version,
      reason: reason === '' ? `rollback to version ${version}` : reason,
      by,
      id: rollbackMoveId(id),
    });
    if (moved.kind !== 'moved')
      throw new CommandFailure(
        'roll the lineage back',
        moved.kind === 'refused' ? moved.reason : 'the alias was moved by another',
        '`errata log` lists the versions, `errata alias` the aliases.',
      );
    const standing = (await log.aliases()).current.get(STABLE_ALIAS);
    // Said again after its undo was done it moves nothing.
    if (standing?.id === rollbackMoveId(id))
      output.line(
        `${output.colours.green('✓')} Alias ${STABLE_ALIAS} is on version ${version}: serving is safe within a second.`,
      );
    const again = `errata rollback --to ${version} --lineage ${lineage} --id ${id}${options.keepAlias === true ? ' --keep-alias' : ''}${options.freeze === true ? ' --freeze' : ''}`;
    try {
      return await withLineages(
        session,
        own,
        'roll the lineage back',
        async (lineages, configuration) => {
          if (options.freeze === true) {
            await lineages.freeze(
              lineage,
              `rollback to version ${version} (${by})${reason === '' ? '' : `: ${reason}`}`,
            );
            output.line(
              `${output.colours.green('✓')} Lineage ${lineage} is frozen until \`errata resume --lineage ${lineage}\`.`,
            );
          }
          const result = await undone(
            session,
            lineages,
            configuration,
            lineage,
            order,
            options.timeout,
            again,
          );
          const code = await tellResult(output, log, order, result, EXIT.ok);
          const released =
            (await log.aliases()).current.get(STABLE_ALIAS)?.id !== rollbackMoveId(id);
          output.line(
            released
              ? `${output.colours.green('✓')} Alias ${STABLE_ALIAS} follows HEAD again.`
              : `Alias ${STABLE_ALIAS} stays on version ${version}; \`errata alias ${STABLE_ALIAS} head --lineage ${lineage}\` lets it go.`,
          );
          return code;
        },
      );
    } catch (error) {
      const { why, mend } = failureOf('roll the lineage back', error);
      throw new CommandFailure(
        'finish the rollback',
        `${why}. Serving is safe on version ${version}, the lineage's HEAD is not undone yet`,
        mend?.includes(again) === true
          ? mend
          : `\`${again}\` finishes it${mend === null ? '' : `. ${mend}`}`,
      );
    }
  },
};

export default rollback;

function versionNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('It must be the number of a version, or 0 for the base model.');
  return value;
}
