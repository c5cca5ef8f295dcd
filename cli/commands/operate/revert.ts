import { shellWord } from '../../../operations/failures/failure.ts';
import { previewUndo, undoRequest } from '../../../operations/undo.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { EXIT, command, flag } from '../../session/command.ts';
import { UNDO_OPTIONS, undoAndFollow, withLineage } from '../../session/operator.ts';
import { misused } from '../../terminal/command-failure.ts';
import { showUndoPreview, showUndoResult } from './undo-text.ts';

/** `errata revert`: commits a version that takes back another version or a correction. */
export default command({
  usage: 'revert <what>',
  summary: 'take a version or a correction back',
  description: `Takes back what a version, a correction or a retraction did: what it added is
removed, and what it removed comes back with its original pairs, unless something later has taken
its place. A new version does this, which passes the same probes as a batch. Works on a frozen
lineage. Exits with 1 when the probes refuse it or nothing is left to undo.`,
  examples: `
revert 12 --reason "the source was wrong"  what version 12 did
revert 5f0c9c1e-oracle                     one correction or retraction, by its id`,
  operation: 'revert it',
  options: {
    ...UNDO_OPTIONS,
    correction: flag('--correction', 'read <what> as the id of a correction, even if a number'),
  },
  async run(session, options, [what = '']) {
    const { output } = session;
    const target = targetOf(what, options.correction);
    const opened = session.open(options.lineage);
    const { lineage, log } = opened;
    if (options.dryRun)
      return showUndoPreview(output, await log.read(), await previewUndo(log, target));
    const request = undoRequest(target, options);
    const order = { request, releaseAlias: null };
    const again =
      `errata revert ${shellWord(what)}${options.correction ? ' --correction' : ''} ` +
      `--lineage ${lineage} --id ${request.id}`;
    const result = await withLineage(opened, (operated) =>
      undoAndFollow(session, operated, order, { timeout: options.timeout, again }),
    );
    return await showUndoResult(output, log, { ...result, id: request.id }, EXIT.failure);
  },
});

function targetOf(what: string, isCorrection: boolean): UndoTarget {
  if (isCorrection || !/^\d+$/.test(what)) return { kind: 'correction', id: what };
  const version = Number(what);
  if (version > 0 && Number.isSafeInteger(version)) return { kind: 'version', version };
  throw misused(
    `"${what}" is not a version: versions are 1, 2, 3 and so on`,
    '`errata log` lists them. `errata rollback --to 0` takes everything back.',
  );
}
