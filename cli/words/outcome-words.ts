/** How outcomes read on a terminal. */
import type { OutcomeStatus } from '../../schemas/editing.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Fate } from '../session/outcome-watch.ts';
import type { Colours } from '../terminal/output.ts';

/** Whether the submitter got what was asked for. */
export function isGood(fate: Fate): boolean {
  return fate.kind === 'outcome' && fate.outcome.status !== 'QUARANTINED';
}

export function fateInWords(fate: Fate, colours: Colours): string {
  if (fate.kind === 'dead-letter')
    return colours.red(`dead letter: ${onOneLine(fate.message, REASON_CHARACTERS_MAX)}`);
  const { status, version, reason } = fate.outcome;
  const text = `${STATUS_WORDS[status]}${version === null ? '' : ` version ${version}`}${reason === null ? '' : `: ${onOneLine(reason, REASON_CHARACTERS_MAX)}`}`;
  return STATUS_COLOURS[status](colours)(text);
}

const REASON_CHARACTERS_MAX = 2_000;

const STATUS_WORDS: Record<OutcomeStatus, string> = {
  COMMITTED: 'committed in',
  SUPERSEDED: 'superseded in',
  QUARANTINED: 'quarantined',
  RETRACTED: 'retracted in',
  DUPLICATE: 'seen before',
  NOTHING_TO_RETRACT: 'nothing to retract',
};

const STATUS_COLOURS: Record<OutcomeStatus, (colours: Colours) => (text: string) => string> = {
  COMMITTED: (colours) => colours.green,
  SUPERSEDED: (colours) => colours.yellow,
  QUARANTINED: (colours) => colours.red,
  RETRACTED: (colours) => colours.cyan,
  DUPLICATE: (colours) => colours.dim,
  NOTHING_TO_RETRACT: (colours) => colours.dim,
};
