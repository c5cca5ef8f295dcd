/** An operator's settings of a lineage. infra/config names the environment variables. */

export interface BatchSettings {
  /** A batch starts when this many corrections wait. */
  batchEditsMax: number;
  /** A batch also starts when the oldest correction has waited this long. */
  batchWaitMs: number;
  /** Beyond either bound the lineage refuses corrections and ingest pauses the partition. */
  bufferEditsMax: number;
  bufferBytesMax: number;
  /** Corrections per compute-targets activity. */
  shardEditsMax: number;
}

/** The thresholds of the verdict. Shares are fractions in [0, 1]. */
export interface VerdictSettings {
  /**
   * Quarantines a correction whose target is not the greedy answer to its own prompt, or which
   * changes an earlier answer about its subject.
   */
  requireEffective: boolean;
  generalisationMin: number;
  localityMin: number;
  retentionMin: number;
  canaryRatioMax: number;
  editNormMax: number;
  /** Earlier corrections probed with each batch. */
  retentionSample: number;
}

/** Handles failed and refused batches without an operator. */
export interface FailureSettings {
  /** Attempts of a batch's workflow. */
  batchAttemptsMax: number;
  /** Wait before the second attempt; doubled before each further one. */
  retryWaitMs: number;
  /**
   * Times that a batch and its parts may be staged and probed. With 0 or 1 a refused batch is
   * quarantined whole instead of being halved.
   */
  editAttemptsMax: number;
  /**
   * After the last attempt, either freezes the lineage and keeps the batch, or quarantines the
   * batch.
   */
  whenUsedUp: 'freeze' | 'quarantine';
  /**
   * The lineage freezes after a batch with more quarantined corrections than this; 0 means never.
   */
  quarantinedMax: number;
  /** Sends failures, quarantines and freezes to the workflow worker's webhook. */
  alert: boolean;
}

export interface LineageSettings {
  batch: BatchSettings;
  verdict: VerdictSettings;
  failures: FailureSettings;
  /** Workflows set search attributes. An unregistered attribute would block them permanently. */
  findable: boolean;
}

/** Separate good batches from bad ones; measured in bench/results/README.md. */
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
