import { freezeLineage } from '../../../operations/freeze.ts';
import { command, LINEAGE } from '../../session/command.ts';
import { BY, REASON, withLineage } from '../../session/operator.ts';

/** `errata freeze`: stops a lineage from starting batches until it is resumed. */
export default command({
  usage: 'freeze',
  summary: 'stop editing a lineage',
  description: `No batch of the lineage starts until \`errata resume\`. A running batch is finished,
corrections are still accepted and wait, answers are served as before, and undos are still done.`,
  examples: `
freeze --reason "the source sends nonsense"
  the first lineage, with a reason that \`errata status\` shows
freeze --lineage support  another lineage`,
  operation: 'freeze the lineage',
  options: { lineage: LINEAGE, reason: REASON, by: BY },
  async run(session, options) {
    const opened = session.open(options.lineage);
    const { lineage } = opened;
    const reason = await withLineage(opened, (operated) => freezeLineage(operated, options));
    session.output.result(
      { lineage, frozen: true, reason },
      () =>
        `Lineage ${lineage} is frozen: no batch starts until ` +
        `\`errata resume --lineage ${lineage}\`.`,
    );
  },
});
