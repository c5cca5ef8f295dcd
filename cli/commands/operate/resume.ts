import { resumeLineage } from '../../../operations/freeze.ts';
import { command, LINEAGE } from '../../session/command.ts';
import { withLineage } from '../../session/operator.ts';

/** `errata resume`: lets a frozen lineage edit again. */
export default command({
  usage: 'resume',
  summary: 'edit a frozen lineage again',
  description: `Ends a freeze, whatever caused it. A batch that failed and was kept is tried again
first, with as many attempts as a new one.`,
  examples: `
resume                    the first lineage
resume --lineage support  another lineage`,
  operation: 'resume the lineage',
  options: { lineage: LINEAGE },
  async run(session, options) {
    const opened = session.open(options.lineage);
    const { lineage } = opened;
    await withLineage(opened, resumeLineage);
    session.output.result(
      { lineage, frozen: false },
      () => `Lineage ${lineage} edits again. \`errata status\` shows what waits.`,
    );
  },
});
