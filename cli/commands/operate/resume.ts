import { resumeLineage } from '../../../operations/freeze.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { withLineage } from '../../session/operator.ts';

/** `errata resume`: a frozen lineage is edited again, the held batch first. */
const resume: CommandSpecification<{ lineage?: string }> = {
  usage: 'resume',
  summary: 'edit a frozen lineage again',
  description:
    'Ends a freeze, whoever or whatever began it. A batch that failed and was held is tried ' +
    'again first, with as many tries as a new one.',
  examples: [
    ['resume', 'the first lineage'],
    ['resume --lineage support', 'another one'],
  ],
  operation: 'resume the lineage',
  options: (command) => command.option(...LINEAGE_OPTION),
  run: (session, options) =>
    withLineage(session, { ...options, operation: resume.operation }, async (operated) => {
      await resumeLineage(operated);
      const { lineage } = operated.log;
      session.output.result(
        { lineage, frozen: false },
        () => `Lineage ${lineage} is edited again. \`errata status\` shows what waits.`,
      );
      return EXIT.ok;
    }),
};

export default resume;
