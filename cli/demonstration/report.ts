/** Events of a running demonstration, and its final report. */
import type { FactCorrection } from '../../schemas/correction.ts';
import type { OutcomeStatus } from '../../schemas/outcome.ts';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { RecordOutcome } from '../session/outcome-watch.ts';

export type DemonstrationEvent =
  | {
      kind: 'sent';
      what: 'corrections' | 'superseding' | 'retraction';
      records: number;
      topic: string;
    }
  | { kind: 'version'; entry: VersionEntry; secondsAfterSending: number }
  | { kind: 'outcome'; id: string; status: OutcomeStatus; reason: string | null }
  | { kind: 'dead-letter'; message: string }
  | { kind: 'decided'; decided: number; of: number }
  | { kind: 'asking'; asked: number; of: number };

/** One correction, in the version that made it and at the end of the stream. */
export interface CorrectionResult {
  correction: FactCorrection;
  fate: RecordOutcome;
  version: number | null;
  probe: CorrectionProbe | null;
  atTheEnd: string;
  holds: boolean;
  /** Set if a later revision of the same fact replaced the correction. */
  replaced: 'superseded' | 'retracted' | null;
}

export interface Check {
  what: string;
  passed: boolean;
  measured: string;
}

export interface DemonstrationReport {
  lineage: string;
  results: CorrectionResult[];
  tooLong: RecordOutcome;
  malformed: { what: string; fate: RecordOutcome }[];
  head: number;
  seconds: number;
  checks: Check[];
  passed: boolean;
}

/** The outcome of the retraction, and the base model's answer to the retracted prompt. */
export interface RetractionResult {
  fate: RecordOutcome;
  baseAnswer: string;
}
