/**
 * What crosses between workflows, activities, the model and the version log while a batch is
 * edited: references, numbers and texts. Tensors stay in blobs.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
  type KafkaPosition,
} from './correction.ts';

export type GateKind = 'subject' | 'sequence' | 'always';

/**
 * Everything that decides what an edit of a given model and batch becomes; stored in the version it
 * made.
 */
export interface HyperParameters {
  /** Edited blocks, ascending; the last is where targets are found. */
  layers: number[];
  /** Weight of the key statistics: A starts at `lambda * C0`. About F. */
  lambda: number;
  /** Added to the diagonal of A, in units of C0's mean diagonal. */
  ridge: number;
  stepsMax: number;
  learningRate: number;
  klFactor: number;
  weightDecay: number;
  /** Bound of |delta| / |h|. */
  clamp: number;
  /** A correction is finished when its loss falls below this. */
  lossTarget: number;
  /** Prefixed contexts beside the bare prompt. */
  contexts: number;
  /**
   * How many of them one optimiser step reads beside the bare prompt, drawn anew each step; with 0
   * the bare prompt and a context take turns.
   */
  contextsPerStep: number;
  targetTokensMax: number;
  gate: GateParameters;
  seed: number;
}

export interface GateParameters {
  kind: GateKind;
  /**
   * The map that an open gate applies: the subject's own, which needs the `subject` gate, or the
   * joint map of all corrections.
   */
  map: 'subject' | 'joint';
  /** Threshold of the gate's score; `sequence` lowers it by the paper's alpha rule. */
  floor: number;
}

/** Hyper-parameters that a user sets; the rest is the model's default. */
export type HyperParameterOverrides = Partial<Omit<HyperParameters, 'gate'>> & {
  gate?: Partial<GateParameters>;
  /** The model that they were found for; on another one they are refused. */
  fits?: ModelShape;
};

/** Shape of a model, in part: what is not named may be anything. */
export interface ModelShape {
  architecture?: 'llama' | 'gpt2' | 'gptj';
  layers?: number;
  residualWidth?: number;
  mlpWidth?: number;
  /** Least rows of the embedding: it tells families of one shape apart. */
  vocabularyMin?: number;
}

/** A content-addressed blob of the version log. */
export interface BlobReference {
  sha256: string;
  bytes: number;
  /** The batch that staged it; no version names a blob that has this. */
  staged?: string;
}

/** HEAD as a batch saw it; version 0 with a null hash is the empty log (the base model). */
export interface HeadReference {
  version: number;
  hash: string | null;
}

/**
 * Why a correction was not applied: a code that programs branch on, words, and what was measured.
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

/** A committed correction leaves the hook. */
export interface Removal {
  correctionId: string;
  factKey: string;
  /**
   * `contradicted`: another correction of the same time says otherwise, and neither is to be
   * believed.
   */
  because: 'superseded' | 'retracted' | 'reverted' | 'contradicted';
  /** The id of the revision that asked for it. */
  by: string;
  /** Of the correction that leaves. */
  position: KafkaPosition;
}

export type OutcomeStatus =
  'COMMITTED' | 'SUPERSEDED' | 'QUARANTINED' | 'RETRACTED' | 'DUPLICATE' | 'NOTHING_TO_RETRACT';

/** What became of one revision (correction-outcome.avsc). */
export interface Outcome {
  lineage: string;
  revisionId: string;
  factKey: string;
  status: OutcomeStatus;
  /** The version that carries the outcome; null where none was made. */
  version: number | null;
  reason: string | null;
  measured: Record<string, number | string>;
  position: KafkaPosition;
  batchId: string;
  decidedAt: number;
}

/** Who decided an outcome and when. */
export interface Decision {
  lineage: string;
  batchId: string;
  /** Milliseconds since 1970. */
  decidedAt: number;
}

