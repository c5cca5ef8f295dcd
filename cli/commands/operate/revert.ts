import { openVersions } from '../../../infra/config/open-versions.ts';
import { shellWord } from '../../../operations/failures/failure.ts';
import { previewUndo } from '../../../operations/undo.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  undoAndFollow,
  undoFlags,
  undoRequestOf,
  withLineage,
  type UndoOptions,
} from '../../session/operator.ts';
import { showUndoPreview, showUndoResult } from '../../words/undo-text.ts';

type Options = UndoOptions & { correction?: boolean };

/** `errata revert`: a new version takes back what a version or a correction did. */
const revert: CommandSpecification<Options> = {
  usage: 'revert <what>',
  summary: 'take a version or a correction back',
  description:
    'Takes back what a version did, or one correction or retraction. What it added and still ' +
    'holds goes; what it removed comes back with the very pairs that it had, unless something ' +
    'later is in its place. A new version does it, which passes the same probes as a batch; ' +
    'nothing else changes.\n' +
    '<what> is the number of a version, or the id of a correction or retraction. Works on a ' +
    'frozen lineage. Exits with 1 when the probes refuse it or nothing is left to undo.',
  examples: [
    ['revert 12 --reason "the source was wrong"', 'what version 12 did'],
    ['revert 12 --dry-run', 'what that would change'],
    ['revert 5f0c9c1e-oracle', 'one correction, by its id'],
  ],
  operation: 'revert it',
  options: (command) =>
    undoFlags(
      command
        .option(...LINEAGE_OPTION)
        .option('--correction', 'read <what> as the id of a correction, even if it is a number'),
    ),
  async run(session, options, [what = '']) {
    const { output } = session;
    const target = targetOf(what, options.correction === true);
    if (options.dryRun === true) {
      const own = session.configuration();
      const log = openVersions(own).log(session.lineage(own, options.lineage));
      return showUndoPreview(output, await log.read(), await previewUndo(log, target));
    }
    const { operation } = revert;
    return await withLineage(session, { ...options, operation }, async (lineage) => {
      const request = undoRequestOf(target, options);
      const result = await undoAndFollow(
        session,
        lineage,
        { request, releaseAlias: null },
        {
          timeoutSeconds: options.timeout,
          again:
            `errata revert ${shellWord(what)}` +
            (options.correction === true ? ' --correction' : '') +
            ` --lineage ${lineage.log.lineage} --id ${request.id}`,
        },
      );
      return await showUndoResult(output, lineage.log, { ...result, id: request.id }, EXIT.failure);
    });
  },
};

export default revert;

function targetOf(what: string, isCorrection: boolean): UndoTarget {
  if (isCorrection || !/^\d+$/.test(what)) return { kind: 'correction', id: what };
  const version = Number(what);
  if (version === 0 || !Number.isSafeInteger(version))
    throw new CommandFailure(
      'revert it',
      `"${what}" is not a version: versions are 1, 2, 3 and so on`,
      '`errata log` lists them. `errata rollback --to 0` takes everything back.',
      EXIT.usage,
    );
  return { kind: 'version', version };
}
