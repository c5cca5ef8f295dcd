import type { CommandGroup } from '../../session/command.ts';
import batch from './batch.ts';
import deadLetters from './dead-letters.ts';
import forgetPositions from './forget-positions.ts';
import lineage from './lineage.ts';
import quarantined from './quarantined.ts';

/** `errata replay`: what went wrong once, run again. */
const replay: CommandGroup = {
  name: 'replay',
  summary: 'run again what went wrong',
  description:
    'Sends quarantined corrections and dead letters again, and runs batches again from a point of their history. Each can be tried with --dry-run first, and done twice it is done once. `errata failures` names the one that heals each failure; docs/replay.md says more. (`errata rebuild` makes a whole lineage again.)',
  commands: [quarantined, deadLetters, batch, lineage, forgetPositions],
};

export default replay;
