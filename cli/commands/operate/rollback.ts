import { InvalidArgumentError } from 'commander';
import { openVersions } from '../../../infra/config/open-versions.ts';
import {
  freezeForRollback,
  isPinned,
  pinStable,
  rollbackOrder,
} from '../../../operations/rollback.ts';
import { previewUndo, type OperatedLineage } from '../../../operations/undo.ts';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
import type { UndoRequest } from '../../../schemas/undo.ts';
import { CommandFailure, failureOf } from '../../session/command-failure.ts';
import {
  EXIT,
  LINEAGE_OPTION,
  type CommandSpecification,
  type ExitCode,
} from '../../session/command.ts';
import {
  undoAndFollow,
  undoFlags,
  undoRequestOf,
  withLineage,
  type UndoOptions,
} from '../../session/operator.ts';
import type { Session } from '../../session/session.ts';
import { showUndoPreview, showUndoResult } from '../../words/undo-text.ts';

type Options = UndoOptions & { to: number; freeze?: boolean; keepAlias?: boolean };

/** `errata rollback`: serving goes back to a version at once, then the lineage follows. */
const rollback: CommandSpecification<Options> = {
  usage: 'rollback',
  summary: 'go back to an earlier version: serving at once, then the lineage',
  description:
    `First moves the alias \`${STABLE_ALIAS}\` to the version, in the version log itself: ` +
    '`serve` answers with it within a second, whatever else is down. Then orders a new version ' +
    'in which exactly the corrections of that version hold. It passes the same probes as a ' +
    'batch, and releases the alias, so that answers follow HEAD again.\n' +
    'If Temporal is away, or the probes refuse, serving stays on the version; the same command ' +
    'with the --id that is shown finishes it.',
  examples: [
    [
      'rollback --to 41 --reason "bad feed since noon" --freeze',
      'back to version 41, and no batch until `errata resume`',
    ],
    ['rollback --to 41 --dry-run', 'what would go and come back'],
    [
      'rollback --to 0 --keep-alias',
      'the base model; it is served until `errata alias stable head`',
    ],
  ],
  operation: 'roll the lineage back',
  options: (command) =>
    undoFlags(
      command
        .requiredOption('--to <version>', 'the version; 0 is the base model', versionNumber)
        .option(...LINEAGE_OPTION)
        .option('--freeze', 'freeze the lineage first, so that no batch starts')
        .option('--keep-alias', 'leave the alias on the version when all is done'),
    ),
  async run(session, options) {
    const { output } = session;
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    const { to: version } = options;
    const log = openVersions(own).log(lineage);
    const target = { kind: 'rollback', version } as const;
    if (options.dryRun === true)
      return showUndoPreview(output, await log.read(), await previewUndo(log, target));
    const request = undoRequestOf(target, options);
    const pinned = await pinStable(log, request, version);
    if (pinned.kind === 'refused')
      throw new CommandFailure(
        rollback.operation,
        pinned.reason,
        '`errata log` lists the versions, `errata alias` the aliases.',
      );
    // A repeated rollback, whose undo is done, does not pin again.
    if (await isPinned(log, request))
      output.line(
        `${output.colours.green('✓')} Alias ${STABLE_ALIAS} is on version ${version}: ` +
          'serving is safe within a second.',
      );
    const again =
      `errata rollback --to ${version} --lineage ${lineage} --id ${request.id}` +
      `${options.keepAlias === true ? ' --keep-alias' : ''}` +
      `${options.freeze === true ? ' --freeze' : ''}`;
    try {
      return await withLineage(
        session,
        { lineage, operation: rollback.operation },
        async (operated) =>
          await rollBackLineage(session, operated, request, { ...options, again }),
      );
    } catch (error) {
      const { why, mend } = failureOf(rollback.operation, error);
      throw new CommandFailure(
        'finish the rollback',
        `${why}. Serving is safe on version ${version}; the lineage's HEAD is not undone yet`,
        mend?.includes(again) === true
          ? mend
          : `\`${again}\` finishes it${mend === null ? '' : `. ${mend}`}`,
      );
    }
  },
};

export default rollback;

async function rollBackLineage(
  session: Session,
  operated: OperatedLineage,
  request: UndoRequest,
  { to: version, freeze, keepAlias, timeout, again }: Options & { again: string },
): Promise<ExitCode> {
  const { output } = session;
  const { log } = operated;
  const done = output.colours.green('✓');
  if (freeze === true) {
    await freezeForRollback(operated, request, version);
    output.line(
      `${done} Lineage ${log.lineage} is frozen until \`errata resume --lineage ${log.lineage}\`.`,
    );
  }
  const result = await undoAndFollow(
    session,
    operated,
    rollbackOrder(request, keepAlias === true),
    {
      timeoutSeconds: timeout,
      again,
    },
  );
  const code = await showUndoResult(output, log, { ...result, id: request.id }, EXIT.ok);
  output.line(
    (await isPinned(log, request))
      ? `Alias ${STABLE_ALIAS} stays on version ${version}; ` +
          `\`errata alias ${STABLE_ALIAS} head --lineage ${log.lineage}\` releases it.`
      : `${done} Alias ${STABLE_ALIAS} follows HEAD again.`,
  );
  return code;
}

function versionNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('It must be the number of a version, or 0 for the base model.');
  return value;
}
