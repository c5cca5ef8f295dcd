/** Waits for the outcomes of records that were sent, and shows each as it is decided. */
import { EXIT, type ExitCode } from '../../session/command.ts';
import type { OutcomeWatch, SentRecord } from '../../session/outcome-watch.ts';
import { shortened, type Output } from '../../terminal/output.ts';
import { whileWaiting } from '../../terminal/status-line.ts';
import { isGood, outcomeText } from '../../words/outcome-text.ts';

/** A record that was sent, and what it says. */
export type DescribedRecord = SentRecord & { what: string };

/** Exits with 1 if any record was not accepted. */
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
        return `${output.mark(isGood(outcome))} ${label} ${outcomeText(outcome, output.colours)}`;
      });
    });
  };
  const outcomes = await whileWaiting(output, 'corrections decided', wait, sent.length);
  return outcomes.every(isGood) ? EXIT.ok : EXIT.failure;
}
