import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  askedBy,
  BY_OPTION,
  REASON_OPTION,
  withLineages,
  type OperatorOptions,
} from '../../session/operator.ts';

/** `errata freeze`: no batch of a lineage starts any more. */
const freeze: CommandSpecification<OperatorOptions> = {
  usage: 'freeze',
  summary: 'stop editing a lineage',
  description:
    'No batch of the lineage starts until `errata resume`. The one that runs is finished, corrections go on to be taken and wait, answers are served as before, and undos are done all the same.',
  examples: [
    [
      'freeze --reason "the source sends nonsense"',
      'the first lineage, with a reason that `errata status` shows',
    ],
    ['freeze --lineage support', 'another one'],
  ],
  operation: 'freeze the lineage',
  options: (command) =>
    command
      .option(...LINEAGE_OPTION)
      .option(...REASON_OPTION)
      .option(...BY_OPTION),
  async run(session, options) {
    const own = session.configuration();
    const lineage = session.lineage(own, options.lineage);
    const asked = askedBy(options);
    const reason = asked.reason === '' ? `frozen by ${asked.by}` : `${asked.reason} (${asked.by})`;
    await withLineages(session, own, 'freeze the lineage', (lineages) =>
      lineages.freeze(lineage, reason),
    );
    session.output.result(
      { lineage, frozen: true, reason },
      () =>
        `Lineage ${lineage} is frozen: no batch starts until \`errata resume --lineage ${lineage}\`.`,
    );
    return EXIT.ok;
  },
};

export default freeze;
