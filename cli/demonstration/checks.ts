/** Whether the demonstration worked: what must be so, and what was measured. */
import type { CorrectionResult, DemonstrationReport } from './run.ts';
import type { Fate } from '../session/outcome-watch.ts';

export interface Check {
  what: string;
  passed: boolean;
  measured: string;
}

/**
 * Of the corrections that should hold at the end of the stream. A small model loses one now and
 * then.
 */
export const HOLD_SHARE_MIN = 0.95;
/** Of the neighbourhood prompts, by the probes of the version that made the correction. */
export const NEIGHBOURS_SHARE_MIN = 0.9;
/** Of the paraphrases, likewise. */
export const PARAPHRASES_SHARE_MIN = 0.5;

/**
 * What became of the retraction, and what the base model answers to the retracted correction's
 * prompt.
 */
export interface RetractionResult {
  fate: Fate;
  baseAnswer: string;
}

export function checksOf(
  report: Omit<DemonstrationReport, 'checks' | 'passed'>,
  retraction: RetractionResult,
): Check[] {
  const { results } = report;
  const current = results.filter((result) => result.replaced === null);
  const superseded = results.find((result) => result.replaced === 'superseded');
  const retracted = results.find((result) => result.replaced === 'retracted');
  const superseding = results.at(-1);
  const paraphrases = results.flatMap((result) => result.probe?.paraphrases ?? []);
  const neighbours = results.flatMap((result) => result.probe?.neighbours ?? []);
  const deadLetters = report.malformed.filter(({ fate }) => fate.kind === 'dead-letter');
  return [
    countCheck(
      'every sound correction was committed',
      results.filter(isCommitted).length,
      results.length,
      1,
    ),
    countCheck(
      'every malformed record is in the dead-letter topic, with its reason',
      deadLetters.length,
      report.malformed.length,
      1,
    ),
    {
      what: 'a target that is too long was quarantined, with its reason',
      passed: report.tooLong.kind === 'outcome' && report.tooLong.outcome.status === 'QUARANTINED',
      measured: fateWord(report.tooLong),
    },
    countCheck(
      'asked at the end, the model gives the corrected answers',
      current.filter((result) => result.holds).length,
      current.length,
      HOLD_SHARE_MIN,
    ),
    countCheck(
      'paraphrases give the new answer',
      paraphrases.filter((probe) => probe.holds).length,
      paraphrases.length,
      PARAPHRASES_SHARE_MIN,
    ),
    countCheck(
      "neighbours' answers stayed",
      neighbours.filter((probe) => probe.unchanged).length,
      neighbours.length,
      NEIGHBOURS_SHARE_MIN,
    ),
    {
      what: 'the later correction superseded the earlier one',
      passed:
        superseding !== undefined &&
        superseding.holds &&
        superseded !== undefined &&
        !superseded.holds,
      measured: superseding === undefined ? 'absent' : `answers "${superseding.atTheEnd.trim()}"`,
    },
    {
      what: "the retraction brought the base model's answer back",
      passed:
        retraction.fate.kind === 'outcome' &&
        retraction.fate.outcome.status === 'RETRACTED' &&
        retracted?.atTheEnd === retraction.baseAnswer,
      measured: `${fateWord(retraction.fate)}, answers "${retracted?.atTheEnd.trim() ?? ''}"`,
    },
  ];
}

function isCommitted(result: CorrectionResult): boolean {
  return result.fate.kind === 'outcome' && result.fate.outcome.status === 'COMMITTED';
}

/** Nothing to count is no success. */
function countCheck(what: string, count: number, of: number, shareMin: number): Check {
  return {
    what,
    passed: of > 0 && count / of >= shareMin,
    measured: `${count} of ${of}${shareMin < 1 ? ` (at least ${Math.ceil(shareMin * of)})` : ''}`,
  };
}

function fateWord(fate: Fate): string {
  return fate.kind === 'dead-letter'
    ? 'dead letter'
    : fate.outcome.status.toLowerCase().replaceAll('_', ' ');
}
