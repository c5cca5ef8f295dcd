/** Checks whether the demonstration worked. */
import type { RecordOutcome } from '../session/outcome-watch.ts';
import { statusText } from '../terminal/text.ts';
import type { Check, DemonstrationReport, RetractionResult } from './report.ts';

/** Minimum share of corrections that hold at the end. A small model sometimes loses one. */
const HOLD_SHARE_MIN = 0.95;
/** Minimum share of neighbours, by the probes of the version that made the correction. */
const NEIGHBOURS_SHARE_MIN = 0.9;
/** Minimum share of paraphrases, by the same probes. */
const PARAPHRASES_SHARE_MIN = 0.5;

export function checksOf(
  report: Omit<DemonstrationReport, 'checks' | 'passed'>,
  retraction: RetractionResult,
): Check[] {
  const { results, malformed, tooLong } = report;
  const current = results.filter(({ replaced }) => replaced === null);
  const superseded = results.find(({ replaced }) => replaced === 'superseded');
  const retracted = results.find(({ replaced }) => replaced === 'retracted');
  const superseding = results.at(-1);
  const paraphrases = results.flatMap(({ probe }) => probe?.paraphrases ?? []);
  const neighbours = results.flatMap(({ probe }) => probe?.neighbours ?? []);
  return [
    countCheck(
      'every sound correction was committed',
      results.map(({ fate }) => hasStatus(fate, 'COMMITTED')),
    ),
    countCheck(
      'every malformed record is in the dead-letter topic, with its reason',
      malformed.map(({ fate }) => fate.kind === 'dead-letter'),
    ),
    {
      what: 'a target that is too long was quarantined, with its reason',
      passed: hasStatus(tooLong, 'QUARANTINED'),
      measured: recordText(tooLong),
    },
    countCheck(
      'the newest version gives the corrected answers',
      current.map(({ holds }) => holds),
      HOLD_SHARE_MIN,
    ),
    countCheck(
      'paraphrases give the new answer',
      paraphrases.map(({ holds }) => holds),
      PARAPHRASES_SHARE_MIN,
    ),
    countCheck(
      'the answers of neighbours are unchanged',
      neighbours.map(({ unchanged }) => unchanged),
      NEIGHBOURS_SHARE_MIN,
    ),
    {
      what: 'the later correction superseded the earlier one',
      passed: superseding?.holds === true && superseded?.holds === false,
      measured: superseding === undefined ? 'absent' : `answers "${superseding.atTheEnd.trim()}"`,
    },
    {
      what: "the retraction brought the base model's answer back",
      passed:
        hasStatus(retraction.fate, 'RETRACTED') && retracted?.atTheEnd === retraction.baseAnswer,
      measured: `${recordText(retraction.fate)}, answers "${retracted?.atTheEnd.trim() ?? ''}"`,
    },
  ];
}

function hasStatus(
  record: RecordOutcome,
  status: 'COMMITTED' | 'QUARANTINED' | 'RETRACTED',
): boolean {
  return record.kind === 'outcome' && record.outcome.status === status;
}

/** Fails if there are no values to count. */
function countCheck(what: string, values: readonly boolean[], shareMin = 1): Check {
  const count = values.filter(Boolean).length;
  const of = values.length;
  const least = shareMin < 1 ? ` (at least ${Math.ceil(shareMin * of)})` : '';
  return { what, passed: of > 0 && count / of >= shareMin, measured: `${count} of ${of}${least}` };
}

function recordText(record: RecordOutcome): string {
  return record.kind === 'dead-letter' ? 'dead letter' : statusText(record.outcome.status);
}
