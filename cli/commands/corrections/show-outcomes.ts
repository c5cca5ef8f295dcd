/** Waits for the outcomes of sent records, and shows each when it is decided. */
import type { OutcomeStatus } from '../../../schemas/outcome.ts';
import { onOneLine } from '../../../schemas/encoding/excerpt.ts';
import { EXIT, type ExitCode } from '../../session/command.ts';
import type { OutcomeWatch, RecordOutcome, SentRecord } from '../../session/outcome-watch.ts';
import type { Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { cyan, dim, green, red, yellow } from '../../terminal/colours.ts';
import { mark, shortened } from '../../terminal/text.ts';

/** A sent record with its description. */
export type DescribedRecord = SentRecord & { what: string };

/** Returns exit code 1 if any record was not accepted. */
export async function showOutcomes(
  output: Output,
  watch: OutcomeWatch,
  sent: readonly DescribedRecord[],
  timeoutSeconds: number,
): Promise<ExitCode> {
  const columns = output.columns - 34;
  const wait = (at: (done: number) => void) => {
    let decided = 0;
    return watch.outcomesOf(sent, timeoutSeconds, (outcome, i) => {
      at((decided += 1));
      const { id, position, what } = sent[i]!;
      output.item({ id, position, ...outcome }, () => {
        const label = shortened(what, columns).padEnd(columns);
        return `${mark(isGood(outcome))} ${label} ${outcomeText(outcome)}`;
      });
    });
  };
  const outcomes = await whileWaiting(output, 'corrections decided', wait, sent.length);
  return outcomes.every(isGood) ? EXIT.ok : EXIT.failure;
}

/** Tells whether the submitter got the requested result. */
export function isGood(outcome: RecordOutcome): boolean {
  return outcome.kind === 'outcome' && outcome.outcome.status !== 'QUARANTINED';
}

export function outcomeText(record: RecordOutcome): string {
  if (record.kind === 'dead-letter')
    return red(`dead letter: ${onOneLine(record.message, REASON_CHARACTERS_MAX)}`);
  const { status, version, reason } = record.outcome;
  const [text, colour] = STATUSES[status];
  const where = version === null ? '' : ` version ${version}`;
  const why = reason === null ? '' : `: ${onOneLine(reason, REASON_CHARACTERS_MAX)}`;
  return colour(`${text}${where}${why}`);
}

const REASON_CHARACTERS_MAX = 2_000;

const STATUSES: Record<OutcomeStatus, [text: string, colour: (text: string) => string]> = {
  COMMITTED: ['committed in', green],
  SUPERSEDED: ['superseded in', yellow],
  QUARANTINED: ['quarantined', red],
  RETRACTED: ['retracted in', cyan],
  DUPLICATE: ['seen before', dim],
  NOTHING_TO_RETRACT: ['nothing to retract', dim],
};
