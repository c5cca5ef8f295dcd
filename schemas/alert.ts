/**
 * What an unattended lineage tells whoever looks after it: the body of a POST to the webhook of the
 * workflow worker.
 */

export interface Alert {
  /** The same each time that it is told: a receiver drops doubles by it. */
  id: string;
  /**
   * `batch-failed`: a batch's workflow failed. `quarantined`: a batch was given up and its
   * revisions quarantined. `frozen`: no batch starts until an operator resumes the lineage.
   */
  kind: 'batch-failed' | 'quarantined' | 'frozen';
  lineage: string;
  reason: string;
  batchId: string;
  workflowId: string;
  /** Milliseconds since 1970. */
  at: number;
}
