import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import { withLineages } from '../../session/operator.ts';

/** `errata resume`: a frozen lineage edits again, the batch first that was kept. */
const resume: CommandSpecification<{ lineage?: string }> = {
  usage: 'resume',
  summary: 'edit a frozen lineage again',
  description:
    'Ends a freeze, whoever or whatever began it. A batch that failed and was kept is tried again first, with as many tries as a new one.',
  examples: [
    ['resume', 'the first lineage'],
    ['resume --lineage support', 'another one'],
  ],
  operation: 'resume the lineage',
  options: (command) => command.option(...LINEAGE_OPTION),
  async run(session, options) {
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    await withLineages(session, own, 'resume the lineage', (lineages) => lineages.resume(lineage));
    session.output.result(
      { lineage, frozen: false },
      () => `Lineage ${lineage} edits again. \`errata status\` shows what waits.`,
    );
    return EXIT.ok;
  },
};

export default resume;