/** The outcome of a revision; without a version, a reason and measures unless they are given. */
export function outcomeOf(
  revision: FactRevision,
  { lineage, batchId, decidedAt }: Decision,
  decided: Pick<Outcome, 'status'> & Partial<Pick<Outcome, 'version' | 'reason' | 'measured'>>,
): Outcome {
  return {
    lineage,
    revisionId: revisionId(revision),
    factKey: revision.factKey,
    version: null,
    reason: null,
    measured: {},
    position: revision.position,
    batchId,
    decidedAt,
    ...decided,
  };
}

/** The outcome of a committed correction that leaves the hook. */
export const STATUS_AFTER: Record<Removal['because'], OutcomeStatus> = {
  superseded: 'SUPERSEDED',
  retracted: 'RETRACTED',
  reverted: 'RETRACTED',
  contradicted: 'QUARANTINED',
};

export interface BatchPlan {
  head: HeadReference;
  /**
   * The version this batch already made, by an earlier run of the same batch. Then nothing is left
   * to do but to announce: `edits`, `removals` and `withdrawals` are empty and `settled` has an
   * outcome for every revision.
   */
  committed: { version: number; hash: string } | null;
  /** The corrections to be written, at most one per fact. */
  edits: CorrectionRevision[];
  removals: Removal[];
  /**
   * Revisions that only take something out, by `removals`: retractions, and corrections that
   * contradict a committed one of their time.
   */
  withdrawals: FactRevision[];
  /** Decided without an edit: duplicates, superseded, contradictions, nothing to retract. */
  settled: Outcome[];
}

/**
 * All that a search for targets was asked, so that it can be run again: to the last bit on the same
 * machine.
 */
export interface TargetSearch {
  /** The version on top of which it searched. */
  head: HeadReference;
  /** In this order; what is searched together decides how sums are rounded. */
  edits: CorrectionRevision[];
  /** As planned, those included whose successor was refused later. */
  removals: Removal[];
}

export interface TargetShard {
  targets: BlobReference | null;
  /** The TargetSearch as canonical JSON; results of before it was kept have none. */
  search?: BlobReference;
  accepted: { id: string; loss: number; steps: number }[];
  refused: Refusal[];
  seconds: number;
}

export interface StagedUpdate {
  /** Pairs added, one row per correction in `rows`; null when the batch only removes. */
  pairs: BlobReference | null;
  rows: string[];
  /** The searches that found the targets of `rows`. */
  searches?: BlobReference[];
  refused: Refusal[];
  /** Per edited layer: |W_h - W0|_F / |W0|_F of the staged hook, and the gate's threshold. */
  layers: { layer: number; editNorm: number; threshold: number }[];
  /** Written into the version, which thereby says what it was made with. */
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
 * The removals that a batch carries out when it writes the corrections `written`: a correction that
 * was to be superseded stays when its successor was refused.
 */
export function removalsInForce(
  removals: readonly Removal[],
  written: Iterable<string>,
): Removal[] {
  const ids = new Set(written);
  return removals.filter((removal) => removal.because !== 'superseded' || ids.has(removal.by));
}

/** Shares are fractions in [0, 1]; null where there was nothing to measure. */
export interface ProbeScores {
  efficacy: number | null;
  efficacyGreedy: number | null;
  generalisation: number | null;
  locality: number | null;
  retention: number | null;
  /** Perplexity on the canary text over the base model's. */
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
  /** Failed thresholds, in words with numbers. */
  reasons: string[];
  /** Corrections that fail by themselves; the rest may pass without them. */
  failing: Refusal[];
}

export interface ProbeReport {
  before: ProbeScores;
  after: ProbeScores;
  verdict: Verdict;
  /** CorrectionProbe[] as JSON. */
  details: BlobReference;
  seconds: number;
}

export type CommitResult =
  | { kind: 'committed'; version: number; hash: string; already: boolean }
  | { kind: 'head-moved'; head: HeadReference };
