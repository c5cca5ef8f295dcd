/**
 * What an operator sets per lineage; the environment's names and defaults are in
 * infra/config/configuration.ts.
 */

export interface BatchSettings {
  /** A batch starts when so many corrections wait. */
  batchEditsMax: number;
  /** Or when the oldest has waited so long. */
  batchWaitMs: number;
  /** Past either bound the lineage refuses and ingest pauses the partition. */
  bufferEditsMax: number;
  bufferBytesMax: number;
  /** Corrections per compute-targets activity. */
  shardEditsMax: number;
}

/** The thresholds of the verdict. Shares are fractions in [0, 1]. */
export interface VerdictSettings {
  /**
   * Every committed correction must be the greedy answer to its own prompt, and leave the earlier
   * ones about its subject theirs; others are quarantined.
   */
  requireEffective: boolean;
  generalisationMin: number;
  localityMin: number;
  retentionMin: number;
  canaryRatioMax: number;
  editNormMax: number;
  /** Earlier corrections asked again per batch. */
  retentionSample: number;
}

/** What is done, with nobody there, about a batch that fails and one that fails its verdict. */
export interface FailureSettings {
  /** Times that a batch's workflow is tried. */
  batchAttemptsMax: number;
  /** Before the second try; before the third twice that, and so on. */
  retryWaitMs: number;
  /**
   * Times that a batch and the parts of it may be staged and probed; 0 or 1: it is not halved, all
   * of it is quarantined together.
   */
  editAttemptsMax: number;
  /**
   * When the tries are used up: keep the batch and freeze the lineage, or quarantine its revisions
   * and go on.
   */
  whenUsedUp: 'freeze' | 'quarantine';
  /** The lineage freezes after a batch of which more are quarantined; 0: never. */
  quarantinedMax: number;
  /** Whether failed, given-up and frozen batches are told to the webhook of the workflow worker. */
  alert: boolean;
}

export interface LineageSettings {
  batch: BatchSettings;
  verdict: VerdictSettings;
  failures: FailureSettings;
  /**
   * Whether workflows carry search attributes: one that is not registered in Temporal's namespace
   * would stop a workflow for good.
   */
  findable: boolean;
}

/**
 * The verdict's thresholds lie between what good and bad batches were measured to reach:
 * bench/results/README.md.
 */
export const DEFAULT_LINEAGE_SETTINGS: LineageSettings = {
  batch: {
    batchEditsMax: 10,
    batchWaitMs: 2_000,
    bufferEditsMax: 1_000,
    bufferBytesMax: 1_000_000,
    shardEditsMax: 30,
  },
  verdict: {
    requireEffective: true,
    generalisationMin: 0.6,
    localityMin: 0.8,
    retentionMin: 0.85,
    canaryRatioMax: 1.01,
    editNormMax: 0.6,
    retentionSample: 8,
  },
  failures: {
    batchAttemptsMax: 3,
    retryWaitMs: 2_000,
    editAttemptsMax: 60,
    whenUsedUp: 'freeze',
    quarantinedMax: 0,
    alert: true,
  },
  findable: false,
};
