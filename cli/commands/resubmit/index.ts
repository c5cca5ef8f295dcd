import type { CommandGroup } from '../../session/command.ts';
import deadLetters from './dead-letters.ts';
import quarantined from './quarantined.ts';

/** `errata resubmit`: sends refused records again. */
const resubmit: CommandGroup = {
  name: 'resubmit',
  summary: 'send quarantined corrections or dead letters again',
  description: `Sends quarantined corrections or dead letters again, repaired or as they were. Each
can be tried with --dry-run, and repeating one has no further effect. \`errata failures\` names the
command that fixes each failure; docs/replay.md says more.`,
  commands: [quarantined, deadLetters],
};

export default resubmit;
