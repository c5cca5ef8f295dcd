/** How the outcome of a record reads on a terminal. */
import type { OutcomeStatus } from '../../schemas/editing.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { RecordOutcome } from '../session/outcome-watch.ts';
import type { Colours } from '../terminal/output.ts';

/** Whether the submitter got what was asked for. */
export function isGood(outcome: RecordOutcome): boolean {
  return outcome.kind === 'outcome' && outcome.outcome.status !== 'QUARANTINED';
}

export function outcomeText(record: RecordOutcome, colours: Colours): string {
  if (record.kind === 'dead-letter')
    return colours.red(`dead letter: ${onOneLine(record.message, REASON_CHARACTERS_MAX)}`);
  const { status, version, reason } = record.outcome;
  const { text, colour } = STATUSES[status];
  const where = version === null ? '' : ` version ${version}`;
  const why = reason === null ? '' : `: ${onOneLine(reason, REASON_CHARACTERS_MAX)}`;
  return colours[colour](`${text}${where}${why}`);
}

const REASON_CHARACTERS_MAX = 2_000;

const STATUSES: Record<
  OutcomeStatus,
  { text: string; colour: 'green' | 'yellow' | 'red' | 'cyan' | 'dim' }
> = {
  COMMITTED: { text: 'committed in', colour: 'green' },
  SUPERSEDED: { text: 'superseded in', colour: 'yellow' },
  QUARANTINED: { text: 'quarantined', colour: 'red' },
  RETRACTED: { text: 'retracted in', colour: 'cyan' },
  DUPLICATE: { text: 'seen before', colour: 'dim' },
  NOTHING_TO_RETRACT: { text: 'nothing to retract', colour: 'dim' },
};
