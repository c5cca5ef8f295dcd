import type { CommandGroup } from '../../session/command.ts';
import batch from './batch.ts';
import forgetPositions from './forget-positions.ts';
import lineage from './lineage.ts';

/** `errata replay`: runs workflow histories again. */
const replay: CommandGroup = {
  name: 'replay',
  summary: 'run a workflow again from a point of its history',
  description: `Runs a batch, an undo or a lineage's own workflow again from a point of its history.
Each can be tried with --dry-run, and repeating one has no further effect. \`errata failures\` names
the command that fixes each failure; docs/replay.md says more. (\`errata resubmit\` sends a record
again; \`errata rebuild\` makes a whole lineage again.)`,
  commands: [batch, lineage, forgetPositions],
};

export default replay;
