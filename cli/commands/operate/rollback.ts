import {
  freezeForRollback,
  isPinned,
  pinStable,
  rollbackOrder,
} from '../../../operations/rollback.ts';
import { type OperatedLineage, previewUndo, undoRequest } from '../../../operations/undo.ts';
import { STABLE_ALIAS } from '../../../schemas/alias.ts';
import type { UndoRequest } from '../../../schemas/undo.ts';
import { parser } from '../../input/option-values.ts';
import { EXIT, type ExitCode, command, flag, required } from '../../session/command.ts';
import { UNDO_OPTIONS, undoAndFollow, withLineage } from '../../session/operator.ts';
import type { Session } from '../../session/session.ts';
import { failed, failureOf } from '../../terminal/command-failure.ts';
import { mark } from '../../terminal/text.ts';
import { showUndoPreview, showUndoResult } from './undo-text.ts';

/** `errata rollback`: serves an earlier version at once, then moves the lineage back. */
export default command({
  usage: 'rollback',
  summary: 'go back to an earlier version: serving at once, then the lineage',
  description: `First moves the alias \`${STABLE_ALIAS}\` to the version: \`serve\` answers with
it within a second, whatever else is down. Then orders a new version in which exactly the
corrections of that version hold; it passes the same probes as a batch, and answers follow HEAD
again. If Temporal is away, or the probes refuse, serving stays on the version; the same command
with the --id that is shown finishes the rollback.`,
  examples: `
rollback --to 41 --reason "bad feed since noon" --freeze
  back to version 41, and no batch until \`errata resume\`
rollback --to 41 --dry-run  what would go and come back`,
  operation: 'roll the lineage back',
  options: {
    ...UNDO_OPTIONS,
    to: required(
      '--to <version>',
      'the version; 0 is the base model',
      parser('the number of a version, or 0 for the base model', (text) =>
        /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined,
      ),
    ),
    freeze: flag('--freeze', 'freeze the lineage first, so that no batch starts'),
    keepAlias: flag('--keep-alias', 'leave the alias on the version at the end'),
  },
  async run(session, options) {
    const { output } = session;
    const opened = session.open(options.lineage);
    const { lineage, log } = opened;
    const { to: version, keepAlias, freeze } = options;
    const target = { kind: 'rollback', version } as const;
    if (options.dryRun)
      return showUndoPreview(output, await log.read(), await previewUndo(log, target));
    const request = undoRequest(target, options);
    const pinned = await pinStable(log, request, version);
    if (pinned.kind === 'refused')
      throw failed(pinned.reason, '`errata log` lists the versions, `errata alias` the aliases.');
    // Repeating a rollback whose undo is done does not pin again.
    if (await isPinned(log, request))
      output.line(
        `${mark(true)} Alias ${STABLE_ALIAS} is on version ${version}: serving is safe ` +
          'within a second.',
      );
    const flags = `${keepAlias ? ' --keep-alias' : ''}${freeze ? ' --freeze' : ''}`;
    const again = `errata rollback --to ${version} --lineage ${lineage} --id ${request.id}${flags}`;
    try {
      return await withLineage(opened, (operated) =>
        rollBackLineage(session, operated, request, { ...options, again }),
      );
    } catch (error) {
      const { why, hint } = failureOf(error);
      const finish = `\`${again}\` finishes it${hint === null ? '' : `. ${hint}`}`;
      throw failed(
        `${why}. Serving is safe on version ${version}; the lineage's HEAD is not undone yet`,
        hint?.includes(again) === true ? hint : finish,
      );
    }
  },
});

interface RollbackOptions {
  to: number;
  freeze: boolean;
  keepAlias: boolean;
  timeout: number;
  /** The command that completes the rollback. */
  again: string;
}

async function rollBackLineage(
  session: Session,
  operated: OperatedLineage,
  request: UndoRequest,
  { to: version, freeze, keepAlias, ...follow }: RollbackOptions,
): Promise<ExitCode> {
  const { output } = session;
  const { log } = operated;
  const { lineage } = log;
  if (freeze) {
    await freezeForRollback(operated, request, version);
    output.line(
      `${mark(true)} Lineage ${lineage} is frozen until ` +
        `\`errata resume --lineage ${lineage}\`.`,
    );
  }
  const order = rollbackOrder(request, keepAlias);
  const result = await undoAndFollow(session, operated, order, follow);
  const code = await showUndoResult(output, log, { ...result, id: request.id }, EXIT.ok);
  output.line(
    (await isPinned(log, request))
      ? `Alias ${STABLE_ALIAS} stays on version ${version}; ` +
          `\`errata alias ${STABLE_ALIAS} head --lineage ${lineage}\` releases it.`
      : `${mark(true)} Alias ${STABLE_ALIAS} follows HEAD again.`,
  );
  return code;
}
