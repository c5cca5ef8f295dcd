import { openVersions } from '../../../infra/config/open-versions.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { CommandFailure } from '../../session/command-failure.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  orderOf,
  quoted,
  tellFindings,
  tellResult,
  undoFlags,
  undone,
  withLineages,
  type UndoOptions,
} from '../../session/operator.ts';

type Options = UndoOptions & { correction?: boolean };

/** `errata revert`: what a version or a correction did is taken back by a new version. */
const revert: CommandSpecification<Options> = {
  usage: 'revert <what>',
  summary: 'take a version or a correction back',
  description: `Takes back what a version did, or one correction or retraction: what it added and still holds goes, what it removed comes back with the very pairs that it had, unless something later stands in its place. It is done by a new version that passes the same probes as a batch, and nothing else changes.
<what> is the number of a version, or the id of a correction or retraction. Works on a frozen lineage. Exits with 1 when the probes refuse it or nothing is left to undo.`,
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
        .option('--correction', 'take <what> for the id of a correction, though it is a number'),
    ),
  async run(session, options, [what = '']) {
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    const target = targetOf(what, options.correction === true);
    const log = openVersions(own).log(lineage);
    if (options.dryRun === true) {
      const { undoOf } = await import('../../../versions/undo.ts');
      return tellFindings(
        session.output,
        await log.read(),
        await undoOf(log, { id: 'dry-run', target }),
      );
    }
    return await withLineages(session, own, 'revert it', async (lineages, configuration) => {
      const order = orderOf(target, options, null);
      const again = `errata revert ${quoted(what)}${options.correction === true ? ' --correction' : ''} --lineage ${lineage} --id ${order.request.id}`;
      const result = await undone(
        session,
        lineages,
        configuration,
        lineage,
        order,
        options.timeout,
        again,
      );
      return await tellResult(session.output, log, order, result, EXIT.failure);
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
      `"${what}" is no version: versions are 1, 2, 3 and so on`,
      '`errata log` lists them. `errata rollback --to 0` takes everything back.',
      EXIT.usage,
    );
  return { kind: 'version', version };
}
