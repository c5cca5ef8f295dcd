/**
 * The results that workflows, activities, the model and the version log exchange while a batch is
 * edited: references, numbers and texts. Tensors stay in blobs.
 */
import type { CorrectionRevision, FactRevision, KafkaPosition } from './correction.ts';
import type { HyperParameters } from './hyper-parameters.ts';
import type { Outcome } from './outcome.ts';

/** A content-addressed blob of the version log. */
export interface BlobReference {
  sha256: string;
  bytes: number;
  /** The batch that staged the blob; absent from blobs of versions. */
  staged?: string;
}

/** HEAD as a batch saw it. Version 0 with a null hash is the empty log (the base model). */
export interface HeadReference {
  version: number;
  hash: string | null;
}

/**
 * The reason a correction was not applied: a code for programs, a text for people, and measures.
 */
export interface Refusal {
  id: string;
  code:
    | 'subject-not-in-prompt'
    | 'empty-target'
    | 'target-too-long'
    | 'prompt-too-long'
    | 'not-finite'
    | 'singular-update'
    | 'contradiction'
    | 'not-effective'
    | 'does-not-generalise'
    | 'harms-neighbours'
    | 'harms-earlier-corrections'
    | 'harms-ordinary-text'
    | 'norm-exceeded'
    | 'invalid';
  reason: string;
  measured: Record<string, number | string>;
}

/** A committed correction that leaves the hook. */
export interface Removal {
  correctionId: string;
  factKey: string;
  /** `contradicted`: another correction with the same time differs, so neither holds. */
  because: 'superseded' | 'retracted' | 'reverted' | 'contradicted';
  /** The id of the revision that causes the removal. */
  by: string;
  /** The record of the removed correction. */
  position: KafkaPosition;
}

export interface BatchPlan {
  head: HeadReference;
  /**
   * The version that an earlier run of this batch made. Then only the announcement is left:
   * `edits`, `removals` and `withdrawals` are empty, and `settled` has every revision's outcome.
   */
  committed: { version: number; hash: string } | null;
  /** The corrections to write, at most one per fact. */
  edits: CorrectionRevision[];
  removals: Removal[];
  /** Revisions that only cause removals: retractions and contradicting corrections. */
  withdrawals: FactRevision[];
  /**
   * Decided without an edit: duplicates, superseded revisions, contradictions, needless
   * retractions.
   */
  settled: Outcome[];
}

/** The inputs of a search for targets. On the same machine they give the same bits again. */
export interface TargetSearch {
  /** The version that the search started from. */
  head: HeadReference;
  /** Their order and number decide how sums are rounded. */
  edits: CorrectionRevision[];
  /** As planned, including those whose successor was refused later. */
  removals: Removal[];
}

export interface TargetShard {
  targets: BlobReference | null;
  /** The TargetSearch as canonical JSON. */
  search?: BlobReference;
  accepted: { id: string; loss: number; steps: number }[];
  refused: Refusal[];
  seconds: number;
}

export interface StagedUpdate {
  /** Pairs added, one row per correction in `rows`; null if the batch only removes corrections. */
  pairs: BlobReference | null;
  rows: string[];
  /** The searches that found the targets of `rows`. */
  searches?: BlobReference[];
  refused: Refusal[];
  /** Per edited layer: |W_h - W0|_F / |W0|_F of the staged hook, and the gate's threshold. */
  layers: { layer: number; editNorm: number; threshold: number }[];
  madeWith: Provenance;
  seconds: number;
}

export interface Provenance {
  base: { name: string; sha256: string; architecture: string };
  keyStatistics: { sha256: string; tokens: number; source: string };
  parameters: HyperParameters;
  software: { errata: string; tensorflow: string; node: string; device: string };
}

/**
 * Returns the removals of a batch that writes the corrections `written`. A correction is not
 * superseded if its successor was refused.
 */
export function removalsInForce(
  removals: readonly Removal[],
  written: Iterable<string>,
): Removal[] {
  const ids = new Set(written);
  return removals.filter((removal) => removal.because !== 'superseded' || ids.has(removal.by));
}

/** Shares are fractions in [0, 1], or null if nothing could be measured. */
export interface ProbeScores {
  efficacy: number | null;
  efficacyGreedy: number | null;
  generalisation: number | null;
  locality: number | null;
  retention: number | null;
  /** Perplexity on the canary text divided by the base model's. */
  canaryRatio: number;
  /** Largest over the edited layers. */
  editNorm: number;
}

export interface CorrectionProbe {
  id: string;
  answerBefore: string;
  answerAfter: string;
  /** Mean log-probability per token of the target. */
  targetLogProbability: number;
  effective: boolean;
  paraphrases: { prompt: string; answerBefore: string; answerAfter: string; holds: boolean }[];
  neighbours: { prompt: string; answerBefore: string; answerAfter: string; unchanged: boolean }[];
}

export interface Verdict {
  pass: boolean;
  /** Failed thresholds, as text with numbers. */
  reasons: string[];
  /** Corrections that fail alone. The others may pass without them. */
  failing: Refusal[];
}

export interface ProbeReport {
  before: ProbeScores;
  after: ProbeScores;
  verdict: Verdict;
  /** A blob with `CorrectionProbe[]` as JSON. */
  details: BlobReference;
  seconds: number;
}

export type CommitResult =
  | { kind: 'committed'; version: number; hash: string; already: boolean }
  | { kind: 'head-moved'; head: HeadReference };
