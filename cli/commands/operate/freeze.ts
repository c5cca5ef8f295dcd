import { freezeLineage } from '../../../operations/freeze.ts';
import { EXIT, LINEAGE_OPTION, type CommandSpecification } from '../../session/command.ts';
import {
  authorship,
  BY_OPTION,
  REASON_OPTION,
  withLineage,
  type OperatorOptions,
} from '../../session/operator.ts';

/** `errata freeze`: no batch of a lineage starts until it is resumed. */
const freeze: CommandSpecification<OperatorOptions> = {
  usage: 'freeze',
  summary: 'stop editing a lineage',
  description:
    'No batch of the lineage starts until `errata resume`. A running batch is finished, ' +
    'corrections are still taken and wait, answers are served as before, and undos are done ' +
    'all the same.',
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
  run: (session, options) =>
    withLineage(session, { ...options, operation: freeze.operation }, async (operated) => {
      const reason = await freezeLineage(operated, authorship(options));
      const { lineage } = operated.log;
      session.output.result(
        { lineage, frozen: true, reason },
        () =>
          `Lineage ${lineage} is frozen: no batch starts until ` +
          `\`errata resume --lineage ${lineage}\`.`,
      );
      return EXIT.ok;
    }),
};

export default freeze;
